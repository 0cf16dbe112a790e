"""Which case a tile comes from: names of BCSS-WSSS, LUAD-HistoSeg, the phantom and others."""

import pytest

from lpd.data.check.cases import case_of, patient_of


@pytest.mark.parametrize(
    ("name", "case"),
    [
        ("TCGA-A1-A0SK-DX1_xmin45749_ymin25055_MPP-0.2500+0[1101].png", "TCGA-A1-A0SK-DX1"),
        ("TCGA-A1-A0SK-DX1_xmin45749_ymin25055_MPP-0.2500+17.png", "TCGA-A1-A0SK-DX1"),
        ("LUAD-T00_x1_y77[110].png", "LUAD-T00"),
        ("OC-001-TCGA-4A-A93X-kidney_x800_y600[11].PNG", "OC-001-TCGA-4A-A93X-kidney"),
        ("phantom-train07_x128_y64_MPP-1.0000[1000].png", "phantom-train07"),
        ("slide-x0-y0[1001].png", "slide"),
        ("a_x1_b_x2_y3.png", "a_x1_b"),
        ("387709-16984-60168-[1 0 0 1].png", "387709"),
        ("1-2-3-4.png", "1-2"),
        ("B7_0_224", "B7"),
        ("v0.png", None),
        ("tile-1-000123[10].png", None),
        ("x10_y20[10].png", None),
        ("[10].png", None),
        ("", None),
    ],
)
def test_case_is_what_stands_before_the_coordinates(name, case):
    assert case_of(name) == case


@pytest.mark.parametrize(
    ("case", "patient"),
    [
        ("TCGA-A1-A0SK-DX1", "TCGA-A1-A0SK"),
        ("OC-001-TCGA-4A-A93X-kidney", "TCGA-4A-A93X"),
        ("LUAD-T00", "LUAD-T00"),
        ("TCGA-A1-A0SKX", "TCGA-A1-A0SKX"),
    ],
)
def test_patient_of_a_tcga_case(case, patient):
    assert patient_of(case) == patient

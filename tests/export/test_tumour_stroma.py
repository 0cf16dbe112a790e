"""The tumour/stroma ratio: which classes are taken for what, and when there is none."""

from __future__ import annotations

import pytest

from lpd.classes import BCSS, ClassScheme, TissueClass
from lpd.export.tumour_stroma import in_words, tumour_stroma, why_no_ratio


def scheme(*classes: tuple[str, str, str]) -> ClassScheme:
    return ClassScheme(tuple(TissueClass(code, name, (1, 2, 3), qupath) for code, name, qupath in classes))


def test_ratio_and_share() -> None:
    found = tumour_stroma(BCSS, [3.0, 2.0, 7.0, 9.0])
    assert found is not None
    assert (found.ratio, found.stroma_percent) == (1.5, 40.0)
    assert in_words(found) == "Tumour to Stroma 1.50 : 1 (stroma is 40.0 % of both)"


@pytest.mark.parametrize(
    ("classes", "tumour"),
    [
        ((("A", "tumor", ""), ("B", "Stroma", "")), ("tumor",)),
        ((("TUM", "Epithelium", ""), ("STR", "Rest", "")), ("Epithelium",)),
        ((("A", "Invasive", "Tumor"), ("C", "In situ", "Tumor"), ("B", "Stroma", "")), ("Invasive", "In situ")),
    ],
)
def test_classes_are_known_by_code_name_or_qupath_name(classes: tuple[tuple[str, str, str], ...], tumour: str) -> None:
    found = tumour_stroma(scheme(*classes), [1.0] * len(classes))
    assert found is not None
    assert found.tumour == tumour
    assert found.ratio == len(tumour)


def test_other_tissue_is_no_stroma() -> None:
    ocelot = scheme(("TUM", "Tumour", ""), ("OTH", "Other tissue", ""))
    assert tumour_stroma(ocelot, [1.0, 1.0]) is None
    assert why_no_ratio(ocelot) == "this model has no class called stroma"
    assert why_no_ratio(scheme(("TB", "Tumour bed", ""))) == "this model has no class called tumour or stroma"
    assert why_no_ratio(BCSS) == ""


def test_without_stroma_there_is_no_ratio() -> None:
    found = tumour_stroma(BCSS, [3.0, 0.0, 1.0, 1.0])
    assert found is not None
    assert (found.ratio, found.stroma_percent) == (None, 100 * 0 / 3)
    assert in_words(found) == "Tumour to Stroma: no ratio, as there is no stroma"
    nothing = tumour_stroma(BCSS, [0.0] * 4)
    assert nothing is not None
    assert nothing.stroma_percent is None

"""Which slides files, folders and lists come to, and where their results go."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lpd.errors import ConfigError
from lpd.inference.cohort import CohortSlide, result_folders, slides_of


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("b.svs", "a.tif", "notes.txt", ".hidden.svs", "C.NDPI"):
        (tmp_path / name).touch()
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "d.svs").touch()
    (tmp_path / "inner" / "odd.svs").mkdir()
    return tmp_path


def names(slides: tuple[CohortSlide, ...]) -> list[str]:
    return [slide.path.name for slide in slides]


def test_a_folder_means_the_slides_in_it(folder):
    assert names(slides_of([folder])) == ["C.NDPI", "a.tif", "b.svs"]
    assert names(slides_of([folder / "inner"])) == ["d.svs"]
    for name in ("a.mask.tif", "b.mask.png", "alone.mask.tif"):
        (folder / name).touch()
    assert names(slides_of([folder])) == ["C.NDPI", "a.tif", "alone.mask.tif", "b.svs"]  # two are ground truths


def test_each_slide_comes_once_however_it_is_named(folder):
    found = slides_of([folder / "b.svs", folder, folder / "inner" / ".." / "a.tif"])
    assert names(found) == ["b.svs", "C.NDPI", "a.tif"]
    assert all(slide.path.is_absolute() for slide in found)


def test_a_file_need_not_be_there_yet(tmp_path):
    assert slides_of([tmp_path / "x.svs"]) == (CohortSlide(tmp_path / "x.svs"),)


@pytest.mark.parametrize("column", ["slide", "wsi"])
def test_a_list_names_slides_beside_it_and_their_resolution(folder, column):
    (folder / "list.csv").write_text(
        f"\ufeff{column},mpp,patient\ninner/d.svs,0.25,p1\nb.svs,,p2\n\n{folder}/a.tif,1,p3\n"
    )
    found = slides_of([folder / "list.csv"])
    assert names(found) == ["d.svs", "b.svs", "a.tif"]
    assert [slide.mpp for slide in found] == [0.25, None, 1.0]
    assert found[0].path == folder / "inner" / "d.svs"


def test_spaces_and_capitals_in_the_first_line_do_no_harm(tmp_path):
    (tmp_path / "list.csv").write_text("Slide, MPP\na.svs, 0.25\n")
    assert [slide.mpp for slide in slides_of([tmp_path / "list.csv"])] == [0.25]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("patient\np1\n", "has no column 'slide'"),
        ("", "has no column 'slide'"),
        ("slide\n\n", "lists no slides"),
        ("slide,mpp\na.svs,fine\n", "has mpp 'fine': write µm per pixel"),
        ("slide,mpp\na.svs,0\n", "has mpp '0'"),
        ("slide;mpp\na.svs;1\n", "with commas between them"),
        ("slide,mpp\na.svs,1\na.svs,2\n", "a.svs is listed with mpp 1.0 and 2.0"),
    ],
)
def test_a_list_that_says_nothing_is_named(tmp_path, text, said):
    (tmp_path / "list.csv").write_text(text)
    with pytest.raises(ConfigError, match=said):
        slides_of([tmp_path / "list.csv"])


def test_what_cannot_be_read_is_named(tmp_path):
    (tmp_path / "list.csv").write_bytes(b"slide\n\xff.svs\n")
    with pytest.raises(ConfigError, match=r"list\.csv cannot be read as a list"):
        slides_of([tmp_path / "list.csv"])
    with pytest.raises(ConfigError, match=r"none\.csv cannot be read as a list"):
        slides_of([tmp_path / "none.csv"])
    (tmp_path / "empty" / "odd.svs").mkdir(parents=True)
    with pytest.raises(ConfigError, match="empty holds no slides"):
        slides_of([tmp_path / "empty"])


def test_folders_are_named_after_slides(tmp_path):
    one, other, third = (CohortSlide(tmp_path / n) for n in ("a.svs", "a.tif", "b.svs"))
    assert result_folders([one, other, third], tmp_path / "out") == {
        one: tmp_path / "out" / "a.svs",
        other: tmp_path / "out" / "a.tif",
        third: tmp_path / "out" / "b",
    }


@pytest.mark.skipif(os.name == "nt", reason="links need rights there")
def test_above_a_link_is_above_what_it_leads_to(tmp_path):
    (tmp_path / "disk" / "scans").mkdir(parents=True)
    (tmp_path / "here").mkdir()
    (tmp_path / "here" / "link").symlink_to(tmp_path / "disk" / "scans")
    (tmp_path / "disk" / "a.svs").touch()
    meant = tmp_path / "here" / "link" / ".." / "a.svs"
    assert slides_of([meant])[0].path == (tmp_path / "disk" / "a.svs").resolve()
    assert slides_of([tmp_path / "here" / "link" / "b.svs"])[0].path == tmp_path / "here" / "link" / "b.svs"

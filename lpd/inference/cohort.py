"""Cohort: which slides a person means by files, folders and lists, and where each one's result goes. Needs no torch."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from lpd.errors import ConfigError
from lpd.slide.endings import is_slide_path
from lpd.slide.resolution import given_resolution

#: Endings of lists, and the column that names the slides in them; the second is what TRIDENT writes.
LIST_SUFFIX, _COLUMNS = ".csv", ("slide", "wsi")


@dataclass(frozen=True)
class CohortSlide:
    """One slide.

    Attributes:
        path: the file.
        mpp: µm per level-0 pixel, where a list says it.
    """

    path: Path
    mpp: float | None = None


def slides_of(paths: Sequence[Path]) -> tuple[CohortSlide, ...]:
    """Slides by their files, folders that hold them (folders inside are not looked into) and lists; each once.

    A list is a CSV file with a column ``slide`` (or ``wsi``), paths counted from its own folder, and maybe ``mpp``.

    Raises:
        ConfigError: a folder holds no slide, or a list cannot be read, lacks the column or has a wrong mpp.
    """
    found: dict[Path, CohortSlide] = {}
    for path in paths:
        for slide in _listed(path) if path.suffix.lower() == LIST_SUFFIX else _in_folder(path):
            normal = plain_path(slide.path)
            first = found.setdefault(normal, CohortSlide(normal, slide.mpp))
            if slide.mpp not in (None, first.mpp):
                raise ConfigError(f"{normal.name} is listed with mpp {first.mpp} and {slide.mpp}: keep one of them")
    return tuple(found.values())


def plain_path(path: Path) -> Path:
    """The absolute path without ``..``; links stay where they may, as they may be what makes paths the same everywhere.

    What stands before a ``..`` is followed: behind a link, the folder above is not the one that the path names.
    """
    parts = path.absolute().parts
    last = max((i for i, part in enumerate(parts) if part == ".."), default=-1)
    return Path(*parts[: last + 1]).resolve().joinpath(*parts[last + 1 :]) if last > 0 else Path(*parts)


def result_folders(slides: Sequence[CohortSlide], out: Path) -> dict[CohortSlide, Path]:
    """Result folder of each slide: its name, with its ending where two names would be the same.

    Raises:
        ConfigError: two slides have one name, or a name can be no folder's.
    """
    stems = Counter(slide.path.stem for slide in slides)
    folders = {s: out / (s.path.stem if stems[s.path.stem] == 1 else s.path.name) for s in slides}
    for folder, count in Counter(folders.values()).items():
        if count > 1:
            raise ConfigError(f"{count} slides are named {folder.name}: segment them one at a time with another --out")
        if folder.name in ("", ".", ".."):
            raise ConfigError(f"a slide named {folder.name!r} cannot have a folder in {out}: rename it")
    return folders


def _in_folder(path: Path) -> list[CohortSlide]:
    if not path.is_dir():
        return [CohortSlide(path)]
    from lpd.slide.label_image import is_label_image  # brings in SciPy, which one slide's quick start does without

    try:
        files = (f for f in path.iterdir() if is_slide_path(f) and not f.name.startswith(".") and not f.is_dir())
        slides = sorted(files)
        stems = {file.stem for file in slides}
        slides = [file for file in slides if not is_label_image(file.name, stems)]
    except OSError as error:
        raise ConfigError(f"{path} cannot be looked into ({error.strerror or error}): check the folder") from error
    if not slides:
        raise ConfigError(f"{path} holds no slides: name a folder that does, or the slide files")
    return [CohortSlide(file) for file in slides]


def _listed(path: Path) -> list[CohortSlide]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file)
            reader.fieldnames = [name.strip().lower() for name in reader.fieldnames or ()]
            column = next((name for name in _COLUMNS if name in reader.fieldnames), None)
            if column is None:
                raise ConfigError(
                    f"{path} has no column 'slide': its first line must name the columns, with commas between them"
                )
            rows = [row for row in reader if (row[column] or "").strip()]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{path} cannot be read as a list of slides ({error}): check the file") from error
    if not rows:
        raise ConfigError(f"{path} lists no slides: write one a line below the column {column!r}")
    return [CohortSlide(path.parent / row[column].strip(), _mpp(path, row.get("mpp") or "")) for row in rows]


def _mpp(path: Path, text: str) -> float | None:
    if not text.strip():
        return None
    try:
        return given_resolution(float(text)).value
    except (ValueError, ConfigError) as error:
        raise ConfigError(f"{path} has mpp {text!r}: write µm per pixel, as 0.5, or leave it empty") from error

"""Endings of slide files, known without opening one or bringing in what opens them."""

from __future__ import annotations

from pathlib import Path

#: Endings of the files that OpenSlide 4 or Pillow open, in lower case.
SLIDE_SUFFIXES = frozenset(
    {".svs", ".tif", ".tiff", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".bif", ".svslide", ".dcm"}
    | {".png", ".jpg", ".jpeg"}
)


def is_slide_path(path: Path) -> bool:
    """True if the file's ending is one of a slide or image; the file itself is not looked at."""
    return path.suffix.lower() in SLIDE_SUFFIXES

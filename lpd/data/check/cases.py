"""Which case (slide, patient) a tile comes from, read from its file name alone."""

from __future__ import annotations

import re

_SUFFIX = re.compile(r"(?:\.png)?$", re.IGNORECASE)
_LABEL = re.compile(r"\[[^\[\]]*\]$")
# name_xmin45749_ymin25055_MPP-0.2500+0 (BCSS-WSSS), name_x0_y77, name-x0-y77
_NAMED_XY = re.compile(r"^(.+?)[-_ ]+x(?:min)?[-_=]?\d+[-_, ]+y(?:min)?[-_=]?\d+", re.IGNORECASE)
# 387709-16984-60168- (LUAD-HistoSeg, WSSS4LUAD): two numbers at the end are the corner
_BARE_XY = re.compile(r"^(.+?)[-_]\d+[-_]\d+[-_ ]*$")
_TCGA_PATIENT = re.compile(r"(?<![A-Za-z0-9])TCGA-[A-Z0-9]{2}-[A-Z0-9]{4}(?![A-Za-z0-9])")


def case_of(name: str) -> str | None:
    """The part of a tile's name before its coordinates, or None where no coordinates can be told.

    Coordinates are ``x``/``xmin`` and ``y``/``ymin`` with their numbers, or two bare numbers at the end if what stands
    before them has a digit too (``tile-1-000123`` is a running number and names no case).

    >>> case_of("TCGA-A1-A0SK-DX1_xmin45749_ymin25055_MPP-0.2500+0[1101].png")
    'TCGA-A1-A0SK-DX1'
    >>> case_of("387709-16984-60168-[1 0 0 1].png")
    '387709'
    """
    stem = _LABEL.sub("", _SUFFIX.sub("", name, count=1)).rstrip()
    if named := _NAMED_XY.match(stem):
        return named.group(1)
    bare = _BARE_XY.match(stem)
    return bare.group(1) if bare and any(c.isdigit() for c in bare.group(1)) else None


def patient_of(case: str) -> str:
    """The TCGA patient in a case's name (``TCGA-A1-A0SK`` of ``TCGA-A1-A0SK-DX1``), else the case itself."""
    found = _TCGA_PATIENT.search(case)
    return found.group() if found else case

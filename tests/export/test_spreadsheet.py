"""What people type is text in a spreadsheet."""

from __future__ import annotations

import pytest

from lpd.export.spreadsheet import text_cell


@pytest.mark.parametrize("text", ["=1+1", "+cmd|' /C calc'!A0", "-2+3", "@SUM(A1)", "\t=1", "\r=1"])
def test_what_begins_like_a_formula_is_marked_as_text(text: str) -> None:
    assert text_cell(text) == f"'{text}"


@pytest.mark.parametrize("text", ["", "solid growth", "a=b", "-0.25", "+3", "-1e-3", "−2", "'=1"])
def test_everything_else_stays_as_it_is(text: str) -> None:
    assert text_cell(text) == text

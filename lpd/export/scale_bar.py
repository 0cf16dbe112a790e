"""How long a scale bar is, and what is written over it."""

from __future__ import annotations

import math


def round_length(longest_um: float) -> float:
    """The largest of 1, 2, 5, 10, 20, 50, … µm that is not longer."""
    power = 10.0 ** math.floor(math.log10(longest_um))
    return float(max(step * power for step in (1, 2, 5) if step * power <= longest_um * (1 + 1e-9)))


def written(length_um: float) -> str:
    """A length for people."""
    return f"{length_um / 1000:g} mm" if length_um >= 1000 else f"{length_um:g} µm"

"""Trials: how ways to run a network did beside the reference, on one slide or, where slides are small, on several."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from lpd.config import Settings
from lpd.inference.settings import BackendName

#: The share of tissue that must fall into the same class as under the reference.
LEAST_AGREEMENT = 0.999
#: A way that is less than this much quicker is not worth other last digits.
_LEAST_SPEED = 1.1


@dataclass(frozen=True)
class Trial(Settings):
    """How one way did beside the reference.

    Attributes:
        backend: its name.
        speed: how many times as fast as the reference it was.
        agreement: share of the tissue that it put into the same class, 0–1.
        failure: why it could not be run, else empty.
        windows, slides: how many windows of how many slides that rests on; 0 where an lpd of old did not say.
        agreement_here: the same share on this slide alone, if others count too and it was tried on this one.
    """

    backend: BackendName
    speed: float
    agreement: float
    failure: str = ""
    windows: int = 0
    slides: int = 0
    agreement_here: float | None = None

    @property
    def passed(self) -> bool:
        agrees = min(self.agreement, 1.0 if self.agreement_here is None else self.agreement_here) >= LEAST_AGREEMENT
        return not self.failure and agrees and self.speed >= _LEAST_SPEED


@dataclass(frozen=True)
class Measured:
    """What a :class:`Trial` is made of; of several slides it adds up.

    Attributes:
        reference_s, seconds: what the reference and the other way took for the same windows.
        same, tissue: cells of tissue in the same class, and all.
        windows, slides: how many of them.
        failure: why it could not be run, else empty.
    """

    reference_s: float = 0.0
    seconds: float = 0.0
    same: int = 0
    tissue: int = 0
    windows: int = 0
    slides: int = 0
    failure: str = ""

    def __add__(self, other: Measured) -> Measured:
        return Measured(
            self.reference_s + other.reference_s,
            self.seconds + other.seconds,
            self.same + other.same,
            self.tissue + other.tissue,
            self.windows + other.windows,
            self.slides + other.slides,
            self.failure or other.failure,
        )

    @property
    def agreement(self) -> float:
        return self.same / max(1, self.tissue)

    def trial(self, name: BackendName, agreement_here: float | None = None) -> Trial:
        """The same as it is told to people."""
        speed = 0.0 if self.failure else self.reference_s / max(self.seconds, 1e-9)
        return Trial(name, speed, self.agreement, self.failure, self.windows, self.slides, agreement_here)


@dataclass
class Tried:
    """What slides have shown of one loaded network's ways.

    Attributes:
        begun: in which shapes, and under which settings that matter, a small slide has been segmented.
        ways: by such a shape, how each way did so far.
    """

    begun: set[Hashable] = field(default_factory=set)
    ways: dict[Hashable, dict[BackendName, Measured]] = field(default_factory=dict)

    def is_first(self, shape: Hashable) -> bool:
        """Whether no small slide has come in this shape before; from now on one has."""
        if shape in self.begun:
            return False
        self.begun.add(shape)
        return True

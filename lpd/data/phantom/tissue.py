"""One phantom case: layout, textures and stain together give the pixels and true kinds of any rectangle."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from lpd.data.phantom.layout import GLASS, Kinds, Layout
from lpd.data.phantom.textures import PERIOD, REACH, UNIT, Texture, make_textures

Image = npt.NDArray[np.uint8]
Scalar = TypeVar("Scalar", np.uint8, np.int8)

#: Optical density (natural logarithm) of one unit of haematoxylin and of eosin, red green blue; near the reference
#: that stain normalisation after Macenko et al. (2009) uses.
_HAEMATOXYLIN = (0.59, 0.75, 0.40)
_EOSIN = (0.18, 0.80, 0.50)

_SQUARE = 256  # side of the squares painted one by one: few of them hold many kinds


def case_seed(purpose: str, seed: int, number: int = 0) -> int:
    """Seed of one case; other purposes (slide, each split of a tile set) never share cases, whatever their seeds."""
    digest = hashlib.sha256(f"{purpose}/{seed}/{number}".encode()).digest()
    return int.from_bytes(digest[:6], "big")


@dataclass(frozen=True)
class Case:
    """What one slide is made of.

    Attributes:
        layout: the region map.
        textures: by kind, glass last.
        stain: (256, 256, 3) uint8 RGB by stored haematoxylin and eosin.
    """

    layout: Layout
    textures: tuple[Texture, ...]
    stain: Image

    @classmethod
    def make(cls, seed: int, size: tuple[int, int] | None = None) -> Case:
        """The case with this seed; ``size`` (width, height) in level-0 pixels gives a glass margin."""
        return cls(Layout(seed, size), make_textures(seed), _stain_table(np.random.default_rng([seed, 99])))

    def draw(self, x: int, y: int, width: int, height: int) -> tuple[Image, Kinds]:
        """Pixels (height, width, 3) RGB and kinds (height, width) of a level-0 rectangle, however it is cut up."""
        return self.paint(self.layout.kinds(x - REACH, y - REACH, width + 2 * REACH, height + 2 * REACH), x, y)

    def paint(self, around: Kinds, x: int, y: int) -> tuple[Image, Kinds]:
        """As :meth:`draw`, from the kinds of the rectangle and a border of REACH around it."""
        kinds = around[REACH:-REACH, REACH:-REACH]
        height, width = kinds.shape
        stains = np.empty((2, height, width), np.uint8)
        for top in range(0, height, _SQUARE):
            for left in range(0, width, _SQUARE):
                square = stains[:, top : top + _SQUARE, left : left + _SQUARE]
                border = around[top : top + _SQUARE + 2 * REACH, left : left + _SQUARE + 2 * REACH]
                self._fill(square, border, x + left, y + top)
        return self.stain[stains[0], stains[1]], kinds

    def _fill(self, stains: Image, around: Kinds, x: int, y: int) -> None:
        kinds = around[REACH:-REACH, REACH:-REACH]
        present = np.flatnonzero(np.bincount(around.ravel(), minlength=GLASS + 1))
        for kind in present:
            _lay(stains, self.textures[kind].base, kinds == kind, x, y)
        for kind in present:
            if kind != GLASS:
                _plant(stains, self.textures[kind], around == kind, x, y)


def _window(periodic: npt.NDArray[Scalar], x: int, y: int, width: int, height: int) -> npt.NDArray[Scalar]:
    """A rectangle of arrays (…, PERIOD, PERIOD) that repeat for ever."""
    x, y = x % PERIOD, y % PERIOD
    if x + width <= PERIOD and y + height <= PERIOD:
        return periodic[..., y : y + height, x : x + width]
    rows, columns = np.arange(y, y + height), np.arange(x, x + width)
    return periodic.take(rows, axis=-2, mode="wrap").take(columns, axis=-1, mode="wrap")


def _lay(stains: Image, base: Image, where: npt.NDArray[np.bool_], x: int, y: int) -> None:
    height, width = where.shape
    np.copyto(stains, _window(base, x, y, width, height), where=where)


def _plant(stains: Image, texture: Texture, around: npt.NDArray[np.bool_], x: int, y: int) -> None:
    """Draw the nuclei whose centres lie in ``around`` (the rectangle with a border of REACH): whole, never cut."""
    height, width = stains.shape[1:]
    cover = _window(texture.cover, x, y, width, height)
    rows, columns = np.nonzero(cover)
    to_x, to_y = (_window(t, x, y, width, height)[rows, columns] for t in texture.to_centre)
    inside = around[rows + to_y + REACH, columns + to_x + REACH]
    rows, columns = rows[inside], columns[inside]
    share = cover[rows, columns].astype(np.int32)
    for stain, nuclei in zip(stains, texture.nuclei, strict=True):
        old = stain[rows, columns].astype(np.int32)
        new = _window(nuclei, x, y, width, height)[rows, columns].astype(np.int32)
        stain[rows, columns] = (old + (new - old) * share // 255).astype(np.uint8)


def _stain_table(rng: np.random.Generator) -> Image:
    """Colour of every mixture under this slide's dyes, section thickness and lamp (Beer–Lambert)."""
    dyes = np.array([_HAEMATOXYLIN, _EOSIN]) * rng.uniform(0.85, 1.15, (2, 3)) * rng.uniform(0.7, 1.25, (2, 1))
    lamp = rng.uniform((240, 238, 238), (250, 248, 250))
    amount = np.arange(256) / UNIT
    density = amount[:, None, None] * dyes[0] + amount[None, :, None] * dyes[1]
    colors: Image = (lamp * np.exp(-density)).astype(np.uint8)
    return colors

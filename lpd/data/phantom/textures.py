"""Periodic tissue textures, one per kind: how much haematoxylin and eosin each pixel holds, with nuclei as objects."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

from lpd.data.phantom.layout import GLASS
from lpd.data.phantom.noise import Floats

#: Period of every texture in level-0 pixels, both ways.
PERIOD = 1024
#: Stored value of one unit of stain.
UNIT = 80
#: No nucleus reaches further than this from its centre, in pixels.
REACH = 20

Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Texture:
    """One kind of tissue; all arrays are (PERIOD, PERIOD) and wrap around.

    Attributes:
        base: (2, …) uint8 haematoxylin and eosin without nuclei, in 1 / UNIT.
        nuclei: (2, …) uint8 the same inside nuclei.
        cover: uint8, 0 outside nuclei to 255 inside.
        to_centre: (2, …) int8 (x, y) steps from a pixel to the centre of its nucleus, at most REACH.
    """

    base: Bytes
    nuclei: Bytes
    cover: Bytes
    to_centre: npt.NDArray[np.int8]


def make_textures(seed: int) -> tuple[Texture, ...]:
    """Textures of all kinds in kind order, glass last; same seed, same bytes."""
    makers: tuple[Callable[[_Canvas], Texture], ...] = (
        _solid_tumour,
        _glandular_tumour,
        _fibrous_stroma,
        _hyaline_stroma,
        _dense_lymphocytes,
        _plasma_cells,
        _ghost_necrosis,
        _granular_necrosis,
        _glass,
    )
    assert len(makers) == GLASS + 1
    return tuple(make(_Canvas(np.random.default_rng([seed, kind]))) for kind, make in enumerate(makers))


@dataclass(frozen=True)
class _Nuclei:
    """Per pixel: which nucleus is nearest, where its centre is, and how far out the pixel lies in it (1 = border)."""

    owner: npt.NDArray[np.int64]
    dx: Floats
    dy: Floats
    level: Floats


def _stride(sigma: float) -> int:
    """Distance of the random values that make noise of this smoothness: wide noise needs few."""
    return 1 << max(0, int(np.log2(sigma / 2)))


def _spread(values: npt.NDArray[np.float64], sigma: float) -> npt.NDArray[np.float64]:
    """Smooth (n, m) values along the first axis, and draw them out to (PERIOD, m)."""
    stride = _stride(sigma)
    if stride == 1:
        smooth: npt.NDArray[np.float64] = ndimage.gaussian_filter1d(values, sigma, axis=0, mode="wrap", truncate=3)
        return smooth
    distance = np.arange(PERIOD, dtype=np.float64)[:, None] - np.arange(0, PERIOD, stride)[None, :]
    distance = (distance + PERIOD / 2) % PERIOD - PERIOD / 2
    return np.exp(-0.5 * (distance / sigma) ** 2) @ values


class _Canvas:
    """Building blocks for one texture: smooth noise, scattered seeds, nuclei around seeds; all wrap around."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng

    def noise(self, sigma: float | tuple[float, float]) -> Floats:
        """Normal noise of mean 0 and deviation 1, smooth over ``sigma`` pixels ((down, across) if two)."""
        down, across = sigma if isinstance(sigma, tuple) else (sigma, sigma)
        white = self.rng.standard_normal((PERIOD // _stride(down), PERIOD // _stride(across)))
        smooth = _spread(_spread(white, down).T, across).T
        normal: Floats = ((smooth - smooth.mean()) / smooth.std()).astype(np.float32)
        return normal

    def scatter(self, spacing: float, jitter: float = 0.33) -> Floats:
        """(N, 2) seed points (x, y) on a shaken staggered grid about ``spacing`` pixels apart."""
        count = 2 * round(PERIOD / spacing / 2)
        row, column = np.mgrid[0:count, 0:count]
        points = np.stack([column + 0.5 * (row % 2), row], -1).reshape(-1, 2).astype(np.float32)
        points += self.rng.uniform(-jitter, jitter, points.shape).astype(np.float32)
        return (points * np.float32(PERIOD / count)) % PERIOD

    def nearest(self, seeds: Floats) -> tuple[npt.NDArray[np.int64], Floats, Floats]:
        """For each pixel the number of the nearest seed and the (x, y) offset of the pixel from it."""
        pad = 128
        size = PERIOD + 2 * pad
        owner = np.full((PERIOD, PERIOD), -1, np.int64)
        column, row = seeds[:, 0].astype(int), seeds[:, 1].astype(int)
        owner[row, column] = np.arange(len(seeds))
        padded = np.pad(owner, pad, mode="wrap")
        rows, columns = ndimage.distance_transform_edt(padded < 0, return_distances=False, return_indices=True)
        rows, columns = rows[pad : size - pad, pad : size - pad], columns[pad : size - pad, pad : size - pad]
        grid = np.arange(pad, pad + PERIOD)
        dy, dx = (grid[:, None] - rows).astype(np.float32), (grid[None, :] - columns).astype(np.float32)
        return padded[rows, columns], dx, dy

    def per(self, count: int, low: float, high: float) -> Floats:
        return self.rng.uniform(low, high, count).astype(np.float32)

    def nuclei(self, seeds: Floats, radius: Floats, stretch: Floats, angle: Floats, wobble: float = 0.1) -> _Nuclei:
        """Ovals around seeds: ``radius`` (N,) px, length / width ``stretch`` (N,), long axis ``angle`` (N,) rad."""
        owner, dx, dy = self.nearest(seeds)
        cos, sin = np.cos(angle)[owner], np.sin(angle)[owner]
        root = np.sqrt(stretch)
        along = (dx * cos + dy * sin) / (radius * root)[owner]
        across = (dy * cos - dx * sin) / (radius / root)[owner]
        phase = self.per(len(seeds), 0, 2 * np.pi)[owner]
        turn = np.arctan2(across, along)
        outline = 1 + wobble * (np.sin(2 * turn + phase) + 0.7 * np.sin(3 * turn - 2 * phase))
        return _Nuclei(owner, dx, dy, np.hypot(along, across) / outline)


def _membranes(owner: npt.NDArray[np.int64], sigma: float) -> Floats:
    """1 on borders between cells, falling to 0 inside them."""
    edge = (owner != np.roll(owner, 1, 0)) | (owner != np.roll(owner, 1, 1))
    soft: Floats = ndimage.gaussian_filter(edge.astype(np.float32), sigma, mode="wrap")
    membranes: Floats = np.minimum(soft * (1.6 * sigma), 1)
    return membranes


def _texture(base: tuple[Floats, Floats], inside: tuple[Floats, Floats], n: _Nuclei, softness: float = 0.12) -> Texture:
    cover = np.clip((1 - n.level) / softness + 0.5, 0, 1)
    cover[(np.abs(n.dx) > REACH) | (np.abs(n.dy) > REACH)] = 0
    steps = np.clip(np.stack([-n.dx, -n.dy]), -REACH, REACH).astype(np.int8)
    return Texture(_stored(base), _stored(inside), (cover * 255).astype(np.uint8), steps)


def _stored(stains: tuple[Floats, Floats]) -> Bytes:
    return np.stack([np.clip(s * UNIT, 0, 255) for s in stains]).astype(np.uint8)


def _vesicular(c: _Canvas, n: _Nuclei, count: int, depth: float) -> tuple[Floats, Floats]:
    """Pale open chromatin with clumps, a dark rim and one or two nucleoli."""
    tone = c.per(count, 0.75, 1.25)[n.owner]
    rim = np.exp(-(((n.level - 0.9) / 0.14) ** 2))
    chromatin = depth * tone * (0.55 + 0.16 * c.noise(1.1) + 0.75 * rim)
    for far in (0.0, 5.0):
        angle, size = c.per(count, 0, 6.28), c.per(count, 0.8, 2.1)
        x, y = (np.cos(angle) * far * 0.8)[n.owner], (np.sin(angle) * far * 0.8)[n.owner]
        spot = np.hypot(n.dx - x, n.dy - y) < size[n.owner]
        chromatin = np.where(spot, np.maximum(chromatin, 1.7 * depth), chromatin)
    mitotic = (c.per(count, 0, 1) < 0.05)[n.owner]
    return np.where(mitotic, 2.2 + 0.2 * rim, chromatin), 0.32 + 0.05 * tone


def _clumped(c: _Canvas, n: _Nuclei, count: int, depth: float) -> tuple[Floats, Floats]:
    """Dark nuclei with coarse clumps of chromatin."""
    tone = c.per(count, 0.8, 1.2)[n.owner]
    return depth * tone * (1 + 0.2 * c.noise(1.2)), np.full_like(tone, 0.3)


def _solid_tumour(c: _Canvas) -> Texture:
    seeds = c.scatter(23)
    count = len(seeds)
    n = c.nuclei(seeds, c.per(count, 6.5, 11.5), c.per(count, 1.0, 1.7), c.per(count, 0, 3.14))
    thick = c.noise(45)
    grain = c.noise(1.3)
    wall = _membranes(n.owner, 1.0)
    h = 0.22 + 0.05 * thick + 0.05 * grain + 0.04 * c.noise(6)
    e = 0.50 + 0.05 * thick + 0.06 * grain + 0.14 * wall * (c.noise(8) > -0.4)
    return _texture((h, e), _vesicular(c, n, count, 1.0), n)


def _glandular_tumour(c: _Canvas) -> Texture:
    glands = c.scatter(86, 0.42)
    gland, gx, gy = c.nearest(glands)
    lumen = (26 * c.per(len(glands), 0, 1) ** 1.5)[gland] + 6 * c.noise(9) + 4 * c.noise(4)  # radius of the lumen here
    depth = np.hypot(gx, gy) - lumen  # how far into the lining
    seeds = c.scatter(17)
    column, row = seeds[:, 0].astype(int), seeds[:, 1].astype(int)
    seeds = seeds[depth[row, column] > 11]  # nuclei stand at the base, away from the lumen
    column, row = seeds[:, 0].astype(int), seeds[:, 1].astype(int)
    count = len(seeds)
    angle = np.arctan2(gy[row, column], gx[row, column]) + c.per(count, -0.3, 0.3)
    n = c.nuclei(seeds, c.per(count, 5.2, 7.8), c.per(count, 1.2, 2.1), angle)
    wall = _membranes(gland, 2.2)
    inside = 1 / (1 + np.exp(np.clip(-depth / 0.8, -30, 30)))
    secretion = np.clip(0.12 + 0.1 * c.noise(10), 0.02, None)
    grain = c.noise(1.3)
    h = inside * (0.24 + 0.05 * grain + 0.05 * c.noise(25)) * (1 - 0.6 * wall) + 0.03
    e = inside * (0.44 + 0.05 * grain + 0.05 * c.noise(30) + 0.15 * wall) + (1 - inside) * secretion
    dark = _clumped(c, n, count, 1.25)
    rim = np.exp(-(((n.level - 0.9) / 0.16) ** 2))
    return _texture((h, e), (dark[0] * (0.8 + 0.3 * rim), dark[1]), n)


def _fibres(c: _Canvas, length: float, width: float, swing: float) -> tuple[Floats, Floats]:
    """Wavy fibre noise, and the direction of the fibres at each pixel in radians."""
    straight = c.noise((width, length)) + 0.6 * c.noise((0.5 * width, 0.7 * length))
    sway = swing * c.noise(85) + 0.35 * swing * c.noise(36) + 0.06 * swing * c.noise(12)
    row, column = np.mgrid[0:PERIOD, 0:PERIOD].astype(np.float32)
    wavy = ndimage.map_coordinates(
        straight, [row + sway, column + 0.5 * np.roll(sway, 300, 0)], order=1, mode="grid-wrap"
    )
    slope = np.stack(np.gradient(np.pad(sway, 1, mode="wrap")))[:, 1:-1, 1:-1]
    return wavy / wavy.std(), np.arctan2(-slope[1], 1 + slope[0])


def _at(field: Floats, seeds: Floats) -> Floats:
    values: Floats = field[seeds[:, 1].astype(int), seeds[:, 0].astype(int)]
    return values


def _fibrous_stroma(c: _Canvas) -> Texture:
    fibre, direction = _fibres(c, 24, 1.6, 44)
    density = 0.5 + 0.5 * np.tanh(1.5 * c.noise(40))  # loose here, compact there
    seeds = c.scatter(30, 0.48)
    count = len(seeds)
    stretch = np.where(c.per(count, 0, 1) < 0.12, 1.1, c.per(count, 2.2, 5.0))  # a few stray lymphocytes
    n = c.nuclei(seeds, c.per(count, 4.4, 6.4), stretch.astype(np.float32), _at(direction, seeds), 0.08)
    e = 0.36 + 0.16 * density + (0.15 - 0.07 * density) * fibre + 0.03 * c.noise(2)
    e = np.where(fibre < -1.0 - density, 0.08 + 0.1 * np.abs(e), e)  # slits between fibres
    h = 0.10 + 0.04 * fibre + 0.03 * c.noise(30) + 0.02 * c.noise(1)
    return _texture((h, e), _clumped(c, n, count, 1.15), n)


def _hyaline_stroma(c: _Canvas) -> Texture:
    band, direction = _fibres(c, 45, 5.5, 55)
    fine, _ = _fibres(c, 12, 1.2, 40)
    seeds = c.scatter(62, 0.48)
    count = len(seeds)
    n = c.nuclei(seeds, c.per(count, 3.6, 5.4), c.per(count, 3.0, 6.0), _at(direction, seeds), 0.06)
    e = 0.68 + 0.10 * np.tanh(2 * band) + 0.04 * fine + 0.05 * c.noise(60)
    crack = (np.abs(band + 0.9) < 0.09) & (c.noise(14) > -0.2)
    e = np.where(crack, 0.16, e)
    h = 0.07 + 0.02 * fine + 0.03 * c.noise(40)
    return _texture((h, e), _clumped(c, n, count, 1.3), n)


def _dense_lymphocytes(c: _Canvas) -> Texture:
    seeds = c.scatter(14.5)
    seeds = seeds[c.per(len(seeds), 0, 1) > 0.06]
    count = len(seeds)
    n = c.nuclei(seeds, c.per(count, 5.0, 7.0), c.per(count, 1.0, 1.25), c.per(count, 0, 3.14), 0.05)
    h = 0.14 + 0.06 * c.noise(5) + 0.03 * c.noise(1)
    e = 0.24 + 0.09 * c.noise(7) + 0.04 * c.noise(1.2)
    return _texture((h, e), _clumped(c, n, count, 1.7), n)


def _plasma_cells(c: _Canvas) -> Texture:
    seeds = c.scatter(22, 0.42)
    count = len(seeds)
    n = c.nuclei(seeds, c.per(count, 5.0, 6.6), c.per(count, 1.0, 1.3), c.per(count, 0, 3.14), 0.05)
    side, far = c.per(count, 0, 6.28), c.per(count, 3.5, 5.5)  # the nucleus lies off the middle of its cell
    x, y = (np.cos(side) * far)[n.owner], (np.sin(side) * far)[n.owner]
    body = 1 / (1 + np.exp(np.clip((np.hypot(n.dx - x, n.dy - y) - 10.5) / 0.7, -30, 30)))
    body *= (c.per(count, 0, 1) < 0.65)[n.owner]
    fibre, _ = _fibres(c, 16, 1.8, 30)
    h = 0.08 + 0.22 * body + 0.03 * c.noise(1.2)
    e = 0.20 + 0.08 * fibre + 0.38 * body + 0.04 * c.noise(1.5)
    return _texture((h, e), _clumped(c, n, count, 1.5), n)


def _ghost_necrosis(c: _Canvas) -> Texture:
    seeds = c.scatter(23)
    count = len(seeds)
    n = c.nuclei(seeds, c.per(count, 5.5, 9.0), c.per(count, 1.0, 1.5), c.per(count, 0, 3.14), 0.12)
    shrunken = (c.per(count, 0, 1) < 0.07)[n.owner]
    wall = _membranes(n.owner, 1.4)
    blotch = c.noise(22)
    h = 0.10 + 0.04 * blotch + 0.03 * c.noise(1.3)
    e = 0.60 + 0.10 * blotch + 0.05 * c.noise(2) - 0.12 * wall
    rim = np.exp(-(((n.level - 0.85) / 0.2) ** 2))
    ghost = h + (0.10 + 0.20 * rim) * c.per(count, 0.2, 1.0)[n.owner]
    level = np.where(shrunken, n.level * 1.9, n.level)
    inside = (np.where(shrunken, 1.7, ghost), np.where(shrunken, 0.5, e + 0.02))
    return _texture((h, e), inside, _Nuclei(n.owner, n.dx, n.dy, level), 0.3)


def _granular_necrosis(c: _Canvas) -> Texture:
    seeds = c.scatter(10.5, 0.5)
    count = len(seeds)
    patch = c.noise(20)
    size = c.per(count, 0.5, 3.6) * (0.75 + 0.35 * np.clip(_at(patch, seeds), -1.5, 1.5))
    n = c.nuclei(seeds, np.maximum(size, 0.3), c.per(count, 1.0, 2.4), c.per(count, 0, 3.14), 0.25)
    grain = c.noise(1.6)
    h = 0.24 + 0.13 * grain + 0.10 * patch + 0.06 * c.noise(5)
    e = 0.46 + 0.10 * c.noise(2.2) + 0.09 * c.noise(14)
    return _texture((h, e), _clumped(c, n, count, 1.45), n, 0.35)


def _glass(c: _Canvas) -> Texture:
    flat = np.full((PERIOD, PERIOD), 0.025, np.float32)
    still = np.zeros((PERIOD, PERIOD), np.uint8)
    return Texture(
        _stored((flat + 0.006 * c.noise(1), flat + 0.01 * c.noise(60))),
        np.zeros((2, PERIOD, PERIOD), np.uint8),
        still,
        np.zeros((2, PERIOD, PERIOD), np.int8),
    )

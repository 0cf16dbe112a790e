"""Places of tissue tiles as HDF5, in the forms in which TRIDENT and CLAM write them and read them back."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from lpd.errors import ConfigError, ResultError
from lpd.export.source import MaskSource, Meta, blocks
from lpd.runs import replacing

Form = Literal["trident", "clam"]
FORMS: tuple[Form, ...] = ("trident", "clam")
#: What each tool calls the file of a slide.
FILE_NAMES: Mapping[Form, str] = {"trident": "{slide}_patches.h5", "clam": "{slide}.h5"}

Coordinates = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

_MOST_TILES = 50_000_000  # of the grid, tissue or not: 400 MB
_ROWS_PER_CHUNK = 1024


@dataclass(frozen=True)
class TileWish:
    """Which tiles.

    Attributes:
        tile_px: side in pixels of ``mpp`` µm.
        mpp: µm per pixel that the tiles will be seen at.
        overlap_px: what neighbours share, in the same pixels.
        min_tissue: smallest share of a tile's area that must be tissue, 0–1; at 0 any tissue will do.
        codes: of the classes that count as tissue; all of them if empty.

    Raises:
        ConfigError: a value is out of range.
    """

    tile_px: int = 256
    mpp: float = 0.5
    overlap_px: int = 0
    min_tissue: float = 0.5
    codes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if self.tile_px < 1 or not 0 < self.mpp < math.inf:
            raise ConfigError(f"tiles of {self.tile_px} px at {self.mpp} µm/px: both must be above 0")
        if not 0 <= self.overlap_px < self.tile_px:
            raise ConfigError(f"an overlap of {self.overlap_px} px must be 0 to {self.tile_px - 1}, below the tile")
        if not 0 <= self.min_tissue <= 1:
            raise ConfigError(f"a share of tissue of {self.min_tissue} must be 0 to 1")


def tile_coordinates(store: MaskSource, wish: TileWish) -> Coordinates:
    """Upper left corners of the tiles with enough tissue: (N, 2) int64, (x, y) level-0 pixels, column by column.

    Tiles lie on a grid from the slide's (0, 0) on; those that reach past its right and lower edge are among them, with
    no tissue out there. Shares are exact areas, mask pixels that a tile cuts counted in part. The mask is read once,
    block by block; beside a block, memory holds one number for each tile of the grid.

    Raises:
        ConfigError: a class is unknown, or the grid has more than 50 million tiles.
    """
    meta = store.meta
    side_l0, step_l0 = _sides_l0(meta, wish)
    columns, rows = -(-meta.width_l0 // step_l0), -(-meta.height_l0 // step_l0)
    if columns * rows > _MOST_TILES:
        raise ConfigError(f"{columns} x {rows} tiles are too many: take larger ones, or less overlap")
    wanted = _values(meta, wish.codes)
    begin_x, begin_y = (np.arange(count) * step_l0 / meta.scale for count in (columns, rows))
    side = side_l0 / meta.scale
    covered = np.zeros((columns, rows))
    for x, y, block in blocks(store):
        tissue = wanted[block]
        if tissue.any():
            height, width = block.shape
            across, down = _touched(begin_x, side, x, width), _touched(begin_y, side, y, height)
            in_columns = _lengths(tissue, begin_y[down] - y, side).T
            covered[across, down] += _lengths(in_columns, begin_x[across] - x, side)
    # A share that is met exactly must not fail by rounding.
    enough = (covered > 0) & (covered >= wish.min_tissue * side**2 * (1 - 1e-9))
    return np.argwhere(enough) * step_l0


def write_coordinates(store: MaskSource, path: Path, wish: TileWish, form: Form = "trident") -> int:
    """Write the tiles' places as a dataset ``coords``, (N, 2) int64, in the frame of the slide file itself.

    As ``trident``, the attributes are patch_size (``tile_px``), level0_magnification and target_magnification (10 by
    µm/px, not rounded, for tiles of exactly this size), patch_size_level0, overlap, name and the rest of TRIDENT's. As
    ``clam``, patch_level is 0 and patch_size the side at level 0, which CLAM reads and then shrinks.

    Returns:
        The number of tiles.

    Raises:
        ConfigError: h5py is not installed, or see :func:`tile_coordinates`.
        ResultError: the file cannot be written.
    """
    try:
        import h5py
    except ImportError as error:
        raise ConfigError("coordinates are HDF5 files, which need h5py: pip install h5py") from error
    places = tile_coordinates(store, wish) + np.array(store.meta.origin_l0)
    attributes = _trident(store.meta, path, wish) if form == "trident" else _clam(store.meta, path, wish)
    try:
        with replacing(path) as temporary, h5py.File(temporary, "w") as file:
            data = file.create_dataset("coords", data=places, maxshape=(None, 2), chunks=(_ROWS_PER_CHUNK, 2))
            data.attrs.update(attributes)
    except OSError as error:
        raise ResultError(
            f"cannot write {path} ({error.strerror or error}): free some space or choose another folder"
        ) from error
    return len(places)


def _sides_l0(meta: Meta, wish: TileWish) -> tuple[int, int]:
    """Side of a tile and distance of neighbours in whole level-0 pixels, rounded as TRIDENT does."""
    side = round(wish.tile_px * wish.mpp / meta.slide_mpp)
    step = side - round(wish.overlap_px * wish.mpp / meta.slide_mpp)
    if step < 1:
        raise ConfigError(
            f"tiles of {wish.tile_px} px at {wish.mpp} µm/px are less than a pixel apart: take larger ones"
        )
    return side, step


def _values(meta: Meta, codes: Sequence[str]) -> npt.NDArray[np.bool_]:
    """Which of the 256 mask values count as tissue."""
    known = meta.classes.codes
    for code in codes:
        if code not in known:
            raise ConfigError(f"class {code!r} is none of this result's: {', '.join(known)}")
    wanted = np.zeros(256, np.bool_)
    wanted[[known.index(code) for code in codes or known]] = True
    return wanted


def _touched(begins: Floats, side: float, first: int, count: int) -> slice:
    """The tiles, by their rising beginnings, that reach into ``count`` pixels from ``first`` on."""
    low = int(np.searchsorted(begins, first - side, side="right"))
    return slice(low, max(low, int(np.searchsorted(begins, first + count, side="left"))))


def _lengths(values: npt.NDArray[Any], begins: Floats, side: float) -> Floats:
    """Sums of (n, k) values over [begin, begin + side) of the first axis, cut pixels in part: (len(begins), k)."""
    totals = np.zeros((len(values) + 1, values.shape[1]))
    np.cumsum(values, axis=0, out=totals[1:])
    return _up_to(totals, begins + side) - _up_to(totals, begins)


def _up_to(totals: Floats, places: Floats) -> Floats:
    places = places.clip(0, len(totals) - 1)
    whole = np.floor(places).astype(np.int64).clip(max=len(totals) - 2)
    part = (places - whole)[:, None]
    sums: Floats = totals[whole] * (1 - part) + totals[whole + 1] * part
    return sums


def _trident(meta: Meta, path: Path, wish: TileWish) -> dict[str, Any]:
    right, bottom = _end_l0(meta)
    return {
        "patch_size": wish.tile_px,
        "patch_size_level0": _sides_l0(meta, wish)[0],
        "level0_magnification": _magnification(meta.slide_mpp),
        "target_magnification": _magnification(wish.mpp),
        "overlap": wish.overlap_px,
        "name": meta.slide_name,
        "savetodir": str(path.parent),
        "level0_width": right,
        "level0_height": bottom,
    }


def _end_l0(meta: Meta) -> tuple[int, int]:
    """(x, y) of the slide's lower right corner in the file's own frame; the file's size, if nothing was cut away."""
    return meta.origin_l0[0] + meta.width_l0, meta.origin_l0[1] + meta.height_l0


def _magnification(mpp: float) -> int | float:
    """As these tools count it, 10 at 1 µm/px; whole where it is."""
    power = 10 / mpp
    return round(power) if abs(power - round(power)) < 1e-9 else power


def _clam(meta: Meta, path: Path, wish: TileWish) -> dict[str, Any]:
    size = _end_l0(meta)
    return {
        "patch_size": _sides_l0(meta, wish)[0],
        "patch_level": 0,
        "downsample": (1.0, 1.0),
        "downsampled_level_dim": size,
        "level_dim": size,
        "name": meta.slide_name,
        "save_path": str(path.parent),
    }

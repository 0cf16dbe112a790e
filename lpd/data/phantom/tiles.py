"""Writes a tile set in BCSS layout, cut from phantom cases: train labels in file names, masks for valid and test."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml
from PIL import Image

from lpd.classes import BCSS
from lpd.config import Settings
from lpd.data.phantom.layout import MPP, kinds_to_mask
from lpd.data.phantom.slide import worker_count
from lpd.data.phantom.tissue import Case, case_seed
from lpd.errors import ConfigError, DatasetError

#: A class is in a tile's label from this share of its pixels, as in the real sets that derive labels from masks.
LABEL_SHARE = 0.03

_NAME = "LPD phantom (synthetic H&E, no patient)"
_STEP = 64  # grid on which tile positions are chosen, in level-0 pixels
_PLANE = 320  # grid points along each side of the plane that a case is cut from
_CLASSES_PER_TILE = (0.30, 0.40, 0.22, 0.08)  # shares of tiles with 1, 2, 3 and 4 classes
_GLASS_TILES = 0.15  # share of tiles with more than a tenth of glass


@dataclass(frozen=True)
class TileSetSpec(Settings):
    """How many tiles of what.

    Attributes:
        train, valid, test: number of tiles; each split has cases of its own.
        seed: the set's; unrelated to the seeds of slides, so that no slide shares a case with any set.
        tile_px: width and height.
        mpp: µm per pixel; a whole multiple of the phantom's 0.5.
    """

    train: int
    valid: int
    test: int
    seed: int
    tile_px: int = 224
    mpp: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.train, self.valid, self.test) < 0 or self.train + self.valid + self.test < 1:
            raise ConfigError(
                f"{self.train}, {self.valid} and {self.test} tiles: none may be negative, one must be above 0"
            )
        if self.seed < 0:
            raise ConfigError(f"seed {self.seed} is negative")
        if not 32 <= self.tile_px <= 1024:
            raise ConfigError(f"tile size {self.tile_px} px is not between 32 and 1024")
        if self.mpp <= 0 or self.mpp / MPP != round(self.mpp / MPP) or self.mpp > 4:
            raise ConfigError(f"tile resolution {self.mpp} µm/px is not a whole multiple of {MPP} up to 4")


@dataclass(frozen=True)
class Tile:
    """One finished tile: (T, T, 3) RGB, (T, T) mask 0 … C, and its case and level-0 corner as a name."""

    name: str
    image: npt.NDArray[np.uint8]
    mask: npt.NDArray[np.uint8]

    @property
    def labels(self) -> str:
        """One digit per class: 1 from LABEL_SHARE of the tile's pixels."""
        shares = np.bincount(self.mask.ravel(), minlength=BCSS.count + 1)[: BCSS.count] / self.mask.size
        return "".join("1" if share >= LABEL_SHARE else "0" for share in shares)


def write_phantom_tiles(folder: Path, spec: TileSetSpec, *, force: bool = False, workers: int | None = None) -> None:
    """Write ``train/*[1101].png``, ``{valid,test}/{img,mask}/*.png`` and ``dataset.yaml``; all or nothing.

    The result depends on ``spec`` alone, not on ``workers`` (default: the number of cores).

    Raises:
        ConfigError: the number of workers is out of range.
        DatasetError: the folder exists and ``force`` is not given, is not a phantom set that may be replaced, or cannot
            be written.
    """
    workers = worker_count(workers)
    try:
        _check_replaceable(folder, force)
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".lpd-phantom-") as temporary:
            fresh = Path(temporary) / "new"
            _fill(fresh, spec, workers)
            if folder.exists():
                shutil.rmtree(folder)
            fresh.rename(folder)
    except OSError as error:
        raise DatasetError(
            f"cannot write {folder} ({error.strerror or error}): free some space or choose another folder"
        ) from error


def _check_replaceable(folder: Path, force: bool) -> None:
    if not folder.exists():
        return
    if not force:
        raise DatasetError(f"{folder} exists already: choose another folder or replace it with --force")
    description = folder / "dataset.yaml"
    if not (description.is_file() and _NAME in description.read_text(encoding="utf-8", errors="replace")):
        raise DatasetError(f"{folder} is not a phantom tile set, so it is not replaced: choose another folder")


def _fill(folder: Path, spec: TileSetSpec, workers: int) -> None:
    for part in ("train", "valid/img", "valid/mask", "test/img", "test/mask"):
        (folder / part).mkdir(parents=True)
    jobs = [
        partial(_write_case, folder, spec, split, case, count)
        for split, total, most in (("train", spec.train, 12), ("valid", spec.valid, 4), ("test", spec.test, 4))
        for case, count in enumerate(_shared_out(total, most))
    ]
    with ThreadPoolExecutor(min(workers, len(jobs))) as pool:
        for done in [pool.submit(job) for job in jobs]:
            done.result()
    (folder / "dataset.yaml").write_text(_description(spec), encoding="utf-8")


def _shared_out(total: int, most: int) -> list[int]:
    """Tiles per case: about 20 or more each, over at most ``most`` cases."""
    cases = min(most, -(-total // 20))
    return [total // cases + (case < total % cases) for case in range(cases)]


def _write_case(folder: Path, spec: TileSetSpec, split: str, case: int, count: int) -> None:
    for tile in case_tiles(spec, split, case, count):
        if split == "train":
            Image.fromarray(tile.image).save(folder / "train" / f"{tile.name}[{tile.labels}].png")
        else:
            Image.fromarray(tile.image).save(folder / split / "img" / f"{tile.name}.png")
            Image.fromarray(tile.mask).save(folder / split / "mask" / f"{tile.name}.png")


def case_tiles(spec: TileSetSpec, split: str, case: int, count: int) -> Iterator[Tile]:
    """Cut ``count`` tiles from case number ``case`` of a split, with a mixture of class combinations.

    Each tile is turned or mirrored at random, so that fibres run in all directions.
    """
    seed = case_seed(f"tiles {split}", spec.seed, case)
    tissue = Case.make(seed)
    rng = np.random.default_rng([seed, 1])
    factor = round(spec.mpp / MPP)
    side = spec.tile_px * factor
    for x, y in _positions(tissue, side, count, rng):
        image, kinds = tissue.draw(x, y, side, side)
        small = image.reshape(spec.tile_px, factor, spec.tile_px, factor, 3).mean((1, 3))
        mask = kinds_to_mask(kinds[factor // 2 :: factor, factor // 2 :: factor])
        turns, mirror = int(rng.integers(4)), slice(None, None, int(rng.choice([1, -1])))
        yield Tile(
            f"phantom-{split}{case:02d}_x{x}_y{y}_MPP-{spec.mpp:.4f}",
            np.ascontiguousarray(np.rot90(small.round().astype(np.uint8), turns)[mirror]),
            np.ascontiguousarray(np.rot90(mask, turns)[mirror]),
        )


def _positions(tissue: Case, side: int, count: int, rng: np.random.Generator) -> list[tuple[int, int]]:
    """Level-0 corners of ``count`` windows: numbers of classes as in _CLASSES_PER_TILE, each class wanted in turn."""
    mask = kinds_to_mask(tissue.layout.survey(_PLANE, _STEP))
    shares = np.stack([_window_means(mask == value, -(-side // _STEP)) for value in range(BCSS.count)], -1)
    columns = shares.shape[1]
    shares = shares.reshape(-1, BCSS.count)
    # A coarse look: keep clear of shares whose label its error could turn.
    present = shares >= 2 * LABEL_SHARE
    sure = (present | (shares <= LABEL_SHARE / 3)).all(1)
    classes, glass = present.sum(1), 1 - shares.sum(1)
    free = (classes > 0) & (glass < 0.6)
    chosen = []
    for number in range(count):
        wanted = rng.choice(BCSS.count, p=_CLASSES_PER_TILE) + 1
        fits = free
        bare = rng.random() < _GLASS_TILES
        for rule in (present[:, number % BCSS.count], (classes == wanted) & sure, (glass > 0.1) == bare):
            fits = fits & rule if (fits & rule).any() else fits
        pick = int(rng.choice(np.flatnonzero(fits)))
        free[pick] = False
        chosen.append((pick % columns * _STEP, pick // columns * _STEP))
    return chosen


def _window_means(where: npt.NDArray[np.bool_], cells: int) -> npt.NDArray[np.float64]:
    total = np.pad(where.astype(np.float64), ((1, 0), (1, 0))).cumsum(0).cumsum(1)
    inner = total[cells:, cells:] - total[:-cells, cells:] - total[cells:, :-cells] + total[:-cells, :-cells]
    return np.asarray(inner / cells**2)


def _description(spec: TileSetSpec) -> str:
    classes = [
        {"code": c.code, "name": c.name, "color": list(c.color), "qupath_name": c.qupath_name} for c in BCSS.classes
    ]
    data = {
        "name": _NAME,
        "mpp": spec.mpp,
        "classes": classes,
        "background": BCSS.background,
        "ignore": 255,
        "licence": "synthetic, free for any use",
        "phantom": spec.to_dict(),
    }
    return yaml.safe_dump(data, sort_keys=False, allow_unicode=True)

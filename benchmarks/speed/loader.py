"""The loader against the step: reading and varying tiles must never be what a training waits for."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from benchmarks.speed.ours import OurStep, channels_last, default_settings
from benchmarks.speed.scene import Batch, Scene, aimed_network
from benchmarks.speed.timing import Row, compare
from lpd.data.tiles import TileSet
from lpd.model.inputs import to_network_input
from lpd.recipe.config import AugmentConfig
from lpd.training.distribution import part_of
from lpd.training.feeding import feeding
from lpd.training.schedule import batches

_SEED = 0


def loader(scene: Scene) -> list[Row]:
    """Rates of the loader alone, from files and from memory, beside the rate of the fastest usual step."""
    rows = []
    for precision in scene.precisions:
        files, memory = scene.tiles("train", cached=False), scene.tiles("train")
        steps = 2
        work: dict[str, Callable[[], object]] = {
            f"step, {precision}": _Training(scene, precision, steps),
            "loader, from files": _Loading(files, scene.batch_size),
            "loader, from memory": _Loading(memory, scene.batch_size),
        }
        tiles = dict(zip(work, (steps * scene.batch_size, len(files), len(memory)), strict=True))
        rows += compare("loader", f"against steps in {precision}", work, scene.rounds, scene.clock, tiles=tiles)
    return rows


class _Loading:
    """One epoch of the loader and nothing else."""

    def __init__(self, tiles: TileSet, batch_size: int) -> None:
        self._tiles = tiles
        self._order = list(batches(len(tiles), batch_size, 1, _SEED))

    def __call__(self) -> None:
        """Read and vary every tile."""
        with feeding(self._tiles, self._order, 0, AugmentConfig(), _SEED, lambda n: part_of(n, 0, 1)) as varied:
            deque(varied, maxlen=0)


class _Training:
    """Some steps on tiles that are at hand."""

    def __init__(self, scene: Scene, precision: str, count: int) -> None:
        batch = Batch.of(scene.tiles("valid"), scene.batch_size, scene.device)
        per_class = scene.per_class[0]
        network = channels_last(aimed_network(scene, batch, per_class))
        config = default_settings(scene.encoder, per_class, f"loop.precision={precision}")
        self._step, self._labels, self._spec = OurStep(network, config, batch.spec), batch.labels, batch.spec
        self._tiles = scene.tiles("valid").images(range(len(batch.labels)))
        self._device, self._count = scene.device, count

    def __call__(self) -> None:
        """From 8-bit tiles to changed weights."""
        for _ in range(self._count):
            self._step(to_network_input(self._tiles, self._spec).to(self._device), self._labels)

"""Feeding: batches are read ahead of the step that needs them, by threads, and varied where that is cheap."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

from lpd.data.tiles import TileSet
from lpd.data.transforms import augment
from lpd.recipe.config import AugmentConfig
from lpd.training.distribution import Part
from lpd.training.schedule import step_seed

_THREADS = 4
_AHEAD = 6  # batches; enough to bridge one slow read, and no memory worth speaking of


@contextmanager
def feeding(
    tiles: TileSet,
    order: Sequence[Sequence[int]],
    first: int,
    augmentation: AugmentConfig,
    seed: int,
    part: Callable[[int], Part],
    device: torch.device | str = "cpu",
) -> Iterator[Iterator[Tensor]]:
    """This process's part of the varied batches of the steps from ``first`` on, in order.

    What a step gets depends on ``seed`` and its number alone, not on threads or on where the training began; and a
    tile is varied in the same way whatever part of the batch it is read in.

    Args:
        tiles: read by several threads at a time.
        order: tile indices of every step from the very first.
        first: the step to begin with.
        augmentation: how tiles are varied.
        seed: of the training.
        part: of a batch of so many tiles, what is read here.
        device: where the tiles are wanted. Threads vary them on a CPU; another device does so itself, in passing.

    Yields:
        Iterator of (B', H, H, 3) uint8 RGB on ``device``, the tiles of the part.
    """
    device = torch.device(device)
    by_threads = device.type == "cpu"

    def read(step: int) -> Tensor:
        images = torch.from_numpy(tiles.images(order[step][part(len(order[step])).tiles]))
        if by_threads:
            return varied(step, images)
        return images.pin_memory() if device.type == "cuda" else images

    def varied(step: int, images: Tensor) -> Tensor:
        # Random numbers are drawn for the whole batch.
        generator, batch = torch.Generator().manual_seed(step_seed(seed, step)), len(order[step])
        return augment(images, augmentation, generator, first=part(batch).start, batch=batch)

    def batches(threads: ThreadPoolExecutor) -> Iterator[Tensor]:
        waiting: deque[Future[Tensor]] = deque(
            threads.submit(read, step) for step in range(first, min(first + _AHEAD, len(order)))
        )
        for step in range(first, len(order)):
            images = waiting.popleft().result()
            if step + _AHEAD < len(order):
                waiting.append(threads.submit(read, step + _AHEAD))
            yield images if by_threads else varied(step, images.to(device, non_blocking=True))

    threads = ThreadPoolExecutor(_THREADS, "feeding")
    try:
        yield batches(threads)
    finally:
        threads.shutdown(wait=True, cancel_futures=True)

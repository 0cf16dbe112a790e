"""Feeding: batches are read and varied by threads ahead of the step that needs them."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import torch
from torch import Tensor

from lpd.data.tiles import TileSet
from lpd.data.transforms import AugmentConfig, augment
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

    Yields:
        Iterator of (B', H, H, 3) uint8 RGB on the CPU, the tiles of the part.
    """

    def prepare(step: int) -> Tensor:
        generator = torch.Generator().manual_seed(step_seed(seed, step))
        own = part(len(order[step])).tiles
        images = torch.from_numpy(tiles.images(order[step][own]))
        if len(images) == len(order[step]):
            return augment(images, augmentation, generator)
        # Random numbers are drawn for whole batches: blank tiles stand for those that other processes read.
        batch = images.new_zeros((len(order[step]), *images.shape[1:]))
        batch[own] = images
        return augment(batch, augmentation, generator)[own]

    def batches(threads: ThreadPoolExecutor) -> Iterator[Tensor]:
        waiting: deque[Future[Tensor]] = deque()
        for step in range(first, len(order)):
            waiting.append(threads.submit(prepare, step))
            if len(waiting) > _AHEAD:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    threads = ThreadPoolExecutor(_THREADS, "feeding")
    try:
        yield batches(threads)
    finally:
        threads.shutdown(wait=True, cancel_futures=True)

"""What a person is told when a training or a bank does not fit into memory: which setting to lower."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from lpd.errors import RunError
from lpd.recipe.config import TrainConfig

#: Words of torch's allocators where they raise a plain RuntimeError; that of the CPU has no error of its own.
_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")


@contextmanager
def enough_memory(work: str, cure: str) -> Iterator[None]:
    """Turn the many errors of a full memory into one sentence.

    Args:
        work: that is done in the block, such as ``this training``.
        cure: what to do, such as :func:`training_cure`.

    Raises:
        RunError: the memory of the device or of the machine did not suffice for the block.
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch.OutOfMemoryError is a RuntimeError
        if not _is_lack_of_memory(error):
            raise
        raise RunError(f"the device has too little memory for {work}: {cure}") from error


def training_cure(config: TrainConfig) -> str:
    """The setting that helps most and costs least, in words."""
    similarity, batch = config.losses.similarity, config.optimizer.batch_size
    if similarity.active and similarity.masking == "image" and (similarity.pair_cap == 0 or similarity.pair_cap > 8):
        return f"lower losses.similarity.pair_cap (now {similarity.pair_cap or 'all pairs'}), for example to 8"
    if batch > 1:
        return f"lower optimizer.batch_size (now {batch}), for example to {batch // 2}"
    return f"choose a smaller encoder than {config.encoder.name}, or smaller tiles"


def _is_lack_of_memory(error: Exception) -> bool:
    known = isinstance(error, MemoryError | torch.OutOfMemoryError)
    return known or any(sign in str(error).lower() for sign in _SIGNS)

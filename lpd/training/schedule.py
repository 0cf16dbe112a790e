"""What each parameter's learning rate is at each step, and the averaged weights that are kept."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lpd.errors import ConfigError


def rate_factor(step: int, total: int, warmup: int, power: float = 1.0) -> float:
    """Share of the full learning rate at ``step`` of ``total``: linear up over ``warmup`` steps, then down to 0.

    It falls as the ``power`` of what is left; 1 is linear.
    """
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return float(max(0.0, (total - step) / max(1, total - warmup)) ** power)


def batches(count: int, size: int, epochs: int, seed: int) -> Iterator[list[int]]:
    """Indices of every step: one shuffled pass an epoch, a last batch of a single tile being dropped."""
    for epoch in range(epochs):
        order = np.random.default_rng([seed, epoch]).permutation(count)
        for start in range(0, count, size):
            batch: list[int] = order[start : start + size].tolist()
            if len(batch) > 1 or count == 1 or size == 1:
                yield batch


def step_seed(seed: int, step: int, rank: int = 0) -> int:
    """Seed of all random numbers of one step: whoever begins there needs to know nothing of the steps before.

    Process ``rank`` of several has its own; that of the first (0) is that of a single process.
    """
    words = [seed, step, rank] if rank else [seed, step]
    return int(np.random.SeedSequence(words).generate_state(1, np.uint64)[0] >> 1)


def freeze(encoder: nn.Module, prefixes: Sequence[str]) -> None:
    """Stop the gradient of all encoder parameters whose name starts with one of ``prefixes``.

    Raises:
        ConfigError: a prefix fits no parameter, so that a typing error cannot unfreeze the encoder.
    """
    names = dict(encoder.named_parameters())
    for prefix in prefixes:
        chosen = [p for name, p in names.items() if name == prefix or name.startswith(f"{prefix}.")]
        if not chosen:
            known = sorted({".".join(name.split(".")[:2]) for name in names})
            raise ConfigError(f"no encoder parameter is called {prefix!r}: choose among {', '.join(known)}")
        for parameter in chosen:
            parameter.requires_grad_(False)


class AveragedWeights:
    """Exponential moving average of a network's parameters and statistics, kept beside it.

    Early on the average follows faster, at 1 − (1 + n) / (10 + n), so that it forgets the start.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self._decay = decay
        self._steps = 0
        self._values = {name: p.detach().clone() for name, p in _trained(network)}

    @torch.no_grad()
    def update(self, network: nn.Module) -> None:
        """Move the average towards the network's present parameters."""
        self._steps += 1
        keep = min(self._decay, (1 + self._steps) / (10 + self._steps)) if self._decay else 0.0
        # One call for all: hundreds of small ones would cost more than the arithmetic.
        torch._foreach_lerp_(list(self._values.values()), [value for _, value in _trained(network)], 1 - keep)

    @property
    def values(self) -> Mapping[str, Tensor]:
        """The average by the names of the network's parameters and statistics."""
        return self._values

    def state_dict(self) -> dict[str, Any]:
        """All it remembers."""
        return {"steps": self._steps, "values": self._values}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what :meth:`state_dict` gave, of an average over the same network."""
        self._steps = state["steps"]
        for name, value in self._values.items():
            value.copy_(state["values"][name])

    @contextmanager
    def applied(self, network: nn.Module) -> Iterator[None]:
        """The network wears the average inside the block and its own weights after it."""
        own = {name: p.detach().clone() for name, p in _trained(network)}
        _load(network, self._values)
        try:
            yield
        finally:
            _load(network, own)


def _trained(network: nn.Module) -> Iterable[tuple[str, Tensor]]:
    """What changes in training: parameters, and the statistics of batch norms, which belong to them."""
    yield from ((name, p) for name, p in network.named_parameters() if p.requires_grad)
    yield from ((name, b) for name, b in network.named_buffers() if b.is_floating_point())


@torch.no_grad()
def _load(network: nn.Module, values: dict[str, Tensor]) -> None:
    for name, value in _trained(network):
        value.copy_(values[name])

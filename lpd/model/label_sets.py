"""Class probabilities of pixels when nobody knows which classes a tile shows: a sum over what it may show."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor
from torch.nn import functional

#: There are 2^C − 1 sets of C classes. Of more classes than this only the likeliest at a place are gone through there.
MOST_CLASSES = 6


def log_class_probabilities(pixel: Tensor, presence: Tensor) -> Tensor:
    """Log of each class's probability at each pixel.

    If a tile's label S were known, its classes alone would compete for a pixel: ``softmax over S`` of the pixel logits
    (that is the oracle gate). It is not; each class is there with probability σ(g), by itself. So the softmax is
    averaged over all labels that the tile may have::

        P(c) = Σ_{S ∋ c} P(S) · exp(p_c) / Σ_{k ∈ S} exp(p_k),   P(S) = Π_{k ∈ S} σ(g_k) · Π_{k ∉ S} σ(−g_k)

    Over the classes it sums to the probability that the tile shows any at all. With all g at +∞ it is a softmax.

    Of more than ``MOST_CLASSES`` classes those with the lowest ``σ(g_c) · exp(p_c)`` at a place get their share of the
    sum of these, and the others share the rest as above: exact for open gates, near it where six hold the mass.

    Args:
        pixel: (B, C, h, w) pixel logits p.
        presence: (B, C, h, w) or (B, C, 1, 1), log-odds g that a class is there; any size, infinite excepted.

    Returns:
        (B, C, h, w), at most 0, in the dtype of ``pixel``; never infinite.
    """
    pixel = pixel - pixel.amax(1, keepdim=True)  # so that large ones do not cost digits
    if pixel.shape[1] <= MOST_CLASSES:
        return _over_all_sets(pixel, presence).clamp_max(0)
    shares = (pixel + functional.logsigmoid(presence)).log_softmax(1)
    likely = shares.topk(MOST_CLASSES, dim=1).indices
    found = _over_all_sets(pixel.gather(1, likely), presence.expand_as(pixel).gather(1, likely))
    left = shares.gather(1, likely).logsumexp(1, keepdim=True)
    return shares.scatter(1, likely, found + left).clamp_max(0)


def _over_all_sets(pixel: Tensor, presence: Tensor) -> Tensor:
    logits = list(pixel.unbind(1))
    there = list(functional.logsigmoid(presence).unbind(1))
    absent = list(functional.logsigmoid(-presence).unbind(1))
    shares: list[Tensor | None] = [None] * len(logits)
    for members, probability, total in _sets(logits, there, absent):
        share = probability - total
        for c in members:
            shares[c] = _plus(shares[c], share)
    return torch.stack([logit + share for logit, share in zip(logits, shares, strict=True) if share is not None], 1)


def _sets(
    logits: list[Tensor], there: list[Tensor], absent: list[Tensor]
) -> Iterator[tuple[tuple[int, ...], Tensor, Tensor]]:
    """(members, log P(S), log Σ exp(p)) of every set but the empty one, in memory for C maps, not 2^C."""

    def extend(
        members: tuple[int, ...], probability: Tensor, total: Tensor | None, c: int
    ) -> Iterator[tuple[tuple[int, ...], Tensor, Tensor]]:
        if c == len(logits):
            if total is not None:
                yield members, probability, total
            return
        yield from extend(members, probability + absent[c], total, c + 1)
        yield from extend((*members, c), probability + there[c], _plus(total, logits[c]), c + 1)

    yield from extend((), torch.zeros_like(there[0]), None, 0)


def _plus(total: Tensor | None, term: Tensor) -> Tensor:
    """Log of a sum, of logs; None is an empty sum."""
    return term if total is None else torch.logaddexp(total, term)

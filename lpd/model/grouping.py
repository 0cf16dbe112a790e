"""Groups of prototypes: which of a class's prototypes count, and which of them count as one.

A class's logit is the merge (mean or union) of its groups' logits, and a group's is the mean of its prototypes'. One
that is muted is in no group; merged ones share a group. With every prototype in a group of its own nothing is edited.
All of it is linear in the maps of cosines but the union, so that stored maps say exactly what the network would.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

from lpd.config import ModelConfig
from lpd.errors import ConfigError

#: For each class its groups of prototype numbers, class-major as everywhere: m belongs to class m // K.
Groups: TypeAlias = tuple[tuple[tuple[int, ...], ...], ...]


def ungrouped(class_count: int, per_class: int) -> Groups:
    """Every prototype by itself."""
    return tuple(tuple((m,) for m in range(c * per_class, (c + 1) * per_class)) for c in range(class_count))


def groups_of(config: ModelConfig) -> Groups:
    """Those of a network."""
    return config.groups or ungrouped(config.class_count, config.prototypes_per_class)


def regrouped(
    groups: Groups,
    muted: Collection[int] = (),
    merged: Sequence[Collection[int]] = (),
    label: Callable[[int], str] = str,
) -> Groups:
    """Groups without some prototypes, and with some counting as one.

    Args:
        groups: as they are; a prototype that is in none stays out.
        muted: numbers of prototypes that shall not count; others of their groups stay.
        merged: sets of prototypes of one class, whose groups become one.
        label: how errors write a prototype.

    Returns:
        New groups; a class with none left has ().

    Raises:
        ConfigError: what is merged is a single prototype, of two classes, muted, or merged twice.
    """
    out = frozenset(muted)
    left = [[kept for group in own if (kept := tuple(m for m in group if m not in out))] for own in groups]
    seen: set[int] = set()
    for members in (frozenset(one) for one in merged):
        _check_merge(left, members, seen, label)
        seen |= members
        own = next(own for own in left if any(members & set(group) for group in own))
        joined = [group for group in own if members & set(group)]
        first = own.index(joined[0])
        rest = [group for group in own if group not in joined]
        own[:] = [*rest[:first], tuple(sorted(m for group in joined for m in group)), *rest[first:]]
    return tuple(map(tuple, left))


def _check_merge(
    groups: Sequence[Sequence[tuple[int, ...]]],
    members: frozenset[int],
    seen: Collection[int],
    label: Callable[[int], str],
) -> None:
    numbers = ", ".join(map(label, sorted(members)))
    if len(members) < 2:
        raise ConfigError(f"merging prototype {numbers or 'none'} alone changes nothing: name two or more")
    if twice := sorted(members & set(seen)):
        raise ConfigError(f"prototype {label(twice[0])} is merged twice: name all that shall be one together")
    homes = [c for c, own in enumerate(groups) if any(members & set(group) for group in own)]
    absent = members - {m for own in groups for group in own for m in group}
    if absent:
        raise ConfigError(f"prototype {label(min(absent))} is muted and cannot be merged: unmute it, or leave it out")
    if len(homes) > 1:
        raise ConfigError(f"prototypes {numbers} are of different classes: only those of one class can be merged")

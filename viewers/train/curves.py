"""The numbers of a training as they come: what is new in its metrics since somebody last asked."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from lpd.recipe.run_files import METRICS

#: Most entries of losses in an answer; more are thinned out, evenly.
_MOST = 1200
_LARGEST_BYTES = 64 * 2**20
_LONGEST_LINE = 2**20
_LOSSES = ("loss", "classification", "pixels", "similarity", "diversity", "rate", "busy", "memory_mb")


def read_curves(folder: Path, run: str = "", since: int = 0) -> dict[str, Any]:
    """What was logged after a place in the file.

    Args:
        folder: of the training.
        run: what the last answer said of the file, which is another one after an interruption.
        since: the place that the last answer ended with.

    Returns:
        ``run`` and ``since`` to ask with next time; ``anew`` if the entries replace all that were told before;
        ``losses``, each with ``step``, ``seconds``, the losses that it has, and the use of the device; ``valid``, each
        with ``step``, the scores under each gate (background ignored) and ``similarity``, how alike a class's
        prototypes are.
    """
    try:
        with (folder / METRICS).open("rb") as file:
            facts = os.fstat(file.fileno())
            # The number of a file that is gone is given to the next one: its first line, with its time, counts too.
            now = f"{facts.st_ino}-{zlib.crc32(file.readline(_LONGEST_LINE)):08x}"
            start = since if run == now and 0 <= since <= facts.st_size else 0
            file.seek(start)
            data = file.read(_LARGEST_BYTES)
    except OSError:
        return {"run": "", "since": 0, "anew": True, "losses": [], "valid": []}
    whole = data[: data.rfind(b"\n") + 1]  # the last line may be half written
    entries = [entry for line in whole.splitlines() if (entry := _entry(line)) is not None]
    losses = [_losses(entry) for entry in entries if "valid" not in entry]
    every = -(-len(losses) // _MOST) or 1
    kept = [entry for i, entry in enumerate(losses) if i % every == 0 or i == len(losses) - 1]
    valid = [_valid(entry) for entry in entries if "valid" in entry]
    return {"run": now, "since": start + len(whole), "anew": start == 0, "losses": kept, "valid": valid}


def best_scores(valid: Sequence[Mapping[str, Any]], before: Mapping[str, Any]) -> Mapping[str, Any]:
    """The best and the last mIoU under each gate after some more looks, see :func:`read_curves`; empty without any."""
    if not valid:
        return before
    gates = valid[-1]["gates"]
    best = dict(before.get("best", {}))
    for gate, numbers in (pair for entry in valid for pair in entry["gates"].items()):
        if numbers["miou"] is not None:
            best[gate] = max(best.get(gate) or 0, numbers["miou"])
    return {
        "step": valid[-1]["step"],
        "best": {gate: best.get(gate) for gate in gates},
        "last": {gate: numbers["miou"] for gate, numbers in gates.items()},
        "seconds": valid[-1]["seconds"],
        "similarity": valid[-1]["similarity"],
    }


def _entry(line: bytes) -> dict[str, Any] | None:
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("step"), int) else None


def _losses(entry: Mapping[str, Any]) -> dict[str, Any]:
    return {name: entry[name] for name in ("step", "seconds", *_LOSSES) if entry.get(name) is not None}


def _valid(entry: Mapping[str, Any]) -> dict[str, Any]:
    gates = {
        gate: {name: scores["ignored"].get(name) for name in ("miou", "mdice", "iou")}
        for gate, scores in entry["valid"].items()
        if "ignored" in scores
    }
    known = [v for v in _numbers(entry.get("jeffreys_similarity")) if v is not None]
    likeness = sum(known) / len(known) if known else None
    return {"step": entry["step"], "seconds": entry.get("seconds"), "gates": gates, "similarity": likeness}


def _numbers(value: Any) -> Iterable[float | None]:
    return value.values() if isinstance(value, Mapping) else ()

"""Routes of prototypes: what a result's maps are, which prototypes of two results match."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from fastapi import APIRouter

from lpd.classes import NOT_COMPUTED
from lpd.errors import ResultError
from lpd.inference.store import ResultStore
from viewers.checkpoints import describe_classes
from viewers.services import Services

#: Places of a map that its range is taken from.
_MOST_PLACES = 1 << 16
#: Colours begin and end where so much of the tissue, in %, is below and above.
_ENDS = 50, 99.5


def compare_router(services: Services) -> APIRouter:
    """``/results/{id}/prototypes`` and what compares two results."""
    router = APIRouter()

    @router.get("/results/{job_id}/prototypes")
    def prototypes(job_id: str) -> dict[str, Any]:
        with services.result(services.jobs.get(job_id)) as store:
            return describe_prototypes(store)

    return router


def describe_prototypes(store: ResultStore) -> dict[str, Any]:
    """A result's maps as plain JSON.

    Returns:
        ``per_class`` K, ``count`` M, ``classes`` without background, ``stride`` (mask pixels per map pixel), ``limit``
        (the logit of byte 254), and ``ranges``: of each map [low, high], the bytes its colours begin and end with.

    Raises:
        ResultError: the result has no maps.
    """
    kept = store.prototypes
    if kept is None:
        raise ResultError("this result has no maps of prototypes: compute them in the Compare tab")
    maps = kept.maps
    return {
        "per_class": maps.per_class,
        "count": maps.count,
        "classes": describe_classes(store.meta.classes)[:-1],
        "stride": maps.finest.stride_px,
        "limit": maps.limit,
        "ranges": [_range(store, index) for index in range(maps.count)],
    }


def _range(store: ResultStore, index: int) -> tuple[int, int]:
    width, height = store.meta.mask_size
    assert store.prototypes is not None
    step = max(store.prototypes.maps.finest.stride_px, round((width * height / _MOST_PLACES) ** 0.5))
    values = store.read_prototype_px(index, 0, 0, (-(-width // step), -(-height // step)), step)
    known: npt.NDArray[np.uint8] = values[values != NOT_COMPUTED]
    if not known.size:
        return 0, NOT_COMPUTED - 1
    low, high = (round(float(v)) for v in np.percentile(known, _ENDS))
    return low, max(low + 1, high)

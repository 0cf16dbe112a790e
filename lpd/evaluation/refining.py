"""The ways to better a map that are scored beside it: adapted prototypes, PAMR, a dense CRF, test-time augmentation."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import torch
from torch import Tensor

from lpd.errors import ConfigError
from lpd.evaluation.adapting import MOST_TILES
from lpd.inference.devices import cpu_threads
from lpd.refinement.crf import refine_crf
from lpd.refinement.pamr import refine_pamr

#: Move the borders of a map to edges of the picture, with their default settings.
REFINEMENTS: Mapping[str, Callable[[Tensor, Tensor], Tensor]] = {"pamr": refine_pamr, "crf": refine_crf}
#: Test-time augmentation: the mean over several views of each tile, see :func:`lpd.evaluation.tiles.tta_sides`.
TTA = "tta"
#: Test-time augmentation as on slides: the mean over the eight symmetries of the square.
SYMMETRIC = "turned"
#: Prototypes adapted to the picture, see :mod:`lpd.model.adaptation`.
ADAPT = "adapt"
#: The map as the network gives it.
PLAIN = "none"
#: All that can be asked for.
NAMES = (ADAPT, *REFINEMENTS, TTA, SYMMETRIC)

# A CRF needs about 150 MB a tile of 224 px.
_MOST_THREADS = 4


def refinement_notes(sides: Sequence[int]) -> dict[str, str]:
    """What each name means; ``sides`` are all input sizes of test-time augmentation, in px."""
    sizes = ", ".join(map(str, sorted(sides)))
    return {
        PLAIN: "the map as the network gives it",
        ADAPT: f"prototypes of each picture or patient ({MOST_TILES} tiles at most) correct its maps, as a slide's do",
        "pamr": "pixel-adaptive refinement: probabilities flow between nearby pixels of like colour",
        "crf": "fully connected CRF: borders move to edges of colour",
        TTA: f"test-time augmentation: mean logits of the tile and its mirror image at {sizes} px",
        SYMMETRIC: "mean logits of the tile turned and mirrored in all eight ways, as on slides with --tta",
    }


def check_refinements(names: tuple[str, ...]) -> None:
    """Refuse a refinement that nobody knows.

    Raises:
        ConfigError: a name is not among ``NAMES``.
    """
    for name in names:
        if name not in NAMES:
            raise ConfigError(f"refinement {name!r} is unknown: choose among {', '.join(NAMES)}")


def refine(name: str, pictures: Tensor, probabilities: Tensor) -> Tensor:
    """Refine a batch; on a CPU several tiles at once, each in one thread, which is faster than one after the other.

    Args:
        name: of ``REFINEMENTS``.
        pictures: (B, 3, H, W) RGB in [0, 1].
        probabilities: (B, C, H, W), summing to 1 over C.

    Returns:
        (B, C, H, W) refined probabilities.
    """
    function = REFINEMENTS[name]
    threads = min(_MOST_THREADS, torch.get_num_threads(), os.cpu_count() or 1, len(pictures))
    if threads == 1 or pictures.device.type != "cpu":
        return function(pictures, probabilities)
    with cpu_threads(1), ThreadPoolExecutor(threads) as pool:
        return torch.cat(list(pool.map(function, torch.split(pictures, 1), torch.split(probabilities, 1))))

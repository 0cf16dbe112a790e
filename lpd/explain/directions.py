"""Reads where a checkpoint's prototypes point to in its encoder's features."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from lpd.explain.projection import PrototypeDirections
from lpd.model.header import CheckpointInfo
from lpd.model.network import LPDNet


@torch.inference_mode()
def read_directions(network: LPDNet, info: CheckpointInfo, names: Sequence[str] = ()) -> PrototypeDirections:
    """The adapted prototypes of the deepest scale, each of length 1; a linear head's weight vectors."""
    adapted = network.adapted_prototypes()[max(info.model.scales)]
    directions = torch.nn.functional.normalize(adapted.double(), dim=1).cpu().numpy()
    digest = hashlib.sha256()
    for name, weight in sorted(network.encoder.state_dict().items()):
        digest.update(name.encode())
        digest.update(weight.detach().cpu().contiguous().numpy().tobytes())
    return PrototypeDirections(info.name, info.classes, directions, digest.hexdigest(), tuple(names))

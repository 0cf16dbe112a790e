"""Which number format the network computes in while it trains."""

from __future__ import annotations

import torch

from lpd.inference.devices import computes_bf16
from lpd.recipe.config import Precision

_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def settled(precision: Precision, device: torch.device) -> Precision:
    """``auto`` as what it stands for on a device: ``bf16`` where that has instructions of its own, else ``fp32``."""
    if precision != "auto":
        return precision
    return "bf16" if computes_bf16(device) else "fp32"


def autocast_type(precision: Precision, device: torch.device) -> torch.dtype | None:
    """The half-precision type to cast to; None for ``fp32``."""
    return _HALF.get(settled(precision, device))

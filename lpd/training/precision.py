"""Which number format the network computes in while it trains."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch

Precision: TypeAlias = Literal["auto", "fp32", "bf16", "fp16"]
_HALF = {"bf16": torch.bfloat16, "fp16": torch.float16}


def settled(precision: Precision, device: torch.device) -> Precision:
    """``auto`` as what it stands for on a device: ``bf16`` where that has instructions of its own, else ``fp32``."""
    if precision != "auto":
        return precision
    return "bf16" if _computes_bf16(device) else "fp32"


def autocast_type(precision: Precision, device: torch.device) -> torch.dtype | None:
    """The half-precision type to cast to; None for ``fp32``."""
    return _HALF.get(settled(precision, device))


def _computes_bf16(device: torch.device) -> bool:
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    ask = getattr(torch.cpu, "get_capabilities", None)  # which older versions of torch lack
    found = ask() if ask is not None else {}
    return bool(found.get("avx512_bf16") or found.get("amx_bf16") or found.get("bf16"))

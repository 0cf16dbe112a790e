"""Checkpoint files: weights and everything needed to run them in one safetensors file; nothing is ever pickled."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Literal

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

import lpd
from lpd.errors import CheckpointError, ConfigError
from lpd.model.encoders import freeze_folded_batch_norm
from lpd.model.header import METADATA_KEY, CheckpointInfo, read_info
from lpd.model.network import LPDNet
from lpd.model.quick_timm import timm
from lpd.runs import replacing

_HALF_MAX = torch.finfo(torch.float16).max


def save_checkpoint(
    path: Path, network: LPDNet, info: CheckpointInfo, *, dtype: Literal["float32", "float16"] = "float32"
) -> None:
    """Write a checkpoint; readers see the old file or the new one, never a part.

    Args:
        path: ends in ``.safetensors``.
        network: built from ``info.model``; its device and mode do not matter.
        info: the description; its path and versions are replaced.
        dtype: ``float16`` halves the file by storing matrices and kernels in half precision (relative error 5e-4);
            vectors (norms, biases, batch statistics) stay float32, as do tensors that would overflow.

    Raises:
        CheckpointError: the description is of another network, a weight is not finite, or the disk refuses.
    """
    if network.config != info.model:
        raise CheckpointError(f"{path} was not written: the network is {network.config}, its description {info.model}")
    tensors = {name: _stored(path, name, value, dtype) for name, value in network.state_dict().items()}
    versions = {"lpd": lpd.__version__, "torch": str(torch.__version__), "timm": str(timm.__version__)}
    document = dataclasses.replace(info, versions=versions).to_document()
    try:
        text = json.dumps(document, ensure_ascii=False, allow_nan=False)
        with replacing(path) as temporary:
            # Written by Python, with the rights that the person's files usually have; save_file hides it from others.
            temporary.write_bytes(save(tensors, {METADATA_KEY: text}))
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{path} was not written: its scores or training record is not JSON: {error}") from error
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"cannot write {path} ({error}): free some space or choose another folder") from error


def load_checkpoint(path: Path, device: torch.device | str = "cpu") -> tuple[LPDNet, CheckpointInfo]:
    """Load a network in evaluation mode, float32, with its description.

    Args:
        path: a file written by :func:`save_checkpoint`.
        device: where the network goes.

    Raises:
        CheckpointError: the file is missing, truncated or foreign, its encoder unknown, or a tensor is missing,
            unexpected, not finite, or of the wrong shape or type.
    """
    info = read_info(path)
    try:
        network = LPDNet(info.model)
    except ConfigError as error:
        raise CheckpointError(f"{path} cannot be built: {error}") from error
    try:
        tensors = load_file(path)
    except (OSError, SafetensorError) as error:
        raise CheckpointError(f"{path} is damaged ({error}): save or download it again") from error
    _check_tensors(path, network.state_dict(), tensors)
    network.load_state_dict(tensors)  # copies into float32 parameters
    freeze_folded_batch_norm(network.encoder)
    return network.to(device).eval(), info


def _stored(path: Path, name: str, value: Tensor, dtype: str) -> Tensor:
    tensor = value.detach().cpu()
    if tensor.is_floating_point():
        if not bool(torch.isfinite(tensor).all()):
            raise CheckpointError(f"{path} was not written: {name} is not finite; lower the learning rate")
        halved = dtype == "float16" and tensor.ndim > 1 and float(tensor.abs().max()) <= _HALF_MAX
        tensor = tensor.to(torch.float16 if halved else torch.float32)
    return tensor.contiguous().clone()


def _check_tensors(path: Path, expected: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    missing, extra = sorted(expected.keys() - found.keys()), sorted(found.keys() - expected.keys())
    if missing or extra:
        which = f"lacks {missing[0]}" if missing else f"has an unexpected {extra[0]}"
        raise CheckpointError(
            f"{path} does not fit the network that it describes: it {which} "
            f"({len(missing)} tensors missing, {len(extra)} unexpected): save it again or update timm"
        )
    for name, tensor in expected.items():
        if tensor.shape != found[name].shape:
            raise CheckpointError(
                f"{path} does not fit the network that it describes: {name} is {tuple(found[name].shape)} "
                f"and should be {tuple(tensor.shape)}: save it again or update timm"
            )
        _check_values(path, name, tensor.dtype, found[name])


def _check_values(path: Path, name: str, dtype: torch.dtype, found: Tensor) -> None:
    if found.dtype != dtype and not (found.is_floating_point() and dtype.is_floating_point):
        raise CheckpointError(f"{path} is damaged: {name} is {found.dtype} and should be {dtype}: download it again")
    if not bool(torch.isfinite(found.to(dtype)).all()):
        raise CheckpointError(f"{path} is damaged: {name} is not finite: train or download it again")

"""Swin weights under Hugging Face's names, alone or inside MedCLIP, for timm's Swin."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from lpd.errors import CheckpointError
from lpd.model.encoder_weights import check_fit

#: A name that only Hugging Face's Swin has; what stands before it wraps all its names.
SWIN_MARK = "encoder.layers.0.blocks.0.layernorm_before.weight"

#: Parts of Hugging Face's names and timm's words for them; query, key and value are joined separately.
_SWIN_WORDS = {
    "embeddings.patch_embeddings.projection.": "patch_embed.proj.",
    "embeddings.norm.": "patch_embed.norm.",
    "encoder.layers.": "layers.",
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.self.query": "attn.qkv",
    "attention.self.relative": "attn.relative",
    "attention.output.dense": "attn.proj",
    "intermediate.dense": "mlp.fc1",
    "output.dense": "mlp.fc2",
    "layernorm.": "norm.",
}


def fill_swin(body: nn.Module, path: Path, tensors: Mapping[str, Tensor], wrapper: str) -> nn.Module:
    """Fill timm's Swin in place.

    Args:
        body: the network.
        path: the file, for messages.
        tensors: what it holds.
        wrapper: what stands before all names of the Swin in it.

    Returns:
        What follows the pooling: MedCLIP's projection where the file has one, else nothing.

    Raises:
        CheckpointError: the file does not fit the network.
    """
    found = {name.removeprefix(wrapper): value for name, value in tensors.items() if name.startswith(wrapper)}
    head = wrapper.removesuffix("model.") + "projection_head.weight"
    found.pop(head, None)
    renamed = {_swin_name(name): _with_key_and_value(name, found) for name in found if ".self.query" in name}
    renamed |= {_swin_name(n): v for n, v in found.items() if not re.search(r"\.self\.(query|key|value)\.", n)}
    expected: dict[str, Tensor] = body.state_dict()
    matched = {name: renamed[name] for name in expected if name in renamed}
    check_fit(path, "Hugging Face Swin", expected, matched, tuple(sorted(renamed.keys() - matched.keys())))
    projection = _projection(path, tensors[head], len(matched["norm.weight"])) if head in tensors else nn.Identity()
    body.load_state_dict(matched, strict=False)
    return projection


def _swin_name(name: str) -> str:
    # Hugging Face counts the merging of patches to the stage before it, timm to the stage after it.
    name = re.sub(r"^(encoder\.layers\.)(\d+)(\.downsample\.)", lambda m: f"{m[1]}{int(m[2]) + 1}{m[3]}", name)
    for theirs, timms in _SWIN_WORDS.items():
        name = name.replace(theirs, timms)
    return name


def _with_key_and_value(query: str, found: Mapping[str, Tensor]) -> Tensor:
    parts = [found[query], *(found.get(query.replace(".query.", f".{p}."), found[query][:0]) for p in ("key", "value"))]
    return torch.cat(parts)


def _projection(path: Path, weight: Tensor, features: int) -> nn.Linear:
    if weight.ndim != 2 or weight.shape[1] != features or not bool(torch.isfinite(weight).all()):
        raise CheckpointError(
            f"{path} projects by {tuple(weight.shape)} numbers, not by finite ones of shape (D, {features}): "
            "check that it is the file of this network"
        )
    projection = nn.Linear(features, len(weight), bias=False)
    projection.load_state_dict({"weight": weight})
    return projection

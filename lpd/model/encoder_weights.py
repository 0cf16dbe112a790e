"""Encoder weights from local files: NVIDIA's, Hugging Face's or timm's names, or those of an LPD checkpoint."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from torch import Tensor

from lpd.errors import CheckpointError
from lpd.model.encoders import Encoder, freeze_folded_batch_norm, reason
from lpd.model.header import METADATA_KEY, CheckpointInfo, read_info

Layout = Literal["NVIDIA SegFormer", "Hugging Face SegFormer", "timm", "LPD checkpoint"]

_MIT_NOTICE = (
    "MiT encoder weights were published by NVIDIA under a non-commercial licence "
    "(NVIDIA Source Code License for SegFormer): research and evaluation only"
)
_OTHER_NOTICE = "the licence of the encoder weights is that of their publisher"

#: What the names of an LPD checkpoint's encoder begin with.
_ENCODER = "encoder.body."
#: Wrappers that training scripts put around an encoder's own names.
_WRAPPERS = ("module.", "backbone.", "segformer.", "_orig_mod.")
#: First parts of names that belong to what comes after the feature maps, and may be left over.
_HEADS = {"head", "head_dist", "head_drop", "norm_head", "classifier", "fc", "fc_norm", "norm", "conv_norm"}
_HEADS |= {"conv_head", "bn2", "pre_logits", "attn_pool", "decode_head"}
#: Last parts of names of buffers that older timm versions stored and newer ones compute.
_COMPUTED = ("attn_mask", "relative_position_index", "relative_coords_table")
#: What readers raise on bytes that are no weights file; a damaged pickle can fail at any instruction.
_UNREADABLE = (OSError, SafetensorError, RuntimeError, EOFError, ValueError, LookupError, TypeError, AttributeError)


@dataclass(frozen=True)
class LoadedWeights:
    """What was loaded into an encoder.

    Attributes:
        path: the file.
        layout: whose names it uses.
        left_over: names in the file that the encoder has no place for (classification heads).
        batch_norm_frozen: its batch norms were folded, so the encoder keeps their statistics as loaded.
        notice: one line on the licence, for people.
    """

    path: Path
    layout: Layout
    left_over: tuple[str, ...]
    batch_norm_frozen: bool
    notice: str

    def describe(self) -> str:
        """One line for logs and manifests."""
        frozen = "; batch norms were folded, their statistics stay as loaded" if self.batch_norm_frozen else ""
        return f"encoder weights from {self.path.name} ({self.layout} names){frozen}; {self.notice}"


def load_encoder_weights(encoder: Encoder, path: Path) -> LoadedWeights:
    """Fill every parameter of an encoder from a file; nothing is downloaded and nothing in the file is executed.

    MiT weights were trained with LayerNorm eps 1e-6, the encoder's default, whichever names they carry; transformers
    evaluates them with 1e-5, which ``layer_norm_eps`` reproduces.

    Args:
        encoder: any encoder of :func:`lpd.model.encoders.build_encoder`.
        path: ``.safetensors``, or a ``.pth``, ``.pt`` or ``.bin`` file of plain tensors, possibly under
            ``state_dict`` or ``model``; or an LPD checkpoint, of which the encoder is taken.

    Raises:
        CheckpointError: the file is unreadable or contains code, a parameter is missing from it, is not finite or has
            another shape, or it holds weights that are neither the encoder's nor a head's. The encoder is then
            untouched.
    """
    start = start_checkpoint(path)
    found = _strip_wrappers(read_tensors(path)) if start is None else _own_encoder(path)
    layout = _layout(found) if start is None else "LPD checkpoint"
    expected: dict[str, Tensor] = encoder.body.state_dict()
    renamed = _RENAMERS[layout](found, expected)
    matched = {name: renamed[name] for name in expected if name in renamed}
    left_over = tuple(sorted(renamed.keys() - matched.keys()))
    check_fit(path, layout, expected, matched, left_over)
    encoder.body.load_state_dict(matched, strict=False)  # only batch counters may be absent, as just checked
    if start is not None:
        notice = f"encoder taken from the model {start.name}: {start.notice}"
    else:
        notice = _OTHER_NOTICE if layout == "timm" else _MIT_NOTICE
    return LoadedWeights(path, layout, left_over, freeze_folded_batch_norm(encoder), notice)


def start_checkpoint(path: Path) -> CheckpointInfo | None:
    """What an LPD checkpoint says of itself, whose encoder a training may start from; None for any other file.

    Raises:
        CheckpointError: it is an LPD checkpoint, but damaged or of another version.
    """
    try:
        with safe_open(path, "numpy") as file:
            own = METADATA_KEY in (file.metadata() or {})
    except _UNREADABLE:  # no safetensors file
        return None
    return read_info(path) if own else None


def _own_encoder(path: Path) -> dict[str, Tensor]:
    tensors = read_tensors(path)
    return {name.removeprefix(_ENCODER): value for name, value in tensors.items() if name.startswith(_ENCODER)}


def read_tensors(path: Path) -> dict[str, Tensor]:
    """The tensors of a weights file by their names in it; see :func:`load_encoder_weights` for which files.

    Raises:
        CheckpointError: the file is unreadable, holds code, or is no dictionary of tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content: Any = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is damaged or holds code, which is never loaded: save the state_dict alone"
        ) from error
    except _UNREADABLE as error:
        raise CheckpointError(
            f"encoder weights {path} cannot be read ({reason(error)}): check the path, or download them again"
        ) from error
    for key in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    if not isinstance(content, Mapping) or not all(isinstance(v, Tensor) for v in content.values()):
        raise CheckpointError(f"{path} is not a dictionary of tensors: save the encoder's state_dict")
    return {str(name): value for name, value in content.items()}


def _strip_wrappers(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    stripped = {}
    for name, value in tensors.items():
        bare = name
        while wrapper := next((w for w in _WRAPPERS if bare.startswith(w)), ""):
            bare = bare[len(wrapper) :]
        stripped[bare] = value
    return stripped


def _layout(names: Mapping[str, Tensor]) -> Layout:
    if any(name.startswith("encoder.patch_embeddings.") for name in names):
        return "Hugging Face SegFormer"
    if any(name.startswith("patch_embed1.") for name in names):
        return "NVIDIA SegFormer"
    return "timm"


def _from_nvidia(found: Mapping[str, Tensor], _expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {_nvidia_name(name): value for name, value in found.items()}


def _nvidia_name(name: str) -> str:
    if match := re.fullmatch(r"patch_embed(\d)\.(.+)", name):
        return _patch_embed(int(match[1]) - 1) + match[2]
    if match := re.fullmatch(r"block(\d)\.(\d+)\.(.+)", name):
        return f"stages.{int(match[1]) - 1}.blocks.{match[2]}.{match[3].replace('dwconv.dwconv', 'dwconv')}"
    if match := re.fullmatch(r"norm(\d)\.(.+)", name):
        return f"stages.{int(match[1]) - 1}.norm.{match[2]}"
    return name


def _patch_embed(stage: int) -> str:
    return "patch_embed." if stage == 0 else f"stages.{stage}.downsample."


#: Parts of a Hugging Face block's names and timm's words for them; key and value are joined separately.
_HF_BLOCK = {
    "layer_norm_1": "norm1",
    "layer_norm_2": "norm2",
    "attention.self.query": "attn.q",
    "attention.self.sr": "attn.sr",
    "attention.self.layer_norm": "attn.norm",
    "attention.output.dense": "attn.proj",
    "mlp.dense1": "mlp.fc1",
    "mlp.dense2": "mlp.fc2",
    "mlp.dwconv.dwconv": "mlp.dwconv",
}


def _from_hugging_face(found: Mapping[str, Tensor], _expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in found.items():
        if name.endswith((".self.value.weight", ".self.value.bias")):
            continue  # joined to its key below
        if match := re.fullmatch(r"(.+\.self)\.key\.(weight|bias)", name):
            partner = found.get(f"{match[1]}.value.{match[2]}", value[:0])
            block = _hugging_face_name(f"{match[1]}.query.{match[2]}")
            renamed[block.replace(".attn.q.", ".attn.kv.")] = torch.cat([value, partner])
        else:
            renamed[_hugging_face_name(name)] = value
    return renamed


def _hugging_face_name(name: str) -> str:
    if match := re.fullmatch(r"encoder\.patch_embeddings\.(\d)\.(proj|layer_norm)\.(.+)", name):
        return _patch_embed(int(match[1])) + ("proj." if match[2] == "proj" else "norm.") + match[3]
    if match := re.fullmatch(r"encoder\.block\.(\d)\.(\d+)\.(.+)\.(weight|bias)", name):
        return f"stages.{match[1]}.blocks.{match[2]}.{_HF_BLOCK.get(match[3], match[3])}.{match[4]}"
    if match := re.fullmatch(r"encoder\.layer_norm\.(\d)\.(.+)", name):
        return f"stages.{match[1]}.norm.{match[2]}"
    return name


def _from_timm(found: Mapping[str, Tensor], expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {_timm_name(name, expected): value for name, value in found.items()}


def _timm_name(name: str, expected: Mapping[str, Tensor]) -> str:
    # Feature extraction in timm joins the first levels of a network ("stages.0" becomes "stages_0") or wraps it.
    parts = name.removeprefix("model.").split(".")
    candidates = [name, ".".join(parts), "model." + ".".join(parts)]
    candidates += ["_".join(parts[:n]) + "." + ".".join(parts[n:]) for n in (2, 3) if len(parts) > n]
    return next((candidate for candidate in candidates if candidate in expected), ".".join(parts))


def _from_own(found: Mapping[str, Tensor], _expected: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return dict(found)


_RENAMERS = {
    "NVIDIA SegFormer": _from_nvidia,
    "Hugging Face SegFormer": _from_hugging_face,
    "timm": _from_timm,
    "LPD checkpoint": _from_own,
}


def check_fit(
    path: Path, layout: str, expected: Mapping[str, Tensor], matched: Mapping[str, Tensor], left_over: tuple[str, ...]
) -> None:
    """Make sure that renamed tensors fill a network.

    Args:
        path: their file.
        layout: whose names it uses, for people.
        expected: ``state_dict`` of the network.
        matched: what was found for it, by the network's names.
        left_over: names of the file that are nobody's.

    Raises:
        CheckpointError: one is missing, not finite or of another shape, or ``left_over`` holds more than a head.
    """
    missing = [name for name in expected if name not in matched and not name.endswith("num_batches_tracked")]
    if missing:
        raise CheckpointError(
            f"{path} ({layout} names) does not fill this encoder: {len(missing)} of {len(expected)} weights are "
            f"missing, first {missing[0]}; check that file and encoder are the same architecture"
        )
    for name, value in matched.items():
        if value.shape != expected[name].shape:
            raise CheckpointError(
                f"{path} does not fit this encoder: {name} is {tuple(value.shape)} and should be "
                f"{tuple(expected[name].shape)}; check that file and encoder are the same architecture"
            )
        if value.is_complex() or not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"{path} holds values in {name} that are not finite numbers: download it again or choose another file"
            )
    foreign = [n for n in left_over if n.split(".")[0] not in _HEADS and n.rpartition(".")[2] not in _COMPUTED]
    if foreign:
        raise CheckpointError(
            f"{path} holds {len(foreign)} weights that this encoder has no place for, first {foreign[0]}; "
            f"check that file and encoder are the same architecture"
        )

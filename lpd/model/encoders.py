"""Encoders by name: any image network behind one small interface that yields its deepest feature maps."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lpd.errors import ConfigError
from lpd.model.quick_timm import timm

#: Parts of the names that timm gives to learnt positions. Swin's are relative and belong to its own fixed windows.
_POSITIONS = ("pos_emb", "rel_pos", "patch_pos", "pixel_pos", "attention_biases")


#: Layers that do the same at each place, beside PyTorch's activations.
_BY_PLACE = nn.Conv2d, nn.BatchNorm2d, nn.MaxPool2d, nn.AvgPool2d, nn.Identity, nn.Dropout, nn.Dropout2d


class Encoder(nn.Module):
    """A feature extractor; calling it gives its deepest maps, fine to deep.

    Map i is (B, channels[i], H / strides[i], W / strides[i]).

    Attributes:
        body: the wrapped network; encoder weight files are matched against its names.
        channels: D_s of each map.
        strides: nominal input pixels per map pixel.
        knows_positions: whether it has learnt positions for one size of input, and so sees a picture in another way in
            a larger input.
    """

    body: Any  # timm's networks are untyped

    def __init__(self, body: nn.Module, channels: Sequence[int], strides: Sequence[int]) -> None:
        super().__init__()
        self.body = body
        self.channels = tuple(channels)
        self.strides = tuple(strides)
        self.knows_positions = any(mark in name for name, _ in body.named_parameters() for mark in _POSITIONS)
        self._batch_norm_frozen = False

    @property
    def works_by_place(self) -> bool:
        """Whether every layer is known to take any size of input, so that nobody need try."""
        layers = (m for m in self.body.modules() if not any(True for _ in m.children()))
        return all(isinstance(m, _BY_PLACE) or type(m).__module__ == nn.ReLU.__module__ for m in layers)

    def freeze_batch_norm(self) -> None:
        """Keep batch norms at their stored statistics, in training mode too (small batches, folded weights)."""
        self._batch_norm_frozen = True
        self.train(self.training)

    def train(self, mode: bool = True) -> Encoder:
        super().train(mode)
        if self._batch_norm_frozen:
            for norm in batch_norms(self):
                norm.eval()
        return self


class MixTransformer(Encoder):
    """SegFormer's MiT on timm's PVTv2; each map comes after its stage's LayerNorm."""

    works_by_place = True  # its positions come from convolutions

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.body.forward_intermediates(
            images, indices=len(self.channels), intermediates_only=True
        )
        return maps


class TimmEncoder(Encoder):
    """Any timm network built with ``features_only``; channel-last maps are turned to (B, D, h, w)."""

    def __init__(self, body: nn.Module, channels: Sequence[int], strides: Sequence[int], *, nhwc: bool) -> None:
        super().__init__(body, channels, strides)
        self._nhwc = nhwc

    def forward(self, images: Tensor) -> list[Tensor]:
        maps: list[Tensor] = self.body(images)
        return [m.permute(0, 3, 1, 2) for m in maps] if self._nhwc else maps


class _MitShape(NamedTuple):
    dims: tuple[int, int, int, int]
    depths: tuple[int, int, int, int]


_MIT = {
    "mit_b0": _MitShape((32, 64, 160, 256), (2, 2, 2, 2)),
    "mit_b1": _MitShape((64, 128, 320, 512), (2, 2, 2, 2)),
    "mit_b2": _MitShape((64, 128, 320, 512), (3, 4, 6, 3)),
    "mit_b3": _MitShape((64, 128, 320, 512), (3, 4, 18, 3)),
    "mit_b4": _MitShape((64, 128, 320, 512), (3, 8, 27, 3)),
    "mit_b5": _MitShape((64, 128, 320, 512), (3, 6, 40, 3)),
}

#: timm modules whose networks insist on one image size unless told otherwise.
_ANY_SIZE: dict[str, dict[str, bool]] = {
    "swin_transformer": {"strict_img_size": False},
    "swin_transformer_v2": {"strict_img_size": False},
    "vision_transformer": {"dynamic_img_size": True, "dynamic_img_pad": True},
    "deit": {"dynamic_img_size": True},
    "eva": {"dynamic_img_size": True},
}

#: What timm networks raise when they are given an option or an image size that they do not know or cannot honour.
TIMM_REFUSALS = (TypeError, ValueError, AttributeError, LookupError, ArithmeticError, AssertionError, RuntimeError)

#: Options that would make timm read files or the network, or undo what is asked of it here; a foreign checkpoint's
#: header may hold anything.
_RESERVED = frozenset(
    {"pretrained", "checkpoint_path", "cache_dir", "pretrained_cfg", "pretrained_cfg_overlay", "in_chans"}
    | {"features_only", "out_indices", "feature_cls", "exportable", "scriptable"}
)


def build_encoder(
    name: str, *, maps: int = 4, last_stride: int = 1, options: Sequence[tuple[str, Any]] = ()
) -> Encoder:
    """Build a randomly initialised encoder.

    Args:
        name: ``mit_b0`` … ``mit_b5`` or a timm model name.
        maps: how many of the deepest maps to give; 1–4.
        last_stride: stride of the deepest stage (1 or 2) where the network allows it: ``mit_*``, and timm networks
            that accept ``output_stride``; others, and 0, keep their own.
        options: extra keyword arguments of the network. For ``mit_*`` those of PVTv2, ``drop_path_rate`` (0.1) and
            ``layer_norm_eps`` (1e-6 as trained by NVIDIA; transformers evaluates with 1e-5).

    Raises:
        ConfigError: the name is unknown, an option is, or the network has fewer maps than asked for.
    """
    if last_stride not in (0, 1, 2):
        raise ConfigError(f"last_stride {last_stride} is not 0 (the encoder's own), 1 or 2")
    if not 1 <= maps <= 4:
        raise ConfigError(f"an encoder gives 1 to 4 maps, not {maps}")
    settings = plain_options(options)
    if name in _MIT:
        return _mix_transformer(name, maps, last_stride, settings)
    return _timm_encoder(name, maps, last_stride, settings)


def batch_norms(module: nn.Module) -> list[nn.BatchNorm2d | nn.SyncBatchNorm]:
    """The batch norms inside a module."""
    return [m for m in module.modules() if isinstance(m, nn.BatchNorm2d | nn.SyncBatchNorm)]


def freeze_folded_batch_norm(encoder: Encoder) -> bool:
    """Freeze the batch norms' statistics if they were folded into the convolutions (mean 0, variance 1, bias used).

    Batch statistics would undo what was folded, so such an encoder must never run them; gains and biases still train.

    Returns:
        Whether they were folded, and are now frozen.
    """
    norms = batch_norms(encoder)
    plain = all(_is_identity(n.running_mean, 0.0) and _is_identity(n.running_var, 1.0) for n in norms)
    # A fresh network has the same statistics but no biases yet.
    folded = bool(norms) and plain and any(bool(n.bias.count_nonzero()) for n in norms)
    if folded:
        encoder.freeze_batch_norm()
    return folded


def reason(error: Exception) -> str:
    """First line of what a library complains of (some go on with a list of signatures), its kind if it says nothing."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def _is_identity(statistic: Tensor | None, value: float) -> bool:
    # Whoever folds may subtract the norm's eps (1e-5) from the variance to make it exact.
    return statistic is not None and bool(torch.all((statistic - value).abs() < 1e-4))


def plain_options(options: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Options of a timm network as keyword arguments.

    Raises:
        ConfigError: they are no (name, value) pairs, or one would make timm read files or the network.
    """
    try:
        settings = dict(options)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"encoder options {options!r} are not (name, value) pairs") from error
    if reserved := sorted(_RESERVED & settings.keys()):
        raise ConfigError(f"encoder option {reserved[0]!r} is not for settings: leave it out")
    return settings


def _mix_transformer(name: str, maps: int, last_stride: int, options: dict[str, Any]) -> Encoder:
    # What makes timm's PVTv2 into MiT: mlp ratio 4 in every stage, no head, the eps only in block and stage norms.
    settings: dict[str, Any] = {
        "depths": _MIT[name].depths,
        "embed_dims": _MIT[name].dims,
        "num_heads": (1, 2, 5, 8),
        "sr_ratios": (8, 4, 2, 1),
        "mlp_ratios": (4.0, 4.0, 4.0, 4.0),
        "drop_path_rate": 0.1,
        "layer_norm_eps": 1e-6,
        **options,
    }
    try:
        settings["norm_layer"] = partial(nn.LayerNorm, eps=float(settings.pop("layer_norm_eps")))
        body = timm.models.pvt_v2.PyramidVisionTransformerV2(qkv_bias=True, num_classes=0, global_pool="", **settings)
    except TIMM_REFUSALS as error:
        raise ConfigError(
            f"encoder {name} cannot be built with the options {options} ({reason(error)}): correct or omit them"
        ) from error
    if last_stride == 1:
        deepest: Any = body.stages[3]
        deepest.downsample.proj.stride = (1, 1)
    strides = (4, 8, 16, 16 if last_stride == 1 else 32)
    channels = [int(info["num_chs"]) for info in body.feature_info]
    return MixTransformer(body, channels[-maps:], strides[-maps:])


def _timm_encoder(name: str, maps: int, last_stride: int, options: dict[str, Any]) -> Encoder:
    # "hf-hub:" and "local-dir:" names would fetch or read settings from elsewhere: plain architectures only.
    if ":" in name or not timm.is_model(name):
        near = difflib.get_close_matches(name, [*_MIT, *timm.list_models()], n=3)
        hint = f"; did you mean {', '.join(near)}?" if near else ": use mit_b0 … mit_b5 or a timm model name"
        raise ConfigError(f"encoder {name!r} is unknown{hint}")
    family = timm.models.model_entrypoint(name).__module__.rpartition(".")[2]
    options = {**_ANY_SIZE.get(family, {}), **options}
    attempts = [{"output_stride": 16, **options}, options] if last_stride == 1 else [options]
    body = _first_that_builds(name, maps, attempts)
    output_format = str(getattr(getattr(body, "output_fmt", None), "value", "NCHW"))
    if output_format not in ("NCHW", "NHWC"):
        raise ConfigError(
            f"encoder {name} gives {output_format} features, not maps: choose a network with feature maps"
        )
    info: Any = body.feature_info
    return TimmEncoder(body, info.channels(), info.reduction(), nhwc=output_format == "NHWC")


def _first_that_builds(name: str, maps: int, attempts: Sequence[Mapping[str, Any]]) -> nn.Module:
    refusal: Exception | None = None
    for options in attempts:
        try:
            body: nn.Module = timm.create_model(
                name, pretrained=False, features_only=True, out_indices=tuple(range(-maps, 0)), **options
            )
            return body
        except TIMM_REFUSALS as error:
            refusal = error
    assert refusal is not None
    raise ConfigError(
        f"encoder {name} cannot give its {maps} deepest maps with the options {dict(attempts[-1])} "
        f"({reason(refusal)}): correct the options or choose another encoder"
    ) from refusal

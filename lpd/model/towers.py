"""Towers: frozen image networks that tell L_sim what a part of an image looks like."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from lpd.config import InputSpec, Settings
from lpd.errors import ConfigError, ShapeError
from lpd.model.cam import at_least_float32
from lpd.model.encoder_weights import load_encoder_weights, read_tensors
from lpd.model.encoders import TIMM_REFUSALS, Encoder, plain_options, reason
from lpd.model.quick_timm import timm
from lpd.model.swin_names import SWIN_MARK, fill_swin

#: Images in one pass, which bounds its memory however many pairs there are. On a CPU few images stay in its caches:
#: mobilenetv2_100 is about twice as fast on 8 at a time as on 64.
_IMAGES_AT_ONCE = {"cpu": 8}
_IMAGES_AT_ONCE_ELSEWHERE = 64


class Tower(ABC):
    """A frozen image network: it has no gradients, is never in training mode, and is nobody's submodule.

    It is no ``nn.Module`` so that what holds a tower cannot save, train or optimise it by accident.

    Attributes:
        dim: D, length of an embedding.
        description: one line on what it is and where its weights came from.
    """

    dim: int
    description: str

    def __init__(self, network: nn.Module, description: str) -> None:
        self._network = network.requires_grad_(False).eval()
        self._network.to(memory_format=torch.channels_last)
        self.description = description

    def to(self, device: torch.device | str) -> None:
        """Move to a device."""
        self._network.to(device)

    @torch.no_grad()
    def embed(self, images: Tensor) -> Tensor:
        """(N, D) embeddings of (N, 3, H, W) images, normalised as for the network in training."""
        parts = [self._embed(part) for part in _parts(images)]
        return torch.cat(parts) if len(images) else images.new_zeros((0, self.dim))

    @torch.no_grad()
    def embed_masked(self, images: Tensor, masks: Tensor, image_index: Tensor) -> Tensor:
        """Embed parts of images in one pass per image: the deepest map is averaged over each mask.

        A map's pixel counts by the share of it that the mask covers. Its receptive field reaches beyond the mask, so a
        part is seen in its surroundings, unlike in an image that was masked before.

        Args:
            images: (B, 3, H, W), normalised as for the network in training.
            masks: (N, h, w) bool or shares in [0, 1], of any resolution.
            image_index: (N,) int64, the image of each mask.

        Returns:
            (N, D). An empty mask counts as a map that is 0 everywhere.

        Raises:
            ShapeError: masks and indices do not pair up.
        """
        if masks.ndim != 3 or image_index.shape != masks.shape[:1]:
            raise ShapeError(
                f"masks {tuple(masks.shape)} and images {tuple(image_index.shape)} are not (N, h, w) and (N,)"
            )
        if not len(masks):
            return images.new_zeros((0, self.dim))
        maps = at_least_float32(torch.cat([self._maps(part) for part in _parts(images)]))
        return self._finish(_masked_means(maps, masks, image_index))

    @abstractmethod
    def _embed(self, images: Tensor) -> Tensor:
        """(N, D) of (N, 3, H, W)."""

    @abstractmethod
    def _maps(self, images: Tensor) -> Tensor:
        """(B, D', h, w) deepest maps of (B, 3, H, W)."""

    @abstractmethod
    def _finish(self, pooled: Tensor) -> Tensor:
        """(N, D) embeddings of (N, D') averaged map pixels."""


class EncoderTower(Tower):
    """A frozen copy of the network's own encoder: its deepest map, averaged."""

    _network: Encoder

    def __init__(self, encoder: Encoder, description: str) -> None:
        super().__init__(copy.deepcopy(encoder), description)
        self.dim = encoder.channels[-1]

    def _embed(self, images: Tensor) -> Tensor:
        return at_least_float32(self._maps(images)).mean((2, 3))

    def _maps(self, images: Tensor) -> Tensor:
        maps: list[Tensor] = self._network(images)
        return maps[-1]

    def _finish(self, pooled: Tensor) -> Tensor:
        return pooled


class AveragedTower(EncoderTower):
    """A copy of the network's encoder that follows the averaged weights of the training."""

    @torch.no_grad()
    def refresh(self, values: Mapping[str, Tensor]) -> None:
        """Take over averaged weights; those that are not named stay.

        It costs one copy of the encoder's weights, a small part of a step: do it before every step, and a resumed
        training sees the very tower that it would have seen otherwise. Rarer refreshes would have to be saved.

        Args:
            values: by their names in the network, ``encoder.…``; other names are passed over.

        Raises:
            ShapeError: a name or shape is not the encoder's, or no value is for it.
        """
        own = self._network.state_dict()
        news = {name.removeprefix("encoder."): v for name, v in values.items() if name.startswith("encoder.")}
        wrong = next((n for n, v in news.items() if n not in own or own[n].shape != v.shape), None)
        if wrong is not None or not news:
            raise ShapeError(f"averaged weights do not fit the tower's encoder at {wrong or 'any name'}")
        for name, value in news.items():
            own[name].copy_(value)


def own_tower(encoder: Encoder, *, pretrained: bool) -> EncoderTower:
    """The encoder as it stands now, frozen; make it before the first step.

    Raises:
        ConfigError: the encoder is untrained.
    """
    if not pretrained:
        raise ConfigError(
            "tower 'own' copies the encoder, which has no trained weights: name a weights file for the encoder, "
            "choose tower 'ema', or switch L_sim off"
        )
    return EncoderTower(encoder, "the encoder as loaded, frozen")


def averaged_tower(encoder: Encoder) -> AveragedTower:
    """The averaged encoder; if it starts untrained, it says something only once the training has got somewhere."""
    return AveragedTower(encoder, "the encoder's averaged weights")


@dataclass(frozen=True)
class TowerView(Settings):
    """What a tower was trained to see.

    Attributes:
        mean, std: per RGB channel, of pixel values scaled to 0–1.
        image_px: width and height; 0 for what timm records of the network, or its option ``img_size``.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    image_px: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_bounds({"image_px": (0, 4096)})
        if min(self.std) <= 0:
            raise ConfigError(f"std {self.std} of a tower must be above 0: divide 8-bit values by 255")


class TimmTower(Tower):
    """Any timm network with the pooling it was trained with (class token, mean, …) and what follows it.

    Averaged map pixels go through the same pooling, as a map that is the same everywhere.
    """

    _network: nn.Sequential

    def __init__(
        self, body: nn.Module, projection: nn.Module, view: TowerView, network_input: InputSpec, description: str
    ) -> None:
        super().__init__(nn.Sequential(body, projection), description)
        self._body: Any = body  # timm's networks are untyped
        self._view, self._network_input = view, network_input
        self._layout: Literal["tokens", "NCHW", "NHWC"] = "tokens"
        self._prefix_tokens = int(getattr(body, "num_prefix_tokens", 0))
        self._try_out()

    @torch.no_grad()
    def _try_out(self) -> None:
        """Show it a blank image: what it cannot do is better known before the training."""
        px = self._view.image_px
        try:
            features: Tensor = self._body.forward_features(torch.zeros(1, 3, px, px))
            if features.ndim == 4:
                self._layout = "NCHW" if features.shape[1] == self._body.num_features else "NHWC"
            pooled = self._as_maps(features).mean((2, 3))
            embeddings = [self._network[1](self._body.forward_head(features)), self._finish(pooled)]
        except TIMM_REFUSALS as error:
            raise ConfigError(
                f"this tower cannot embed images of {px} px ({reason(error)}): give it the size and the options that "
                "its weights were trained with, or choose another timm name"
            ) from error
        self.dim = embeddings[0].shape[-1]
        if any(embedding.shape != (1, self.dim) for embedding in embeddings):
            raise ConfigError("this tower gives no single vector per image: choose a timm name that pools")

    def _embed(self, images: Tensor) -> Tensor:
        embeddings: Tensor = self._network(self._seen(images))
        return embeddings

    def _maps(self, images: Tensor) -> Tensor:
        return self._as_maps(self._body.forward_features(self._seen(images)))

    def _as_maps(self, features: Tensor) -> Tensor:
        if self._layout == "tokens":
            patches = features[:, self._prefix_tokens :].transpose(1, 2)
            side = math.isqrt(patches.shape[2])  # images are square, and so are the maps of all that is pooled
            return patches.reshape(*patches.shape[:2], side, side)
        return features if self._layout == "NCHW" else features.permute(0, 3, 1, 2)

    def _finish(self, pooled: Tensor) -> Tensor:
        if self._layout == "tokens":
            constant = pooled[:, None].expand(-1, self._prefix_tokens + 1, -1)
        else:
            constant = pooled[:, :, None, None] if self._layout == "NCHW" else pooled[:, None, None]
        embeddings: Tensor = self._network[1](self._body.forward_head(constant))
        return embeddings

    def _seen(self, images: Tensor) -> Tensor:
        """From the network's normalisation and size to the tower's."""
        size = (self._view.image_px,) * 2
        if images.shape[2:] != size:
            images = functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)
        source, target = self._network_input, self._view
        mean, std = (images.new_tensor(values)[:, None, None] for values in (source.mean, source.std))
        own_mean, own_std = (images.new_tensor(values)[:, None, None] for values in (target.mean, target.std))
        return images * (std / own_std) + (mean - own_mean) / own_std


def timm_tower(
    name: str,
    weights: Path | None,
    network_input: InputSpec,
    *,
    view: TowerView | None = None,
    options: Sequence[tuple[str, Any]] = (),
    random: bool = False,
) -> TimmTower:
    """A timm classification network from a local weights file; nothing is downloaded.

    For a Swin network the file may also hold Hugging Face's names, alone or inside MedCLIP, whose projection (768 → 512
    without bias) then follows the pooling.

    Args:
        name: any timm model name.
        weights: of the file types that encoders take, see :func:`lpd.model.encoder_weights.load_encoder_weights`.
        network_input: what the network in training is fed, and so the tower.
        view: what the tower was trained to see; None for what timm records of the name.
        options: extra keyword arguments of the network.
        random: do without a file. The description says so.

    Raises:
        ConfigError: there is no file, the name or an option is unknown, or the network cannot embed such images.
        CheckpointError: the file is unreadable or does not fit.
    """
    if weights is None and not random:
        raise ConfigError(
            f"tower {name!r} has no weights file, and random weights know nothing of tissue: name a file, choose tower "
            "'own' or 'ema', or switch L_sim off"
        )
    settings = plain_options(options)
    body = _timm_body(name, settings)
    projection, description = _fill(body, name, weights)
    return TimmTower(body, projection, _completed(view, body, settings), network_input, description)


def _timm_body(name: str, options: Mapping[str, Any]) -> Any:
    # Plain architectures only: this also refuses "hf-hub:" and "local-dir:" names, which fetch or read elsewhere.
    if not timm.is_model(name):
        raise ConfigError(f"tower {name!r} is unknown: use a timm model name")
    try:
        return timm.create_model(name, pretrained=False, num_classes=0, **options)
    except TIMM_REFUSALS as error:
        raise ConfigError(
            f"tower {name} cannot be built with the options {dict(options)} ({reason(error)}): correct or omit them"
        ) from error


def _completed(view: TowerView | None, body: Any, options: Mapping[str, Any]) -> TowerView:
    record = body.pretrained_cfg
    view = view or TowerView(tuple(record["mean"]), tuple(record["std"]))
    if view.image_px:
        return view
    size = options.get("img_size", record["input_size"][-1])
    sides = set(size) if isinstance(size, (list, tuple)) else {size}
    if len(sides) != 1 or not all(type(side) is int for side in sides):
        raise ConfigError(f"this tower's images are {size} px: they must be square, of one whole number")
    return replace(view, image_px=sides.pop())


def _fill(body: nn.Module, name: str, path: Path | None) -> tuple[nn.Module, str]:
    """Fill a network from a file; what follows its pooling, and one line on the weights."""
    if path is None:
        return nn.Identity(), f"tower {name} with random weights"
    if name.startswith("swin"):
        tensors = read_tensors(path)
        if mark := next((n for n in tensors if n.endswith(SWIN_MARK)), None):
            projection = fill_swin(body, path, tensors, mark.removesuffix(SWIN_MARK))
            line = f"tower weights from {path.name} (Hugging Face Swin names); their licence is that of their publisher"
            return projection, line
    # An encoder of one map is all that loading needs to know of a network.
    loaded = load_encoder_weights(Encoder(body, (0,), (0,)), path)
    return nn.Identity(), f"tower {name}: {loaded.describe()}"


def _parts(images: Tensor) -> Sequence[Tensor]:
    return torch.split(images, _IMAGES_AT_ONCE.get(images.device.type, _IMAGES_AT_ONCE_ELSEWHERE))


def _masked_means(maps: Tensor, masks: Tensor, image_index: Tensor) -> Tensor:
    """(N, D) means of (B, D, h, w) maps over (N, h', w') masks, 0 where the mask is empty; not under autocast."""
    shares = functional.interpolate(masks[:, None].to(maps.dtype), maps.shape[2:], mode="area").flatten(1)
    weights = shares / shares.sum(1, keepdim=True).clamp_min(torch.finfo(maps.dtype).tiny)
    means = maps.new_zeros((len(masks), maps.shape[1]))
    with torch.autocast(maps.device.type, enabled=False):
        for image in torch.unique(image_index).tolist():  # one product per image, instead of a copy of its map per mask
            chosen = image_index == image
            means[chosen] = weights[chosen] @ maps[image].flatten(1).T
    return means

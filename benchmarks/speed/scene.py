"""What is timed: a tile set, a batch of its tiles, and networks that see in it what a trained one would."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

from benchmarks.speed.official import SCALE_WEIGHTS, SCALES
from benchmarks.speed.timing import Clock
from lpd.config import InputSpec, ModelConfig
from lpd.data.phantom.tiles import TileSetSpec, write_phantom_tiles
from lpd.data.tiles import TileSet
from lpd.inference.devices import computes_bf16
from lpd.model.encoders import build_encoder
from lpd.model.inputs import to_network_input
from lpd.model.network import LPDNet

_SEED = 7
_BIAS_STD = 0.1
_SPREAD = 0.5  # of a class's prototypes around their common direction, in the length of that direction


@dataclass(frozen=True)
class Scene:
    """Where and how everything is measured.

    Attributes:
        folder: a tile set with ``train`` and ``valid``.
        device: of the networks.
        threads: of torch, on a CPU.
        rounds: turns of every contestant.
        encoder: name of the encoder.
        batch_size: tiles a step.
        per_class: every K that is tried.
        compiled: also time what ``torch.compile`` makes of the network.
    """

    folder: Path
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    threads: int = 1
    rounds: int = 15
    encoder: str = "mit_b1"
    batch_size: int = 10
    per_class: tuple[int, ...] = (3, 10)
    compiled: bool = False

    @property
    def clock(self) -> Clock:
        """CPU seconds where one thread does it all: they count the same on a machine that others use."""
        return Clock(self.device, busy=self.device.type == "cpu" and self.threads == 1)

    @property
    def half(self) -> torch.dtype | None:
        """Precision of both algorithms at equal arithmetic: bf16 on a GPU, none but fp32 on a CPU."""
        return torch.bfloat16 if self.device.type == "cuda" else None

    @property
    def precisions(self) -> tuple[str, ...]:
        """Those that this machine has instructions for; bf16 without them takes many times as long as fp32."""
        return ("fp32", "bf16") if computes_bf16(self.device) else ("fp32",)

    def tiles(self, split: str, *, cached: bool = True) -> TileSet:
        """A split, decoded once or (not ``cached``) anew each time."""
        return TileSet.open(self.folder, split) if cached else TileSet.open(self.folder, split, cache_bytes=0)


@contextmanager
def phantom_folder(train: int, valid: int) -> Iterator[Path]:
    """A phantom tile set of 224 px that lasts as long as the block."""
    with tempfile.TemporaryDirectory(prefix="lpd-speed-") as temporary:
        folder = Path(temporary) / "tiles"
        write_phantom_tiles(folder, TileSetSpec(train=train, valid=valid, test=0, seed=_SEED))
        yield folder


@dataclass(frozen=True, eq=False)
class Batch:
    """A step's tiles.

    Attributes:
        images: (B, 3, H, W) network input, channels-last in memory.
        labels: (B, C) float, 0 or 1.
        regions: (B, C, H, W) float, 0 or 1: what the masks say, to aim networks by.
        spec: how the images were normalised.
    """

    images: Tensor
    labels: Tensor
    regions: Tensor
    spec: InputSpec

    @classmethod
    def of(cls, tiles: TileSet, count: int, device: torch.device) -> Batch:
        """Tiles from all over a split with masks; neighbours look alike."""
        indices = range(0, len(tiles), max(1, len(tiles) // count))[:count]
        spec = InputSpec(mpp=tiles.info.mpp, tile_px=tiles.tile_px)
        masks = torch.stack([torch.from_numpy(tiles.mask(i)) for i in indices]).to(device)
        classes = torch.arange(tiles.info.scheme.count, device=device)[:, None, None]
        regions = (masks[:, None] == classes).float()
        # As in the sets that derive labels from masks.
        labels = (regions.mean((2, 3)) >= 0.03).float()
        return cls(to_network_input(tiles.images(indices), spec).to(device), labels, regions, spec)


def model_config(encoder: str, classes: int, per_class: int) -> ModelConfig:
    """A network with CAMs at all four scales, as the authors' has."""
    return ModelConfig(
        encoder,
        class_count=classes,
        prototypes_per_class=per_class,
        prototype_dim=build_encoder(encoder).channels[-1],  # the authors compare prototypes with the deepest map itself
        scales=SCALES,
        scale_weights=SCALE_WEIGHTS,
    )


def aimed_network(scene: Scene, batch: Batch, per_class: int) -> LPDNet:
    """A random network whose deepest CAMs mark the regions that a batch has.

    CAMs of an untrained network give whole images to one class, and the loops of the official losses, which go over
    what is there, would have too little to go round.
    """
    torch.manual_seed(_SEED)
    network = LPDNet(model_config(scene.encoder, batch.labels.shape[1], per_class)).to(scene.device)
    # Without biases a blank picture stays 0 through all layers, and gradients grow a thousandfold at every norm.
    for name, parameter in network.encoder.named_parameters():
        if name.endswith("bias"):
            nn.init.normal_(parameter, std=_BIAS_STD)
    aim(network, batch)
    return network.train()


@torch.no_grad()
def aim(network: LPDNet, batch: Batch) -> None:
    """Turn the deepest adapter so that the prototypes of a class point from the mean pixel to those of the class."""
    per_class = network.config.prototypes_per_class
    deepest = functional.normalize(network.eval().encoder(batch.images)[-1], dim=1)
    inside = functional.interpolate(batch.regions, deepest.shape[2:], mode="area")
    centre = deepest.mean((0, 2, 3))
    means = torch.einsum("bdhw,bchw->cd", deepest, inside) / inside.sum((0, 2, 3)).clamp_min(1)[:, None]
    unit = functional.normalize(centre, dim=0)
    apart = means - (means @ unit)[:, None] * unit  # what all pixels have in common tells no class from another
    wanted = functional.normalize(apart, dim=1).repeat_interleave(per_class, 0)
    wanted = wanted + _SPREAD * functional.normalize(torch.randn_like(wanted), dim=1)
    adapter = network.adapters[str(SCALES[-1])]
    assert isinstance(adapter, nn.Sequential)
    last = adapter[2]
    assert isinstance(last, nn.Linear)
    hidden = adapter[:2](network.prototypes)
    last.weight.copy_((torch.linalg.pinv(hidden) @ wanted).T)
    nn.init.zeros_(last.bias)

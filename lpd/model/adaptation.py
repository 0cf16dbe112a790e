"""Prototypes of one picture: what a class looks like here corrects where the network puts it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from lpd.config import Calibration, Settings
from lpd.errors import ShapeError
from lpd.model.cam import at_least_float32, prototype_cosines
from lpd.model.network import LPDOutput
from lpd.model.scoring import dense_logits, log_scores


@dataclass(frozen=True)
class AdaptationSettings(Settings):
    """How far a picture's own prototypes are trusted.

    Attributes:
        gain: logits that a cosine of 1 with a picture's prototype adds; 0 leaves everything as it is.
        iterations: how often prototypes are taken anew from the corrected maps.
        sharpness: power of the probabilities that pixels are weighed by; larger listens to sure pixels only.
        surely, share: a class that fewer than this share of the pixels show with this probability has no prototype
            here, and its logits are left alone: what little there is may be a mistake, which would confirm itself.
    """

    gain: float = 5.0
    iterations: int = 4
    sharpness: float = 2.0
    surely: float = 0.6
    share: float = 0.01

    def __post_init__(self) -> None:
        super().__post_init__()
        self._check_bounds(
            {"gain": (0, 1000), "iterations": (1, 100), "sharpness": (0, 100), "surely": (0, 1), "share": (0, 1)}
        )


@dataclass(frozen=True, eq=False)
class PicturePrototypes:
    """Each class's prototype in one picture.

    Attributes:
        by_scale: (C, D_s) fp32 directions, of all scales but the deepest.
        present: (C,) bool, which classes have one.
        gain: of the settings.
    """

    by_scale: Mapping[int, Tensor]
    present: Tensor
    gain: float

    def correction(self, output: LPDOutput, size: tuple[int, int]) -> Tensor:
        """What to add to the raw pixel logits; linear in maps of cosines, so windows' may be blended.

        Args:
            output: of the network for B tiles or windows of this picture.
            size: (h, w) of the pixel logits.

        Returns:
            (B, C, h, w), fp32 (or fp64); it sums to 0 over the classes.
        """
        cosines = [prototype_cosines(output.features[s], prototypes) for s, prototypes in self.by_scale.items()]
        resized = [functional.interpolate(c, size, mode="bilinear", align_corners=False) for c in cosines]
        return self.gain * self._centred(torch.stack(resized).mean(0))

    def _centred(self, cosines: Tensor) -> Tensor:
        present = self.present[None, :, None, None]
        mean = (cosines * present).sum(1, keepdim=True) / present.sum().clamp_min(1)
        return (cosines - mean).where(present, 0.0)


class PictureSample:
    """Pixels of one picture, from tiles or windows of it, and the prototypes that they give.

    The prototypes that were learnt stand for all pictures; stain, thickness and scanner move a picture's features away
    from them together. So each class's prototype is taken anew, ``q_c = Σ_n p_c(n)^r f̂(n)`` over the picture's pixels
    n with the class's probability p and unit features f̂, and ``gain · cos(f, q_c)`` corrects the pixel logits; the
    corrected ones give better probabilities, and so on: soft k-means that starts from what was learnt. (Image-specific
    prototypes in training: Chen et al., CVPR 2022; here nothing is trained.) The deepest scale takes no part, its
    pixels see most of a tile.
    """

    def __init__(self, calibration: Calibration, settings: AdaptationSettings | None = None) -> None:
        self._calibration, self._settings = calibration, settings or AdaptationSettings()
        self._pixel: list[Tensor] = []
        self._gate: list[Tensor] = []
        self._features: list[dict[int, Tensor]] = []

    @torch.no_grad()
    def add(self, output: LPDOutput, gate: Tensor | None = None, inside: Tensor | None = None) -> None:
        """Add tiles or windows, at the resolution of the second deepest scale.

        Args:
            output: of the network, for B of them.
            gate: (B, C, h, w) raw gate logits, of any size; None for the tiles' own.
            inside: (B, h, w) bool, of any size: where there is tissue to learn from; None for everywhere.

        Raises:
            ShapeError: gate or inside are of another number of tiles.
        """
        for name, given in (("gate", gate), ("inside", inside)):
            if given is not None and len(given) != len(output.class_logits[output.deepest]):
                raise ShapeError(f"{name} {tuple(given.shape)} is not of the pictures that the network saw")
        scales = sorted(output.features)[:-1] or [output.deepest]
        size = output.features[scales[-1]].shape[2:]
        pixel, own = dense_logits(output, self._calibration, (size[0], size[1]))
        spread = own[:, :, None, None].expand_as(pixel) if gate is None else _resized(gate, size)
        chosen = torch.ones((len(pixel), *size), dtype=torch.bool, device=pixel.device)
        if inside is not None:
            chosen = _resized(inside[:, None].to(pixel), size)[:, 0] > 0.5
        self._pixel.append(_rows(pixel, chosen))
        self._gate.append(_rows(spread, chosen))
        units = {s: functional.normalize(_resized(at_least_float32(output.features[s]), size), dim=1) for s in scales}
        self._features.append({s: _rows(maps, chosen) for s, maps in units.items()})

    @torch.no_grad()
    def prototypes(self) -> PicturePrototypes | None:
        """What the pixels so far give; None if there are none, or if they surely show fewer than two classes."""
        if not self._pixel or not sum(map(len, self._pixel)):
            return None
        pixel, gate = torch.cat(self._pixel), torch.cat(self._gate)
        features = {s: torch.cat([part[s] for part in self._features]) for s in self._features[0]}
        found = self._taken(pixel, gate, features)
        for _ in range(self._settings.iterations - 1):
            cosines = torch.stack([maps @ found.by_scale[s].T for s, maps in features.items()]).mean(0)
            corrected = pixel + found.gain * found._centred(cosines.T[None, :, :, None])[0, :, :, 0].T
            found = self._taken(corrected, gate, features)
        return found if found.present.sum() > 1 else None

    def _taken(self, pixel: Tensor, gate: Tensor, features: Mapping[int, Tensor]) -> PicturePrototypes:
        """Prototypes of (N, C) logits."""
        settings = self._settings
        scores = log_scores(pixel.T[None, :, :, None], gate.T[None, :, :, None], self._calibration)[0, :, :, 0].T
        probabilities = scores.softmax(1)
        present = (probabilities > settings.surely).to(pixel).mean(0) >= max(settings.share, 1 / (2 * len(pixel)))
        weights = probabilities**settings.sharpness
        by_scale = {s: functional.normalize(weights.T @ maps, dim=1) for s, maps in features.items()}
        return PicturePrototypes(by_scale, present, settings.gain)


def _resized(maps: Tensor, size: torch.Size) -> Tensor:
    """Smaller by averaging, larger by interpolation."""
    if maps.shape[2] >= size[0]:
        whole = maps.shape[2] % size[0] == maps.shape[3] % size[1] == 0
        if maps.device.type == "mps" and not whole:  # which averages whole blocks only
            return functional.interpolate(maps.cpu(), size, mode="area").to(maps.device)
        return functional.interpolate(maps, size, mode="area")
    return functional.interpolate(maps, size, mode="bilinear", align_corners=False)


def _rows(maps: Tensor, chosen: Tensor) -> Tensor:
    """(B, D, h, w) as (N, D), the chosen pixels."""
    return maps.movedim(1, 3)[chosen]

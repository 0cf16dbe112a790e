"""The authors' training step, restated: the same arithmetic in the same order, class by class and pair by pair.

Nothing here is meant to be good. It is what their released code does in a step after its warm-up (its validation, its
printing and its half precision apart), written anew to be timed against: CAMs of all four scales although the first
has weight 0, merged by loops over classes; a BCE for each; every chosen (image, prototype) pair masked at full size and
sent through a tower that keeps its gradients; and a diversity loss that walks through images, classes, prototypes and
pairs.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial

import torch
from timm.models.pvt_v2 import Attention
from torch import Tensor, nn
from torch.nn import functional

from lpd.model.encoders import Encoder
from lpd.model.network import LPDNet

SCALES = (0, 1, 2, 3)
SCALE_WEIGHTS = (0.0, 0.1, 1.0, 1.0)
_SIMILARITY_WEIGHT, _DIVERSITY_WEIGHT, _CAM_PENALTY = 0.1, 0.5, 5e-4
_TEMPERATURE = 0.07
_MASK_SHARE = 0.5  # of the largest CAM of all prototypes of an image
_BACKGROUND_LOGIT = 0.2
_LEARNING_RATE, _WEIGHT_DECAY = 5e-5, 1e-3


@dataclass(frozen=True, eq=False)
class Scale:
    """CAMs (B, M, h, w) and image scores (B, M) of every prototype at one scale."""

    cams: Tensor
    scores: Tensor


@dataclass(frozen=True, eq=False)
class OfficialLosses:
    """The parts of a step's loss, each a scalar tensor; ``pairs`` is how many went through the tower."""

    total: Tensor
    classification: Tensor
    similarity: Tensor
    diversity: Tensor
    pairs: int


class OfficialTower(nn.Module):
    """An encoder's averaged deepest map. Its parameters ask for gradients, as those of the authors' tower do."""

    def __init__(self, encoder: Encoder) -> None:
        super().__init__()
        self.encoder = copy.deepcopy(encoder).eval()

    def forward(self, images: Tensor) -> Tensor:
        pooled: Tensor = self.encoder(images)[-1].mean((2, 3))
        return pooled


def spell_out_attention(network: LPDNet) -> LPDNet:
    """Let a MiT attend as the authors' own does: by whole attention maps, a pooled copy of each being kept."""
    for module in network.encoder.modules():
        if isinstance(module, Attention):
            module.fused_attn = False
            side = 1 if module.sr is None else int(module.sr.kernel_size[0])
            module.attn_drop.register_forward_hook(partial(_keep_pooled, side))
    return network


def _keep_pooled(side: int, _module: nn.Module, _inputs: object, attention: Tensor) -> None:
    batch, heads, queries, keys = attention.shape
    px = math.isqrt(queries)
    kept = attention.clone().detach().reshape(batch, heads, px, px, keys)
    if side > 1:
        functional.avg_pool3d(kept, kernel_size=(side, side, 1), stride=(side, side, 1))


class OfficialStep:
    """One training step of a network that has CAMs at all four scales.

    The network's own parameters are used, so that both algorithms can be given the very same network.
    """

    def __init__(
        self,
        network: LPDNet,
        tower: OfficialTower | None = None,
        *,
        precision: torch.dtype | None = None,
        gradients: bool = True,
    ) -> None:
        """Take over a network.

        Args:
            network: changed by every call.
            tower: None leaves the contrast out.
            precision: of the autocast; None for none.
            gradients: whether they go through the tower; the authors' do, to the CAMs that weigh the images.
        """
        self.network, self.tower = network, tower
        self._precision, self._gradients = precision, gradients
        self.optimizer = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)

    def __call__(self, images: Tensor, labels: Tensor) -> OfficialLosses:
        """Do a step: (B, 3, H, W) images, (B, C) labels of 0 and 1."""
        with torch.autocast(images.device.type, self._precision, enabled=self._precision is not None):
            losses = self.losses(images, labels)
        self.optimizer.zero_grad(set_to_none=True)
        losses.total.backward()  # type: ignore[no-untyped-call]  # untyped in torch
        self.optimizer.step()
        return losses

    def losses(self, images: Tensor, labels: Tensor) -> OfficialLosses:
        """All losses of a batch."""
        classes, per_class = labels.shape[1], self.network.config.prototypes_per_class
        scales, deepest = self._scales(images)
        merged = [merge_scores(scale.scores, classes, per_class) for scale in scales]
        terms = [functional.binary_cross_entropy_with_logits(scores, labels) for scores in merged]
        classification = sum((w * term for w, term in zip(SCALE_WEIGHTS, terms, strict=True)), labels.new_zeros(()))

        last, prototypes = scales[-1], self.network.prototypes
        similarity, pairs = self._similarity(images, last, choose(last.scores, merged[-1], labels, per_class))
        mask = pseudo_mask(last.cams, classes, per_class, deepest.shape[2:])
        diversity = diversity_by_loops(deepest, prototypes, mask, per_class)
        for _ in range(2):  # for the log and for its running mean: on a GPU, each waits for all work queued so far
            diversity.detach().item()
        total = classification + _DIVERSITY_WEIGHT * diversity
        if pairs:
            total = total + _SIMILARITY_WEIGHT * (similarity + _CAM_PENALTY * last.cams.mean())
        return OfficialLosses(total, classification, similarity, diversity, pairs)

    def _scales(self, images: Tensor) -> tuple[list[Scale], Tensor]:
        network = self.network
        maps: list[Tensor] = network.encoder(images)
        adapted = [network.adapters[str(s)](network.prototypes) for s in SCALES]
        scales = [cosine_scale(maps[s], adapted[s], network.gains[str(s)], attached=s == SCALES[-1]) for s in SCALES]
        return scales, maps[-1]

    def _similarity(self, images: Tensor, scale: Scale, chosen: Tensor) -> tuple[Tensor, int]:
        if self.tower is None or not torch.any(chosen == 1):
            return images.new_zeros(()), 0
        with torch.set_grad_enabled(self._gradients):
            foreground, background = masked_embeddings(images, scale.cams, chosen, self.tower)
        contrast = contrast_by_pairs(foreground, background, self.network.prototypes, chosen)
        return contrast, len(foreground)


def cosine_scale(features: Tensor, prototypes: Tensor, gain: Tensor, *, attached: bool) -> Scale:
    """Pixels as rows, one product with all prototypes, and back to maps; only ``attached`` CAMs keep their gradient."""
    batch, depth, height, width = features.shape
    rows = features.permute(0, 2, 3, 1).reshape(-1, depth)
    rows = rows / rows.norm(dim=-1, keepdim=True)
    directions = prototypes / prototypes.norm(dim=-1, keepdim=True)
    logits = (gain * rows) @ directions.t().float()
    maps = logits.view(batch, height, width, -1).permute(0, 3, 1, 2)
    cams = maps.clone()
    scores = functional.adaptive_avg_pool2d(maps, (1, 1)).view(batch, -1)
    return Scale(cams if attached else cams.detach(), scores)


def merge_scores(scores: Tensor, classes: int, per_class: int) -> Tensor:
    """(B, M) to (B, C), a class at a time."""
    merged = []
    for c in range(classes):
        own = scores[:, c * per_class : (c + 1) * per_class]
        merged.append(own.mean(dim=1) if per_class > 1 else own[:, 0])
    return torch.stack(merged, dim=1)


def merge_cams(cams: Tensor, classes: int, per_class: int) -> Tensor:
    """(B, M, h, w) to (B, C, h, w), a class at a time."""
    merged = cams.new_zeros((len(cams), classes, *cams.shape[2:]))
    for c in range(classes):
        merged[:, c] = cams[:, c * per_class : (c + 1) * per_class].mean(dim=1)
    return merged


def repeat_by_class(values: Tensor, per_class: int) -> Tensor:
    """(B, C) to (B, M), a class at a time."""
    repeated = values.new_zeros((len(values), values.shape[1] * per_class))
    for c in range(values.shape[1]):
        repeated[:, c * per_class : (c + 1) * per_class] = values[:, c : c + 1].repeat(1, per_class)
    return repeated


def choose(scores: Tensor, merged: Tensor, labels: Tensor, per_class: int) -> Tensor:
    """(B, M) of 0 and 1: prototypes of the image's classes that score above their class's mean."""
    above = (scores > repeat_by_class(merged, per_class)).float()
    return above * repeat_by_class(labels, per_class)


def masked_embeddings(images: Tensor, cams: Tensor, chosen: Tensor, tower: OfficialTower) -> tuple[Tensor, Tensor]:
    """(N, D) of the images inside the chosen prototypes' masks, weighed by the CAMs, and (N, D) of the rest."""
    large = functional.interpolate(cams, images.shape[2:], mode="bilinear", align_corners=True)
    masks = joint_masks(large)
    image_index, prototype_index = torch.where(chosen == 1)
    pictures = images[image_index]
    weights = large[image_index, prototype_index].unsqueeze(1)
    inside = masks[image_index, prototype_index].unsqueeze(1)
    foreground = tower(weights * pictures * inside)
    background = tower((1 - weights) * pictures * (1 - inside))
    return foreground, background


def joint_masks(cams: Tensor) -> Tensor:
    """(B, M, H, W) of 0 and 1, image by image: half of the largest CAM of any prototype is reached."""
    masks = []
    for image in cams:
        reached = image >= image.max() * _MASK_SHARE
        masks.append(torch.where(reached, torch.ones_like(image), torch.zeros_like(image)))
    return torch.stack(masks)


def contrast_by_pairs(foreground: Tensor, background: Tensor, prototypes: Tensor, chosen: Tensor) -> Tensor:
    """L_FG + L_BG: every pair collects its own prototype and copies of all others.

    Args:
        foreground, background: (N, D), in the order of the ones in ``chosen``.
        prototypes: (M, D).
        chosen: (B, M) of 0 and 1.
    """
    _, own_index = torch.where(chosen == 1)
    collected: list[tuple[Tensor, ...]] = []
    for pair in range(len(own_index)):
        own = own_index[pair]
        # A number against a tensor: on a GPU every comparison is waited for.
        others = [j for j in range(len(prototypes)) if j != own]
        collected.append((foreground[pair], background[pair], prototypes[own], prototypes[others]))
    shown, hidden, positive, negatives = (_unit(torch.stack(part)) for part in zip(*collected, strict=True))
    return _foreground_loss(shown, positive, negatives) + _background_loss(hidden, positive, negatives)


def _foreground_loss(embeddings: Tensor, own: Tensor, others: Tensor) -> Tensor:
    positive = (embeddings * own).sum(dim=1) / _TEMPERATURE
    negative = torch.einsum("nd,nld->nl", embeddings, others) / _TEMPERATURE
    everything = torch.cat([positive.unsqueeze(1), negative], dim=1)
    return -(positive - torch.logsumexp(everything, dim=1)).mean()


def _background_loss(embeddings: Tensor, own: Tensor, others: Tensor) -> Tensor:
    positive = torch.einsum("nd,nld->nl", embeddings, others) / _TEMPERATURE
    negative = (embeddings * own).sum(dim=1) / _TEMPERATURE
    everything = torch.cat([positive, negative.unsqueeze(1)], dim=1)
    return -(torch.logsumexp(positive, dim=1) - torch.logsumexp(everything, dim=1)).mean()


@torch.no_grad()
def pseudo_mask(cams: Tensor, classes: int, per_class: int, size: Iterable[int]) -> Tensor:
    """(B, h, w): 0 where no class's logit is above 0.2, c + 1 where class c has the highest."""
    merged = merge_cams(cams, classes, per_class)
    background = torch.full_like(merged.max(dim=1, keepdim=True)[0], _BACKGROUND_LOGIT)
    mask = torch.cat([background, merged], dim=1).argmax(dim=1)
    resized = functional.interpolate(mask.unsqueeze(1).float(), size=tuple(size), mode="nearest")
    return resized.squeeze(1).long()


def diversity_by_loops(features: Tensor, prototypes: Tensor, mask: Tensor, per_class: int) -> Tensor:
    """L_div image by image, class by class, prototype by prototype.

    Args:
        features: (B, D, h, w), the deepest map.
        prototypes: (M, D), not adapted.
        mask: (B, h, w) of :func:`pseudo_mask`, whose values are taken for class indices.
        per_class: K.
    """
    batch = len(features)
    pixels = features.flatten(2).permute(0, 2, 1)
    values = mask.flatten(1)
    total: Tensor = features.new_zeros(())
    for image in range(batch):
        similarities = []
        for c in range(len(prototypes) // per_class):
            where = (values[image] == c).nonzero(as_tuple=True)[0]
            if len(where) == 0:
                continue
            region = functional.normalize(pixels[image, where], p=2, dim=1)
            own = functional.normalize(prototypes[c * per_class : (c + 1) * per_class], p=2, dim=1)
            attention = [torch.matmul(region, prototype).softmax(dim=0) for prototype in own]
            similarities.append(mean_similarity(attention))
        if similarities:
            total = total + torch.stack(similarities).mean()
    return total / batch


def mean_similarity(attention: list[Tensor]) -> Tensor:
    """Mean of exp(−J) over pairs, J by two calls of ``kl_div``; the softmax that was taken already is taken again."""
    if len(attention) < 2:
        return attention[0].new_zeros(())
    again = [values.softmax(dim=0) for values in attention]
    total: Tensor = attention[0].new_zeros(())
    pairs = 0
    for i in range(len(again)):
        for j in range(i + 1, len(again)):
            first, second = again[i] + 1e-10, again[j] + 1e-10
            there = functional.kl_div(first.log(), second, reduction="sum")
            back = functional.kl_div(second.log(), first, reduction="sum")
            total = total + torch.exp(-(there + back))
            pairs += 1
    return total / pairs


def _unit(vectors: Tensor) -> Tensor:
    return functional.normalize(vectors, p=2, dim=-1)

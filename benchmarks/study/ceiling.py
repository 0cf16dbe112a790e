"""The ceiling: the same network when it is also shown masks, those of the other pictures of the valid split."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lpd.config import Calibration, InputSpec
from lpd.data.tiles import TileSet
from lpd.data.transforms import augment
from lpd.evaluation.tile_scores import group_of
from lpd.model.inputs import to_network_input
from lpd.model.network import LPDNet, LPDOutput
from lpd.recipe.config import TrainConfig
from lpd.training.calibrating import calibrate
from lpd.training.depthwise import hasten_depthwise
from lpd.training.objective import Objective
from lpd.training.schedule import AveragedWeights, batches, rate_factor, step_seed
from lpd.training.setup import build_network, build_optimizer

#: Parts that the valid split is cut into; each is scored by a network that saw the masks of the others.
FOLDS = 4
_MASKS_PER_STEP = 4
_IGNORED = 255


def folds(valid: TileSet, seed: int) -> Iterator[tuple[list[int], list[int]]]:
    """(shown, scored) tile indices; all tiles of a picture or patient are on the same side."""
    groups = [group_of(file.image.name) for file in valid.files]
    names = np.random.default_rng(seed).permutation(sorted(set(groups)))
    for fold in range(FOLDS):
        scored = set(names[fold::FOLDS])
        yield (
            [i for i, group in enumerate(groups) if group not in scored],
            [i for i, group in enumerate(groups) if group in scored],
        )


def part_of(tiles: TileSet, indices: Sequence[int]) -> TileSet:
    """A tile set of some of the tiles."""
    return TileSet(tiles.info, tiles.split, [tiles.files[i] for i in indices])


def train_with_masks(config: TrainConfig, tiles: TileSet, shown: TileSet) -> tuple[LPDNet, Calibration]:
    """A training as the loop does it, with the cross-entropy of some masked tiles added to every step's loss.

    Args:
        config: as of any arm.
        tiles: with image-level labels.
        shown: with masks; each of their pixels is learnt, at every scale, as L_cls weighs them.

    Returns:
        The averaged network in evaluation mode, and its calibration.
    """
    torch.manual_seed(config.loop.seed)
    network, _ = build_network(config, tiles.info.scheme)
    network.to(memory_format=torch.channels_last)
    hasten_depthwise(network.encoder)
    spec = config.input_spec(tiles.info.mpp, tiles.tile_px)
    objective = Objective(network, config, spec)
    optimizer, average = build_optimizer(network, config), AveragedWeights(network, config.optimizer.ema_decay)
    settings, seed = config.optimizer, config.loop.seed
    order = list(batches(len(tiles), settings.batch_size, settings.epochs, seed))
    labels = torch.from_numpy(tiles.labels).float()
    network.train()
    for step, indices in enumerate(order):
        torch.manual_seed(step_seed(seed, step))
        generator = torch.Generator().manual_seed(step_seed(seed, step))
        varied = augment(torch.from_numpy(tiles.images(indices)), config.augment, generator)
        joined = step >= config.losses.first_step(len(order))
        loss = objective(to_network_input(varied, spec), labels[indices], joined=joined).total
        loss = loss + _mask_loss(network, config, spec, shown, generator)
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * rate_factor(step, len(order), settings.warmup_steps, settings.power)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), settings.gradient_clip or float("inf"))
        optimizer.step()
        average.update(network)
    own = network.eval()
    with average.applied(own):
        calibration = calibrate(own, tiles, spec, config.cam.fusion_weights)
        averaged = {name: value.clone() for name, value in own.state_dict().items()}
    own.load_state_dict(averaged)
    return own, calibration


def _mask_loss(
    network: LPDNet, config: TrainConfig, spec: InputSpec, shown: TileSet, generator: torch.Generator
) -> Tensor:
    chosen = torch.randperm(len(shown), generator=generator)[:_MASKS_PER_STEP].tolist()
    # Image and mask are turned together, as a fourth channel; the stain of these few tiles is left alone.
    layers = [np.dstack([shown.images([i])[0], shown.mask(i)]) for i in chosen]
    turns = torch.randint(0, 4, (len(chosen),), generator=generator).tolist()
    turned = torch.stack([torch.from_numpy(a).rot90(t, (0, 1)) for a, t in zip(layers, turns, strict=True)])
    masks = turned[..., 3].long()
    masks[masks >= network.config.class_count] = _IGNORED  # background is no class of the network
    with torch.autocast("cpu", torch.bfloat16, enabled=config.loop.precision == "bf16"):
        output: LPDOutput = network(to_network_input(turned[..., :3].contiguous(), spec))
    weights = dict(zip(config.cam.scales, config.cam.loss_weights, strict=True))
    terms = [
        weight
        * functional.cross_entropy(
            functional.interpolate(output.class_logits[scale].float(), masks.shape[1:], mode="bilinear"),
            masks,
            ignore_index=_IGNORED,
        )
        for scale, weight in weights.items()
    ]
    return torch.stack(terms).sum() / sum(weights.values())

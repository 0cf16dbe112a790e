"""The objective adds up its losses by their weights, and refuses at the start what would fail in mid-training."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lpd.data.tiles import TileSet
from lpd.errors import ConfigError
from lpd.recipe.settings_file import changed, read_config
from lpd.training.objective import Objective
from lpd.training.setup import build_network

QUICK = read_config(
    overrides=[
        "encoder.name=test_convnext",
        "encoder.weights=none",
        "prototypes.dim=16",
        "loop.precision=fp32",
    ]
)


def objective(tiles: Path, *overrides: str) -> Objective:
    config, train_tiles = changed(QUICK, *overrides), TileSet.open(tiles, "train")
    torch.manual_seed(1)
    network, _ = build_network(config, train_tiles.info.scheme)
    return Objective(network, config, config.input_spec(1.0, train_tiles.tile_px))


IMAGES, LABELS = torch.randn(2, 3, 64, 64, generator=torch.manual_seed(4)), torch.tensor([[1.0, 0, 0], [1, 1, 0]])


def test_diversity_joins_only_when_asked(few_tiles):
    both = objective(few_tiles)
    without, with_it = both(IMAGES, LABELS, joined=False), both(IMAGES, LABELS, joined=True)
    assert without.diversity == without.similarity == with_it.similarity == 0
    assert 0 < with_it.diversity <= 1
    torch.testing.assert_close(with_it.total, without.total + 0.5 * with_it.diversity)
    with_it.diversity.backward()
    assert both.network.prototypes.grad.abs().max() > 0


@pytest.mark.parametrize("masking", ["image", "features"])
def test_similarity_joins_with_its_weight(few_tiles, masking):
    all_three = objective(
        few_tiles, "losses.similarity={tower: ema, weight: 0.25}", f"losses.similarity.masking={masking}"
    )
    assert all_three(IMAGES, LABELS, joined=False).similarity == 0
    losses = all_three(IMAGES, LABELS, joined=True)
    assert losses.similarity > 0
    expected = losses.classification + 0.25 * losses.similarity + 0.5 * losses.diversity
    torch.testing.assert_close(losses.total, expected)
    losses.similarity.backward()
    assert all_three.network.prototypes.grad.abs().max() > 0
    assert all_three.similarity.projection.weight.grad.abs().max() > 0


def test_the_official_diversity_moves_nothing_and_ours_does(few_tiles):
    strength = {}
    for variant in ("official", "jeffreys"):
        # The official one compares raw prototypes with the deepest map: both must have its length.
        asked = objective(few_tiles, f"losses.diversity.variant={variant}", "prototypes.dim=64")
        asked(IMAGES, LABELS, joined=True).diversity.backward()
        strength[variant] = asked.network.prototypes.grad.norm()
    assert strength["official"] < strength["jeffreys"] / 100


def test_the_official_diversity_is_refused_at_once_where_it_could_not_be_computed(few_tiles):
    with pytest.raises(ConfigError, match=r"has 64 channels: set prototypes\.dim=64"):
        objective(few_tiles, "losses.diversity.variant=official")
    objective(few_tiles, "losses.diversity={variant: official, weight: 0}")

"""Learning rates, batch order, freezing and averaged weights against numbers worked out by hand."""

import pytest
import torch
from torch import nn

from lpd.errors import ConfigError
from lpd.training.schedule import AveragedWeights, batches, freeze, rate_factor


def test_rate_rises_over_the_warm_up_and_falls_to_zero():
    factors = [rate_factor(step, 10, 4) for step in range(11)]
    assert factors[:4] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert factors[4:] == pytest.approx([1, 5 / 6, 4 / 6, 3 / 6, 2 / 6, 1 / 6, 0])


def test_a_warm_up_longer_than_the_training_never_exceeds_the_full_rate():
    assert max(rate_factor(step, 3, 100) for step in range(3)) < 0.05


def test_each_epoch_shows_every_tile_once_in_another_order():
    steps = list(batches(7, 3, 2, 0))
    assert [len(batch) for batch in steps] == [3, 3, 3, 3]  # the seventh tile alone is no batch
    first, second = steps[0] + steps[1], steps[2] + steps[3]
    assert len(set(first)) == len(set(second)) == 6
    assert first != second
    assert steps == list(batches(7, 3, 2, 0))


def test_a_set_of_one_tile_still_gives_a_step():
    assert list(batches(1, 10, 2, 0)) == [[0], [0]]


def test_freeze_stops_whole_names_only():
    body = nn.ModuleDict({"blocks1": nn.Linear(2, 2), "blocks10": nn.Linear(2, 2)})
    freeze(body, ["blocks1"])
    assert [p.requires_grad for p in body["blocks1"].parameters()] == [False, False]
    assert all(p.requires_grad for p in body["blocks10"].parameters())


def test_freezing_what_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"called 'stages'.*weight"):
        freeze(nn.Linear(2, 2), ["stages"])


def _linear(value: float) -> nn.Linear:
    layer = nn.Linear(1, 1, bias=False)
    nn.init.constant_(layer.weight, value)
    return layer


def test_average_follows_its_formula_and_gives_the_own_weights_back():
    layer = _linear(0.0)
    average, expected = AveragedWeights(layer, 0.5), 0.0
    for step in range(1, 20):
        nn.init.constant_(layer.weight, float(step))
        average.update(layer)
        keep = min(0.5, (1 + step) / (10 + step))
        expected = keep * expected + (1 - keep) * step
    with average.applied(layer):
        assert layer.weight.item() == pytest.approx(expected)
    assert layer.weight.item() == 19.0


def test_own_weights_come_back_after_an_error():
    layer = _linear(3.0)
    average = AveragedWeights(layer, 0.9)
    nn.init.constant_(layer.weight, 5.0)
    with pytest.raises(RuntimeError), average.applied(layer):
        raise RuntimeError
    assert layer.weight.item() == 5.0


def test_without_decay_the_average_is_the_last_weight():
    layer = _linear(0.0)
    average = AveragedWeights(layer, 0.0)
    with torch.no_grad():
        layer.weight.fill_(7.0)
    average.update(layer)
    with average.applied(layer):
        assert layer.weight.item() == 7.0

"""Plain CAM, the comparison that every study needs: its maps, what trains it, its file."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from lpd.errors import CheckpointError, ConfigError
from lpd.model.checkpoint import load_checkpoint, save_checkpoint
from lpd.model.header import read_info
from lpd.model.network import LPDNet


@pytest.fixture
def plain(tiny_config):
    torch.manual_seed(3)
    return LPDNet(dataclasses.replace(tiny_config, head="linear", prototypes_per_class=1)).eval()


def test_its_maps_are_weights_times_features_plus_bias(plain):
    with torch.no_grad():
        for layer in plain.classifiers.values():
            layer.bias.normal_()
        output = plain(torch.rand(2, 3, 64, 96))
    for scale in (1, 2, 3):
        features, layer = output.features[scale][1, :, 1, 2], plain.classifiers[str(scale)]
        for c in range(4):
            w = layer.weight[c, :, 0, 0]
            expected = w @ features + layer.bias[c]
            torch.testing.assert_close(output.class_logits[scale][1, c, 1, 2], expected)
            cosine = w @ features / (w.norm() * features.norm())
            torch.testing.assert_close(output.prototype_cosines[scale][1, c, 1, 2], cosine)
        assert output.prototype_logits[scale] is output.class_logits[scale]


def test_every_parameter_is_in_one_group(plain):
    grouped = [*plain.encoder.parameters(), *plain.prototype_parameters(), *plain.head_parameters()]
    assert {id(p) for p in grouped} == {id(p) for p in plain.parameters()}
    assert len(grouped) == len(list(plain.parameters()))


def test_it_travels_in_a_file(plain, tiny_info):
    info = dataclasses.replace(tiny_info, model=plain.config, prototype_source="linear")
    save_checkpoint(tiny_info.path, plain, info)
    found, described = load_checkpoint(tiny_info.path)
    assert described.prototype_source == "linear"
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.equal(found(images).class_logits[3], plain(images).class_logits[3])


def test_head_and_source_must_agree(plain, tiny_info, tiny_config):
    for changes in ({"prototype_source": "linear"}, {"model": plain.config}):
        with pytest.raises(ConfigError, match="does not fit a"):
            dataclasses.replace(tiny_info, **changes)
    with pytest.raises(ConfigError, match="1 direction per class, not 3"):
        dataclasses.replace(tiny_config, head="linear")


def test_a_file_with_prototypes_is_not_taken_for_one_without(tiny_network, plain, tiny_info):
    save_checkpoint(tiny_info.path, tiny_network, tiny_info)
    whole = tiny_info.path.read_bytes()
    start = 8 + int.from_bytes(whole[:8], "little")
    info = dataclasses.replace(tiny_info, model=plain.config, prototype_source="linear")
    save_checkpoint(tiny_info.path, plain, info)
    header = tiny_info.path.read_bytes()[: 8 + int.from_bytes(tiny_info.path.read_bytes()[:8], "little")]
    tiny_info.path.write_bytes(header + whole[start:])
    with pytest.raises(CheckpointError):
        read_info(tiny_info.path)

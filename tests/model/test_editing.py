"""Checkpoints with muted and merged prototypes: the same weights, and the mean or union of what is left."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from lpd.config import ModelConfig
from lpd.errors import CheckpointError, ConfigError
from lpd.model.checkpoint import load_checkpoint, save_checkpoint
from lpd.model.editing import save_edited
from lpd.model.grouping import regrouped, ungrouped
from lpd.model.header import file_digest, read_info
from lpd.model.names import read_names, write_names
from lpd.model.network import LPDNet


@pytest.fixture(params=["mean", "union"])
def checkpoint(tiny_config, tiny_info, tmp_path: Path, request) -> Path:
    torch.manual_seed(5)
    model = dataclasses.replace(tiny_config, merge=request.param)
    path = tmp_path / "tiny.safetensors"
    save_checkpoint(path, LPDNet(model).eval(), dataclasses.replace(tiny_info, model=model))
    return path


def logits(path: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """(B, M, h, w) of prototypes and (B, C, h, w) of classes, at the deepest scale."""
    network, _ = load_checkpoint(path)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        output = network(images)
    return output.prototype_logits[3], output.class_logits[3]


def test_muted_ones_do_not_count_and_merged_ones_count_as_their_mean(checkpoint: Path, tmp_path: Path):
    out = tmp_path / "new" / "edited.safetensors"
    info = save_edited(checkpoint, out, muted=[1, 3], merged=[(8, 6)])
    assert info.model.groups == (((0,), (2,)), ((4,), (5,)), ((6, 8), (7,)), ((9,), (10,), (11,)))
    prototypes, before = logits(checkpoint)
    same, after = logits(out)
    torch.testing.assert_close(same, prototypes, rtol=0, atol=0)
    p = dict(enumerate(prototypes.unbind(1)))
    left = [[p[0], p[2]], [p[4], p[5]], [(p[6] + p[8]) / 2, p[7]], [p[9], p[10], p[11]]]
    if info.model.merge == "mean":
        expected = [sum(maps) / len(maps) for maps in left]
    else:
        expected = [torch.log(sum(torch.exp(m) for m in maps) / len(maps)) for maps in left]
    torch.testing.assert_close(after, torch.stack(expected, 1), rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(after[:, 3], before[:, 3], rtol=1e-4, atol=1e-4)


def test_a_copy_says_where_it_comes_from_and_has_no_scores(checkpoint: Path, tmp_path: Path):
    write_names(checkpoint, {0: "glands"}, "Ada")
    first, second = tmp_path / "first.safetensors", tmp_path / "second.safetensors"
    before = checkpoint.read_bytes()
    info = save_edited(checkpoint, first, muted=[1], names={5: "fibres"}, author="Bo")
    assert checkpoint.read_bytes() == before
    assert info.scores == {}
    assert (info.edited["parent"], info.edited["parent_digest"]) == ("tiny.safetensors", file_digest(checkpoint))
    assert (info.edited["muted"], info.edited["merged"], info.edited["author"]) == (["TUM:2"], [], "Bo")
    old = read_info(checkpoint)
    assert old.scores
    assert (info.notice, info.training, info.calibration) == (old.notice, old.training, old.calibration)
    assert {n: name.name for n, name in read_names(first).by_number.items()} == {0: "glands", 5: "fibres"}
    again = save_edited(first, second, merged=[(0, 2)])
    assert again.model.groups[0] == ((0, 2),)
    assert again.edited["before"]["muted"] == ["TUM:2"]
    assert read_names(second).by_number[5].author == "Bo"
    write_names(second, {5: ""})
    assert set(read_names(second).by_number) == {0}


def test_what_is_not_edited_is_written_as_ever(checkpoint: Path, tmp_path: Path):
    document = read_info(checkpoint).to_document()
    assert not {"names", "edited"} & set(document)
    assert "groups" not in document["model"]
    info = save_edited(checkpoint, tmp_path / "copy.safetensors", names={0: "glands"})
    assert info.model == read_info(checkpoint).model


@pytest.mark.parametrize(
    ("muted", "merged", "words"),
    [
        ([0, 1, 2], [], "class TUM would have no prototype left: keep one of its prototypes"),
        ([12], [], "prototype 12 does not exist: tiny has 12 prototypes"),
        ([0], [(0, 1)], "prototype TUM:1 is muted and cannot be merged"),
        ([], [(2, 3)], "prototypes TUM:3, STR:1 are of different classes"),
        ([], [(4,)], "merging prototype STR:2 alone changes nothing"),
    ],
)
def test_what_cannot_be_is_refused(checkpoint: Path, tmp_path: Path, muted, merged, words):
    with pytest.raises(ConfigError, match=words):
        save_edited(checkpoint, tmp_path / "new.safetensors", muted, merged)
    assert not (tmp_path / "new.safetensors").exists()


def test_nothing_is_overwritten_and_nothing_is_left_behind(checkpoint: Path, tmp_path: Path):
    files = sorted(tmp_path.iterdir())
    with pytest.raises(CheckpointError, match="exists, and nothing is overwritten: choose another name"):
        save_edited(checkpoint, checkpoint, muted=[0])
    with pytest.raises(CheckpointError, match=r"must end in \.safetensors"):
        save_edited(checkpoint, tmp_path / "new.bin", muted=[0])
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match="cannot write"):
        save_edited(checkpoint, tmp_path / "file" / "new.safetensors", muted=[0])
    assert sorted(tmp_path.iterdir()) == sorted([*files, tmp_path / "file"])


def test_plain_cam_has_nothing_to_mute(tiny_config, tiny_info, tmp_path: Path):
    model = dataclasses.replace(tiny_config, head="linear", prototypes_per_class=1)
    path = tmp_path / "plain.safetensors"
    save_checkpoint(path, LPDNet(model), dataclasses.replace(tiny_info, model=model, prototype_source="linear"))
    with pytest.raises(ConfigError, match="plain is plain CAM and has no prototypes to mute or merge"):
        save_edited(path, tmp_path / "new.safetensors", muted=[0])


@pytest.mark.parametrize(
    "groups",
    [
        (((0,),),),
        (((0,), (1,)), ()),
        (((0,), ()), ((2,),)),
        (((0, 0),), ((2,),)),
        (((0,), (0,)), ((2,),)),
        (((2,),), ((3,),)),
    ],
)
def test_groups_that_fit_no_network_are_refused(groups):
    assert ModelConfig("mit_b0", 2, prototypes_per_class=2, groups=(((1, 0),), ((2,),))).groups
    with pytest.raises(ConfigError, match="groups"):
        ModelConfig("mit_b0", 2, prototypes_per_class=2, groups=groups)


def test_groups_are_edited_further():
    groups = regrouped(ungrouped(2, 4), muted=[5], merged=[(3, 1)])
    assert groups == (((0,), (1, 3), (2,)), ((4,), (6,), (7,)))
    assert regrouped(groups, merged=[(3, 0)]) == (((0, 1, 3), (2,)), ((4,), (6,), (7,)))
    assert regrouped(groups, muted=[1, 0, 2, 3]) == ((), ((4,), (6,), (7,)))

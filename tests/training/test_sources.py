"""Where prototypes come from: learnt, clustered and kept, clustered and learnt, or none at all."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from lpd.data.tiles import TileSet
from lpd.errors import CheckpointError, ConfigError
from lpd.model.bank import PrototypeBank, load_bank, save_bank
from lpd.model.encoders import build_encoder
from lpd.model.header import read_info
from lpd.recipe.config import EncoderConfig, TrainConfig
from lpd.recipe.settings_file import changed, read_config
from lpd.runs import Run
from lpd.training.banking import BankConfig, build_bank, load_bank_encoder
from lpd.training.loop import train

QUICK = read_config(
    overrides=[
        "encoder.name=test_convnext",
        "optimizer={epochs: 1, batch_size: 6, warmup_steps: 0, ema_decay: 0, learning_rate: 1e-3}",
        "encoder.weights=none",
        "loop.precision=fp32",
    ]
)


@pytest.fixture(scope="module")
def weights(tmp_path_factory) -> Path:
    torch.manual_seed(11)
    path = tmp_path_factory.mktemp("weights") / "given.safetensors"
    save_file(build_encoder("test_convnext").body.state_dict(), path)
    return path


@pytest.fixture(scope="module")
def bank(weights, toy_tiles, tmp_path_factory) -> Path:
    encoder, record = load_bank_encoder(EncoderConfig("test_convnext", str(weights)))
    tiles = TileSet.open(toy_tiles, "train")
    path = tmp_path_factory.mktemp("bank") / "bank.safetensors"
    save_bank(path, build_bank(encoder, record, tiles, QUICK.input_spec(1.0, 128), BankConfig(per_class=2)))
    return path


def run_training(config: TrainConfig, tiles: Path, out: Path):
    torch.set_num_threads(1)
    with Run(out, "train") as run:
        last = train(config, TileSet.open(tiles, "train"), None, run).last
    return load_file(last), read_info(last)


def with_bank(weights: Path, bank: Path, source: str) -> TrainConfig:
    return changed(QUICK, f"encoder.weights={weights}", f"prototypes={{source: {source}, bank: {bank}, per_class: 2}}")


def as_started(bank: PrototypeBank) -> torch.Tensor:
    """Centroids at the length of a learnable prototype: 0.1 in each component."""
    return torch.from_numpy(bank.vectors) * 0.1 * bank.vectors.shape[1] ** 0.5


def test_clustered_prototypes_stay_unless_they_may_learn(few_tiles, weights, bank, tmp_path):
    start = as_started(load_bank(bank))
    for source, moved in (("kmeans", False), ("kmeans_init", True)):
        tensors, info = run_training(with_bank(weights, bank, source), few_tiles, tmp_path / source)
        distance = (tensors["prototypes"].float() - start).abs().max()
        assert (distance > 1e-3) == moved
        assert torch.nn.functional.cosine_similarity(tensors["prototypes"].float(), start).min() > 0.9
        assert info.prototype_source == source
        assert info.training["bank"]["file"] == info.training["settings"]["prototypes"]["bank"] == "bank.safetensors"
        assert len(info.training["bank"]["sha256"]) == 64
        assert info.model.prototype_dim == start.shape[1]


def test_a_linear_head_trains_and_says_so(few_tiles, tmp_path):
    config = changed(QUICK, "prototypes={source: linear, per_class: 1}")
    before, info = run_training(changed(config, "optimizer.learning_rate=1e-9"), few_tiles, tmp_path / "slow")
    after, _ = run_training(config, few_tiles, tmp_path / "run")
    assert info.prototype_source == "linear"
    assert "prototypes" not in after
    assert not torch.equal(before["classifiers.3.weight"], after["classifiers.3.weight"])


def test_a_bank_that_does_not_fit_is_refused(few_tiles, weights, bank, tmp_path):
    with pytest.raises(ConfigError, match="holds 2 prototypes per class"):
        run_training(changed(with_bank(weights, bank, "kmeans"), "prototypes.per_class=3"), few_tiles, tmp_path)
    with pytest.raises(CheckpointError, match=r"encoder\.name 'test_convnext' and the training has 'test_resnet'"):
        run_training(
            changed(with_bank(weights, bank, "kmeans"), "encoder={name: test_resnet, weights: none}"),
            few_tiles,
            tmp_path,
        )
    with pytest.raises(CheckpointError, match="starts from none"):
        run_training(changed(with_bank(weights, bank, "kmeans"), "encoder.weights=none"), few_tiles, tmp_path)
    with pytest.raises(CheckpointError, match=r"gone\.safetensors"):
        run_training(with_bank(weights, tmp_path / "gone.safetensors", "kmeans"), few_tiles, tmp_path)

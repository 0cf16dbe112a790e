"""Building a bank: embeddings known by colour, only tiles of one class, and what a person reads when it cannot be."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

from lpd.config import InputSpec, ModelConfig
from lpd.data.tiles import TileSet
from lpd.errors import CheckpointError, ConfigError, DatasetError, RunError
from lpd.model.bank import EncoderRecord
from lpd.model.encoder_weights import load_encoder_weights
from lpd.model.encoders import Encoder, build_encoder
from lpd.model.kmeans import cosine_kmeans
from lpd.model.network import LPDNet
from lpd.recipe.config import EncoderConfig
from lpd.training.banking import BankConfig, build_bank, embed, load_bank_encoder, single_class_tiles

RECORD = EncoderRecord("colours", (), "colours.safetensors", "ab" * 32, notice="colours are free")
SPEC = InputSpec(mpp=0.5, tile_px=64, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0))
YAML = """\
name: colours
mpp: 0.5
classes:
  - {code: AAA, name: A, color: [1, 2, 3]}
  - {code: BBB, name: B, color: [4, 5, 6]}
licence: for all
"""
RED, BLUE, GREEN, GREY, WHITE = (200, 0, 0), (0, 0, 100), (0, 150, 0), (90, 90, 90), (255, 255, 255)
#: Colour and label by tile; the reds are of one direction, "r2" being a little off it.
TILES = {
    "r0": (RED, "10"),
    "r1": (RED, "10"),
    "r2": ((200, 20, 0), "10"),
    "b0": (BLUE, "10"),
    "g0": (GREEN, "01"),
    "w0": (WHITE, "01"),
    "w1": (WHITE, "01"),
    "x0": ((255, 0, 255), "11"),
    "y0": ((255, 255, 0), "00"),
}


class ColourEncoder(Encoder):
    """Two maps of local mean colours, the deepest with a pixel for every 16; what it sees can be told by hand."""

    def __init__(self, change=None) -> None:
        super().__init__(nn.Dropout(0.9), (3, 3), (8, 16))
        self._change = change or (lambda maps: maps)

    def forward(self, images: Tensor) -> list[Tensor]:
        seen = self.body(images)  # in training mode this would blot most of it out
        fine, deep = (nn.functional.avg_pool2d(seen, stride) for stride in self.strides)
        return [fine * 0 - 1, self._change(deep)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "train").mkdir()
    (tmp_path / "dataset.yaml").write_text(YAML)
    for name, (colour, label) in TILES.items():
        Image.new("RGB", (64, 64), colour).save(tmp_path / "train" / f"{name}[{label}].png")
    return tmp_path


@pytest.fixture
def tiles(folder) -> TileSet:
    return TileSet.open(folder, "train")


def direction(*colours: tuple[int, int, int]) -> np.ndarray:
    """Direction of the mean of the colours' directions."""
    mean = sum(np.array(c) / np.linalg.norm(c) for c in colours)
    return mean / np.linalg.norm(mean)


def test_prototypes_are_the_colours_of_single_class_tiles(tiles):
    bank = build_bank(ColourEncoder(), RECORD, tiles, SPEC, BankConfig(per_class=2, batch_size=2))
    expected = [direction(RED, RED, (200, 20, 0)), direction(BLUE), direction(WHITE), direction(GREEN)]
    np.testing.assert_allclose(bank.vectors, expected, atol=1e-6)
    info = bank.info
    assert info.codes == ("AAA", "BBB")
    assert info.tiles == (4, 3)
    assert info.members == (3, 1, 2, 1)
    assert info.exemplars[0] == ("r0[10].png", "r1[10].png", "r2[10].png")  # the nearest first: r2 is off
    assert info.exemplars[1:] == (("b0[10].png",), ("w0[01].png", "w1[01].png"), ("g0[01].png",))
    assert info.cosines[1:] == pytest.approx((1, 1, 1))
    assert 0.99 < info.cosines[0] < 1
    assert info.notice == "for all; colours are free"
    assert (info.data_name, info.data_fingerprint) == ("colours", tiles.fingerprint())
    assert (info.encoder, info.input, info.patches, info.seed) == (RECORD, SPEC, 1, 0)
    assert info.silhouettes[1] == pytest.approx(2 / 3)  # two copies far from the one alone, which counts 0
    bank.check_fit(tiles.info.scheme.codes, RECORD, SPEC.mean, SPEC.std)


def test_the_encoder_sees_tiles_normalised_as_the_spec_says(tiles):
    spec = dataclasses.replace(SPEC, mean=(0.5, 0.25, 0.0), std=(0.5, 0.25, 1.0))
    config = BankConfig(per_class=1)
    seen = embed(ColourEncoder().eval(), tiles, [tiles_named(tiles, "r0")], spec, config)
    expected = [(200 / 255 - 0.5) / 0.5, -1.0, 0.0]
    np.testing.assert_allclose(seen, [[expected]], atol=1e-5)


def tiles_named(tiles: TileSet, start: str) -> int:
    return next(i for i, file in enumerate(tiles.files) if file.image.name.startswith(start))


def test_patches_are_parts_of_the_map_row_by_row(folder):
    quarters = np.zeros((64, 64, 3), dtype=np.uint8)
    quarters[:32, :32], quarters[:32, 32:], quarters[32:, :32], quarters[32:, 32:] = RED, BLUE, GREEN, GREY
    Image.fromarray(quarters).save(folder / "train" / "a[10].png")
    tiles = TileSet.open(folder, "train")
    seen = embed(ColourEncoder().eval(), tiles, [0, 1], SPEC, BankConfig(patches=2))
    assert seen.shape == (2, 4, 3)
    np.testing.assert_allclose(seen[0] * 255, [RED, BLUE, GREEN, GREY], atol=1e-3)
    # A map of 4 × 4 falls into thirds of 2, 1 and 1 pixels; none is counted twice.
    thirds = embed(ColourEncoder().eval(), tiles, [0], SPEC, BankConfig(patches=3))
    assert thirds.shape == (1, 9, 3)
    np.testing.assert_allclose(thirds[0, :4] * 255, [RED, BLUE, BLUE, GREEN], atol=1e-3)


def test_patches_make_more_prototypes_possible_and_name_a_tile_once(tiles):
    bank = build_bank(ColourEncoder(), RECORD, tiles, SPEC, BankConfig(per_class=5, patches=2))
    assert bank.info.patches == 2
    assert sum(bank.info.members[:5]) == 16
    assert bank.info.tiles == (4, 3)
    assert all(len(set(names)) == len(names) for names in bank.info.exemplars)


def test_at_most_five_tiles_stand_for_a_prototype(folder):
    for index in range(6):
        Image.new("RGB", (64, 64), (200, index, 0)).save(folder / "train" / f"s{index}[10].png")
    tiles = TileSet.open(folder, "train")
    bank = build_bank(ColourEncoder(), RECORD, tiles, SPEC, BankConfig(per_class=2))
    assert bank.info.members[0] == 9
    assert len(bank.info.exemplars[0]) == 5


def test_the_size_of_batches_changes_nothing(tiles):
    banks = [
        build_bank(ColourEncoder(), RECORD, tiles, SPEC, BankConfig(per_class=2, seed=3, batch_size=size))
        for size in (1, 4, 100)
    ]
    for bank in banks[1:]:
        np.testing.assert_allclose(bank.vectors, banks[0].vectors, atol=1e-6)
        assert bank.info.members == banks[0].info.members
    assert banks[0].info.seed == 3


def test_the_seed_reaches_the_clustering_of_every_class(tiles, monkeypatch):
    seeds = []

    def listen(vectors, count, *, seed):
        seeds.append(seed)
        return cosine_kmeans(vectors, count, seed=seed)

    monkeypatch.setattr("lpd.training.banking.cosine_kmeans", listen)
    build_bank(ColourEncoder(), RECORD, tiles, SPEC, BankConfig(per_class=1, seed=42))
    assert seeds == [42, 42]


def test_progress_counts_the_tiles_that_are_embedded(tiles):
    told: list[tuple[int, int]] = []
    build_bank(
        ColourEncoder(),
        RECORD,
        tiles,
        SPEC,
        BankConfig(per_class=1, batch_size=3),
        progress=lambda done, total: told.append((done, total)),
    )
    assert told == [(3, 7), (6, 7), (7, 7)]


def test_single_class_tiles_are_those_of_one_label(tiles):
    names = [[tiles.files[i].image.name[:2] for i in indices] for indices in single_class_tiles(tiles)]
    assert names == [["b0", "r0", "r1", "r2"], ["g0", "w0", "w1"]]


def test_too_few_tiles_name_a_cure_that_helps(tiles):
    with pytest.raises(ConfigError, match=r"class BBB has 3 train tiles .* 4 prototypes: ask for at most 3.*patches 2"):
        build_bank(ColourEncoder(), RECORD, tiles, SPEC, BankConfig(per_class=4))
    with pytest.raises(ConfigError, match="at most 4, or pass patches 3"):
        build_bank(ColourEncoder(), RECORD, tiles, SPEC, BankConfig(per_class=20))
    build_bank(ColourEncoder(), RECORD, tiles, SPEC, BankConfig(per_class=20, patches=3))


def test_a_class_that_is_never_alone_is_named(folder):
    for name in ("g0", "w0", "w1"):
        (folder / "train" / f"{name}[01].png").unlink()
    with pytest.raises(DatasetError, match="class BBB of 'colours' is in no train tile alone"):
        build_bank(ColourEncoder(), RECORD, TileSet.open(folder, "train"), SPEC, BankConfig(per_class=1))


def test_more_patches_than_the_map_has_pixels_are_refused(tiles):
    build_bank(ColourEncoder(), RECORD, tiles, SPEC, BankConfig(per_class=1, patches=4))
    with pytest.raises(ConfigError, match="patches 5 is too many: the deepest map of encoder colours has 4 × 4 pixels"):
        build_bank(ColourEncoder(), RECORD, tiles, SPEC, BankConfig(per_class=1, patches=5))


def test_an_encoder_that_refuses_the_tiles_is_named(tiles):
    def refuse(_maps: Tensor) -> Tensor:
        raise AssertionError("Input height (64) doesn't match model (224).")

    with pytest.raises(ConfigError, match=r"encoder colours cannot take tiles of 64 px \(Input height"):
        build_bank(ColourEncoder(refuse), RECORD, tiles, SPEC, BankConfig(per_class=1))


def test_a_full_memory_is_told_in_one_sentence(tiles):
    def fill(maps: Tensor) -> Tensor:
        if len(maps) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate")
        return maps

    with pytest.raises(RunError, match="too little memory for clustering these tiles: choose a smaller encoder"):
        build_bank(ColourEncoder(fill), RECORD, tiles, SPEC, BankConfig(per_class=1))


@pytest.mark.parametrize("spoilt", [0.0, float("nan"), float("inf")])
def test_an_answer_without_direction_names_the_tile(tiles, spoilt):
    def spoil(maps: Tensor) -> Tensor:
        green = (maps[:, 1] > 0.5).all((1, 2)) & (maps[:, 0] < 0.1).all((1, 2))
        return torch.where(green[:, None, None, None], torch.full_like(maps, spoilt), maps)

    with pytest.raises(CheckpointError, match=r"encoder colours with colours\.safetensors answers tile g0\[01\]\.png"):
        build_bank(ColourEncoder(spoil), RECORD, tiles, SPEC, BankConfig(per_class=1))


@pytest.mark.parametrize(("name", "value"), [("per_class", 0), ("patches", 0), ("seed", -1), ("batch_size", 0)])
def test_settings_out_of_bounds_are_named(name, value):
    with pytest.raises(ConfigError, match=f"{name} {value}"):
        BankConfig(**{name: value})


@pytest.fixture
def weights(tmp_path) -> Path:
    torch.manual_seed(0)
    save_file(build_encoder("test_convnext").body.state_dict(), tmp_path / "tiny.safetensors")
    return tmp_path / "tiny.safetensors"


def test_the_record_tells_what_was_loaded(weights):
    options = (("drop_path_rate", 0.1),)
    _, record = load_bank_encoder(EncoderConfig("test_convnext", str(weights), options, last_stride=0))
    assert record.last_stride == 0
    assert record.weights_sha256 == hashlib.sha256(weights.read_bytes()).hexdigest()
    assert (record.name, record.options, record.weights_file) == ("test_convnext", options, "tiny.safetensors")
    assert "licence" in record.notice


def test_embeddings_are_means_of_the_map_that_a_training_sees(weights, tiles):
    encoder, _ = load_bank_encoder(EncoderConfig("test_convnext", str(weights)))
    network = LPDNet(ModelConfig("test_convnext", class_count=2, prototype_dim=8)).eval()
    load_encoder_weights(network.encoder, weights)
    with torch.no_grad():
        pixels = torch.from_numpy(tiles.images([2])).permute(0, 3, 1, 2) / 255
        output = network(pixels)
    seen = embed(encoder.eval(), tiles, [2], SPEC, BankConfig())
    np.testing.assert_allclose(seen[0], output.features[3].mean((2, 3)).numpy(), atol=1e-5)


def test_an_untrained_encoder_is_refused():
    with pytest.raises(ConfigError, match=r"untrained encoder mit_b1 sees mean nothing: name a weights file"):
        load_bank_encoder(EncoderConfig("mit_b1", "none"))


def test_weights_that_are_not_there_are_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"gone\.safetensors"):
        load_bank_encoder(EncoderConfig("test_convnext", str(tmp_path / "gone.safetensors")))

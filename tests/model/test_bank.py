"""Prototype banks: clustering against all partitions, silhouettes by hand, and every wrong file explained."""

from __future__ import annotations

import dataclasses
import itertools
import json
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from lpd.config import InputSpec
from lpd.errors import CheckpointError, ConfigError, ShapeError
from lpd.model.bank import (
    BANK_KEY,
    BankInfo,
    EncoderRecord,
    PrototypeBank,
    cosine_kmeans,
    cosine_silhouette,
    load_bank,
    save_bank,
)
from lpd.model.checkpoint import save_checkpoint
from lpd.model.header import BadCheckpoint, list_checkpoints, read_info

SHA = "ab" * 32


def random_vectors(count: int, dim: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, dim)) * rng.uniform(0.1, 9, (count, 1)) + 0.2


def best_of_all_partitions(vectors: np.ndarray, count: int) -> float:
    """The highest mean cosine to the direction of one's own group that any grouping reaches."""
    points = [v / np.sqrt(v @ v) for v in vectors]
    best = -1.0
    for groups in itertools.product(range(count), repeat=len(points)):
        if len(set(groups)) < count:
            continue
        total = 0.0
        for group in range(count):
            own = [p for p, g in zip(points, groups, strict=True) if g == group]
            mean = sum(own) / np.sqrt(sum(own) @ sum(own))
            total += sum(float(p @ mean) for p in own)
        best = max(best, total / len(points))
    return best


@pytest.mark.parametrize(("count", "dim", "groups"), [(7, 2, 2), (8, 2, 3), (7, 64, 3), (8, 320, 2), (6, 320, 4)])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_grouping_of_a_few_vectors_is_better(count, dim, groups, seed):
    vectors = random_vectors(count, dim, seed)
    found = cosine_kmeans(vectors, groups, seed=seed)
    assert found.objective == pytest.approx(best_of_all_partitions(vectors, groups), abs=1e-9)


def test_what_is_told_of_a_grouping_agrees_with_itself():
    vectors = random_vectors(40, 6, 3).astype(np.float32)
    found = cosine_kmeans(vectors, 5, seed=1)
    points = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    for group in range(5):
        mean = points[found.assignment == group].mean(0)
        np.testing.assert_allclose(found.centroids[group], mean / np.linalg.norm(mean), atol=1e-6)
    cosines = [points[i] @ found.centroids[g] for i, g in enumerate(found.assignment)]
    np.testing.assert_allclose(found.cosines, cosines, atol=1e-6)
    assert found.objective == pytest.approx(np.mean(cosines), abs=1e-6)
    sizes = np.bincount(found.assignment)
    assert list(sizes) == sorted(sizes, reverse=True)


def test_groups_that_are_there_are_found_the_largest_first():
    rng = np.random.default_rng(0)
    truth = np.repeat([0, 1, 2], [10, 40, 25])
    vectors = np.eye(8)[truth] * rng.uniform(1, 100, (75, 1)) + rng.normal(size=(75, 8)) * 0.02
    found = cosine_kmeans(vectors, 3, seed=0)
    assert found.assignment.tolist() == np.array([2, 0, 1])[truth].tolist()


def test_of_equal_groups_the_one_with_the_earliest_vector_is_first():
    vectors = np.eye(3)[[2, 0, 0, 1, 2, 1]]
    for seed in range(5):
        assert cosine_kmeans(vectors, 3, seed=seed).assignment.tolist() == [0, 1, 1, 2, 0, 2]


def test_a_seed_decides_and_more_attempts_are_never_worse():
    vectors = random_vectors(60, 5, 0)
    once = [cosine_kmeans(vectors, 6, seed=s, restarts=1).objective for s in range(6)]
    assert len(set(once)) > 1
    first, second = cosine_kmeans(vectors, 6, seed=4), cosine_kmeans(vectors, 6, seed=4)
    assert np.array_equal(first.assignment, second.assignment)
    assert np.array_equal(first.centroids, second.centroids)
    assert first.objective >= once[4]


@pytest.mark.parametrize(("copies", "count"), [((3,), 3), ((4, 1), 3), ((2, 2), 4), ((5, 3), 2)])
def test_copies_of_a_vector_leave_no_group_empty(copies, count):
    vectors = np.repeat(np.eye(4)[: len(copies)], copies, axis=0)
    found = cosine_kmeans(vectors, count, seed=0)
    assert (np.bincount(found.assignment, minlength=count) > 0).all()
    assert found.objective == pytest.approx(1)


def test_vectors_that_cancel_out_still_get_a_direction():
    found = cosine_kmeans(np.array([[3.0, 4.0], [-3.0, -4.0]]), 1, seed=0)
    assert np.linalg.norm(found.centroids) == pytest.approx(1)
    assert found.objective == pytest.approx(0)


@pytest.mark.parametrize(
    ("vectors", "settings", "error", "message"),
    [
        (np.ones((2, 3)), {"count": 3}, ConfigError, "2 vectors cannot make 3 groups"),
        (np.ones((2, 3)), {"count": 0}, ConfigError, "cannot make 0 groups"),
        (np.ones((0, 3)), {"count": 1}, ConfigError, "0 vectors"),
        (np.ones(3), {"count": 1}, ShapeError, r"not \(N, D\)"),
        (np.array([[1.0, 0], [0, 0]]), {"count": 1}, ConfigError, "vector 1 has no direction"),
        (np.array([[np.nan, 0], [1.0, 0]]), {"count": 1}, ConfigError, "vector 0 has no direction"),
        (np.ones((2, 3)), {"count": 1, "restarts": 0}, ConfigError, "restarts 0"),
        (np.ones((2, 3)), {"count": 1, "iterations": 0}, ConfigError, "iterations 0"),
    ],
)
def test_what_cannot_be_grouped_is_refused(vectors, settings, error, message):
    with pytest.raises(error, match=message):
        cosine_kmeans(vectors, seed=0, **settings)


def test_silhouette_by_hand():
    """Directions east, east, north, west in groups 0 0 1 1: 1, 1, (1 − 1) / 1, (2 − 1) / 2."""
    vectors = np.array([[1.0, 0], [2.0, 0], [0, 3.0], [-1.0, 0]])
    assert cosine_silhouette(vectors, np.array([0, 0, 1, 1])) == pytest.approx(2.5 / 4)
    # Alone in a group counts 0; a single group has no silhouette; copies in two groups are as near as can be.
    assert cosine_silhouette(vectors[:3], np.array([0, 0, 1])) == pytest.approx(2 / 3)
    assert cosine_silhouette(vectors, np.zeros(4, dtype=np.intp)) is None
    assert cosine_silhouette(np.ones((4, 2)), np.array([0, 1, 0, 1])) == pytest.approx(0, abs=1e-3)


def test_silhouette_is_that_of_its_definition():
    vectors = random_vectors(20, 4, 7)
    groups = np.array([0] * 9 + [1] * 6 + [2] * 4 + [3])
    points = [v / np.sqrt(v @ v) for v in vectors]
    values = []
    for i, own in enumerate(groups):
        distances = {g: [1 - points[i] @ points[j] for j in range(20) if groups[j] == g and j != i] for g in range(4)}
        if not distances[own]:
            values.append(0.0)
            continue
        inner = np.mean(distances.pop(own))
        outer = min(np.mean(d) for d in distances.values())
        values.append((outer - inner) / max(inner, outer))
    assert cosine_silhouette(vectors, groups) == pytest.approx(np.mean(values))


@pytest.fixture
def bank() -> PrototypeBank:
    info = BankInfo(
        codes=("TUM", "STR"),
        per_class=2,
        encoder=EncoderRecord("resnet18", (("pad_type", "same"),), "resnet.safetensors", SHA, "free to use"),
        input=InputSpec(mpp=0.5, tile_px=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
        data_name="Gewebe — ü",
        data_fingerprint="0123456789abcdef",
        patches=1,
        seed=7,
        tiles=(5, 3),
        silhouettes=(0.25, None),
        members=(3, 2, 2, 1),
        cosines=(0.9, 0.8, 0.7, 1.0),
        exemplars=(("a[10].png", "b[10].png"), ("c[10].png",), ("d[01].png",), ()),
        notice="research only; free to use",
    )
    return PrototypeBank(np.array([[1, 0, 0], [0, 1, 0], [0, 0, 1], [0.6, 0.8, 0]], dtype=np.float32), info)


@pytest.fixture
def saved(bank, tmp_path) -> Path:
    path = tmp_path / "banks" / "two.safetensors"
    save_bank(path, bank)
    return path


def test_a_bank_comes_back_as_it_was(saved, bank):
    found = load_bank(saved)
    assert np.array_equal(found.vectors, bank.vectors)
    assert found.vectors.dtype == np.float32
    assert found.info == bank.info
    assert [p.name for p in saved.parent.iterdir()] == ["two.safetensors"]


def test_a_bank_is_no_checkpoint(saved):
    with pytest.raises(CheckpointError, match=r"two\.safetensors is a safetensors file without an LPD description"):
        read_info(saved)
    (listed,) = list_checkpoints(saved.parent)
    assert isinstance(listed, BadCheckpoint)


def test_a_checkpoint_is_no_bank(tiny_network, tiny_info):
    save_checkpoint(tiny_info.path, tiny_network, tiny_info)
    with pytest.raises(CheckpointError, match=r"tiny\.safetensors is an lpd checkpoint, not a prototype bank"):
        load_bank(tiny_info.path)


def test_truncation_anywhere_is_noticed(saved):
    content = saved.read_bytes()
    for length in (0, 7, 8, 100, len(content) // 2, len(content) - 1):
        saved.write_bytes(content[:length])
        with pytest.raises(CheckpointError, match=r"two\.safetensors cannot be read as a prototype bank"):
            load_bank(saved)


def test_missing_and_foreign_files_are_explained(tmp_path):
    pointer, plain = tmp_path / "pointer.safetensors", tmp_path / "plain.safetensors"
    pointer.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    save_file({"weight": np.zeros(1)}, plain)
    for path in (tmp_path / "gone.safetensors", tmp_path, pointer):
        with pytest.raises(CheckpointError, match="cannot be read as a prototype bank"):
            load_bank(path)
    with pytest.raises(CheckpointError, match=r"plain\.safetensors is a safetensors file without a bank's description"):
        load_bank(plain)


def document(bank: PrototypeBank, **changes: object) -> str:
    whole = {"format_version": 1, **bank.info.to_dict(), **changes}
    return json.dumps({name: value for name, value in whole.items() if value is not ...})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format_version": 2}, "bank format 2.*update lpd"),
        ({"format_version": ...}, "bank format None"),
        ({"seed": ...}, "malformed.*seed"),
        ({"colour": "red"}, "no setting 'colour'"),
        ({"codes": []}, "class codes"),
        ({"codes": ["TUM", "TUM"]}, "differ from one another"),
        ({"per_class": 0}, "per_class 0"),
        ({"per_class": 3}, "members has 4 entries and should have 6"),
        ({"members": [3, 2, 2]}, "members has 3 entries and should have 4"),
        ({"cosines": []}, "cosines has 0"),
        ({"exemplars": [[]]}, "exemplars has 1"),
        ({"tiles": [1]}, "tiles has 1 entries and should have 2"),
        ({"silhouettes": []}, "silhouettes has 0"),
        ({"silhouettes": ["high", 0.1]}, "silhouettes"),
        ({"encoder": {"name": "resnet18"}}, "malformed"),
        ({"encoder": "resnet18"}, "encoder 'resnet18'"),
        ({"input": {"mpp": "fast"}}, "mpp 'fast'"),
    ],
)
def test_malformed_descriptions_are_explained(bank, tmp_path, changes, message):
    path = tmp_path / "odd.safetensors"
    save_file({"vectors": bank.vectors}, path, {BANK_KEY: document(bank, **changes)})
    with pytest.raises(CheckpointError, match=message) as caught:
        load_bank(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("text", ["{,}", "[" * 100_000])
def test_a_description_that_is_no_json_is_explained(bank, tmp_path, text):
    save_file({"vectors": bank.vectors}, tmp_path / "odd.safetensors", {BANK_KEY: text})
    with pytest.raises(CheckpointError, match="unreadable description"):
        load_bank(tmp_path / "odd.safetensors")
    save_file({"vectors": bank.vectors}, tmp_path / "odd.safetensors", {BANK_KEY: "[]"})
    with pytest.raises(CheckpointError, match="not a JSON object"):
        load_bank(tmp_path / "odd.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda v: {"vectors": v[:3]}, r"\(3, 3\) float32, not \(4, D\)"),
        (lambda v: {"vectors": v.ravel()}, r"\(12,\) float32"),
        (lambda v: {"vectors": v * 2}, "not all of length 1"),
        (lambda v: {"vectors": v * np.float32("nan")}, "not all of length 1"),
        (lambda v: {"vectors": v.astype(np.float64)}, "vectors alone, in F32"),
        (lambda v: {"vectors": v, "more": v}, "vectors alone"),
        (lambda v: {"prototypes": v}, "vectors alone"),
    ],
)
def test_vectors_that_do_not_fit_are_refused(bank, tmp_path, change, message):
    save_file(change(bank.vectors), tmp_path / "odd.safetensors", {BANK_KEY: document(bank)})
    with pytest.raises(CheckpointError, match=message):
        load_bank(tmp_path / "odd.safetensors")


def test_what_cannot_be_written_leaves_the_old_file_and_nothing_else(saved, bank, monkeypatch):
    before = saved.read_bytes()
    with pytest.raises(CheckpointError, match=r"ends in \.safetensors"):
        save_bank(saved.with_suffix(".bank"), bank)
    record = dataclasses.replace(bank.info.encoder, options=(("act", {1, 2}),))
    with pytest.raises(CheckpointError, match="not JSON"):
        save_bank(saved, PrototypeBank(bank.vectors, dataclasses.replace(bank.info, encoder=record)))
    with pytest.raises(CheckpointError, match="cannot write"):
        save_bank(saved / "below.safetensors", bank)

    def full_disk(_tensors, path, _metadata) -> None:
        Path(path).write_bytes(b"half a file")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lpd.model.bank.save_file", full_disk)
    with pytest.raises(CheckpointError, match="No space left"):
        save_bank(saved, bank)
    assert saved.read_bytes() == before
    assert [p.name for p in saved.parent.iterdir()] == ["two.safetensors"]


def test_a_bank_fits_only_its_own_classes_encoder_and_weights(bank):
    bank.check_fit(["TUM", "STR"], "resnet18", SHA)
    for codes in (("STR", "TUM"), ("TUM",), ("TUM", "STR", "LYM")):
        with pytest.raises(ConfigError, match="'Gewebe — ü' has the classes 'TUM', 'STR' and the training"):
            bank.check_fit(codes, "resnet18", SHA)
    with pytest.raises(CheckpointError, match="encoder 'resnet18' and the training uses 'mit_b1'"):
        bank.check_fit(("TUM", "STR"), "mit_b1", SHA)
    with pytest.raises(CheckpointError, match=r"'resnet\.safetensors', sha256 ababab.*others, sha256 cdcdcd"):
        bank.check_fit(("TUM", "STR"), "resnet18", "cd" * 32)
    with pytest.raises(CheckpointError, match="starts from none"):
        bank.check_fit(("TUM", "STR"), "resnet18", "")


def test_a_forged_name_cannot_play_with_the_terminal(bank):
    info = dataclasses.replace(bank.info, data_name="\x1b[2J", codes=("\x1b[3J", "B"))
    with pytest.raises(ConfigError) as caught:
        PrototypeBank(bank.vectors, info).check_fit(("A", "B"), "resnet18", SHA)
    assert str(caught.value).isprintable()

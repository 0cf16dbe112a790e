"""Several processes train the network that one would have trained, and none of them is left waiting."""

from __future__ import annotations

import copy
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from timm.layers import BatchNormAct2d, SyncBatchNormAct
from torch import nn

from lpd.data.tiles import TileSet
from lpd.errors import ConfigError, DatasetError, RunError
from lpd.model.encoders import batch_norms
from lpd.model.header import read_info
from lpd.model.network import LPDNet
from lpd.recipe.config import AugmentConfig
from lpd.recipe.run_files import METRICS, PREVIEWS, RESUME
from lpd.recipe.settings_file import changed, read_config
from lpd.runs import Run, read_state, request_stop
from lpd.training import loop
from lpd.training.distribution import Distribution, FollowerRun, Team, connected, part_of
from lpd.training.feeding import feeding
from lpd.training.keeping import Keeper
from lpd.training.loop import train
from lpd.training.schedule import batches, step_seed
from lpd.training.setup import build_network

# Five tiles make a batch of three and one of two. L_sim, which parts cannot repeat exactly, joins in with next to no
# weight: it is there to see that what takes no part before, its projection, does no harm.
SETTINGS = [
    "encoder.name=test_convnext",
    "encoder.weights=none",
    "prototypes.dim=16",
    "losses.start=0.4",
    "losses.similarity={tower: ema, weight: 1e-12, pair_cap: 4, masking: features}",
    "optimizer.epochs=4",
    "optimizer.batch_size=3",
    "optimizer.warmup_steps=1",
    "loop.seed=5",
    "loop.precision=fp32",
]
CONFIG = read_config(overrides=SETTINGS)


@pytest.fixture(scope="module")
def five_tiles(few_tiles, tmp_path_factory) -> Path:
    """Five tiles to train on."""
    data = tmp_path_factory.mktemp("five") / "tiles"
    shutil.copytree(few_tiles, data)
    min((data / "train").iterdir()).unlink()
    return data


def blocked(out: Path) -> Path:
    """A run folder where pictures cannot be written, so that scoring fails and the snapshot stays."""
    (out / PREVIEWS).parent.mkdir(parents=True, exist_ok=True)
    (out / PREVIEWS).write_text("in the way")
    return out


CANNOT = "File exists"


def start(processes: int, data: Path, out: Path, *words: str) -> subprocess.Popen[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    command = [*torchrun, "-m", "lpd", "train", "--data", str(data), "--out", str(out), "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [*command, "--set", *SETTINGS, *words],
        env=environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
    )


def run_together(processes: int, data: Path, out: Path, *words: str) -> tuple[int, str]:
    """Exit code and output of a training by torchrun."""
    with start(processes, data, out, *words) as process:
        try:
            said, _ = process.communicate(timeout=300)
        finally:
            process.kill()
    return process.returncode, said


def run_alone(data: Path, out: Path, config=CONFIG, *, kind: type[Run] = Run, **choices):
    torch.set_num_threads(1)
    with kind(out, "train") as run:
        return train(config, TileSet.open(data, "train"), TileSet.open(data, "valid"), run, **choices)


def snapshot(out: Path) -> dict:
    return torch.load(out / RESUME, weights_only=True)


def assert_same_weights(out: Path, other: Path) -> None:
    one, two = snapshot(out), snapshot(other)
    assert one["step"] == two["step"]
    for part in ("network", "average"):
        ours, theirs = (s["states"][part] for s in (one, two))
        for values in (ours, theirs):
            values.update(values.pop("values", {}))
        assert ours.keys() == theirs.keys()
        for name, value in theirs.items():
            torch.testing.assert_close(torch.as_tensor(ours[name]), torch.as_tensor(value), rtol=1e-4, atol=1e-6)


@pytest.fixture(scope="module")
def straight(five_tiles, tmp_path_factory) -> Path:
    """A run by one process that did all its eight steps."""
    out = blocked(tmp_path_factory.mktemp("straight"))
    with pytest.raises(RunError, match=CANNOT):
        run_alone(five_tiles, out)
    assert snapshot(out)["step"] == 8
    return out


def logged(out: Path) -> list[list[float]]:
    """Losses and scores, without the time and what parts of a batch cannot know of the whole."""
    entries = [json.loads(line) for line in (out / METRICS).read_text().splitlines()]
    names = ("step", "rate", "loss", "classification", "diversity")
    return [[entry[name] for name in names] for entry in entries if "valid" not in entry]


def test_two_processes_do_what_one_does_and_hear_of_the_first_ones_error(straight, five_tiles, tmp_path):
    code, said = run_together(2, five_tiles, blocked(tmp_path))
    assert code == 1
    assert said.count("lpd train: ") == said.count(CANNOT) == 1, said
    assert said.count("finished after") == 0
    assert read_state(tmp_path).state == "failed"
    assert_same_weights(tmp_path, straight)
    (ours,), (theirs,) = logged(tmp_path), logged(straight)
    assert ours == pytest.approx(theirs, rel=1e-5)


@pytest.mark.slow
def test_an_error_of_the_second_process_is_one_sentence_of_the_first(five_tiles, tmp_path):
    data = tmp_path / "tiles"
    shutil.copytree(five_tiles, data)
    first = next(batches(5, 3, 4, CONFIG.loop.seed))
    bad = TileSet.open(data, "train").files[first[2]].image  # the second process reads two tiles of the first batch
    assert first[2] != 0  # every process looks at the set's first tile
    bad.write_text("x")
    code, said = run_together(2, data, tmp_path / "run")
    assert code == 1
    assert said.count("lpd train: ") == said.count(f"{bad.name} cannot be read") == 1, said
    assert "Error: " not in said.replace("ChildFailedError: ", "")
    assert bad.name in read_state(tmp_path / "run").message
    assert not (tmp_path / "run" / METRICS).exists()


@pytest.mark.slow
def test_any_number_of_processes_goes_on_with_the_work_of_any_other(straight, five_tiles, tmp_path, monkeypatch):
    # One process, then three, of which one has no tile of its own in each second batch, then one again.
    class Dying(Run):
        def advance(self, done, total, unit="tiles"):
            if done == 3:
                raise KeyboardInterrupt
            return super().advance(done, total, unit)

    config = changed(CONFIG, "loop.validate_every=3")
    with pytest.raises(KeyboardInterrupt):
        run_alone(five_tiles, tmp_path, config, kind=Dying)
    assert snapshot(tmp_path)["step"] == 2
    blocked(tmp_path)
    code, said = run_together(3, five_tiles, tmp_path, "--resume", "--set", "loop.validate_every=3")
    assert (code, said.count(CANNOT)) == (1, 1), said  # when a picture is drawn after step 6
    assert snapshot(tmp_path)["step"] == 4
    (tmp_path / PREVIEWS).unlink()
    monkeypatch.setattr(Keeper, "end", lambda _: None)  # which would delete the snapshot
    assert run_alone(five_tiles, tmp_path, config, resume=True).steps == 8
    assert_same_weights(tmp_path, straight)


@pytest.mark.slow
def test_a_signal_to_torchrun_stops_all_after_the_same_step(few_tiles, tmp_path):
    with start(2, few_tiles, tmp_path, "--set", "optimizer.epochs=100000") as process:
        while read_state(tmp_path).progress.done < 5 and process.poll() is None:
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        said, _ = process.communicate(timeout=120)
    assert said.count("stopped after") == 1, said
    assert read_state(tmp_path).state == "cancelled"
    assert read_info(tmp_path / "last.safetensors").training["steps"] == snapshot(tmp_path)["step"] >= 5


@pytest.fixture
def team_of_one(monkeypatch):
    """A connection as torchrun makes it, of one process."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    monkeypatch.setenv("MASTER_PORT", str(port))
    only = Distribution(0, 1, 0)
    with connected(only):
        yield only


def test_a_team_of_one_gives_the_very_same_bits(straight, five_tiles, tmp_path, team_of_one):
    with pytest.raises(RunError, match=CANNOT):
        run_alone(five_tiles, blocked(tmp_path), distribution=team_of_one)
    ours, theirs = snapshot(tmp_path)["states"], snapshot(straight)["states"]
    assert not ours["network"].keys() ^ theirs["network"].keys()
    assert all(torch.equal(ours["network"][name], value) for name, value in theirs["network"].items())
    # Tiny as its weight is, the projection has moved: AdamW makes its steps as long as any other's.
    assert not torch.equal(ours["extra"]["projection.weight"].T @ ours["extra"]["projection.weight"], torch.eye(16))
    assert torch.equal(ours["extra"]["projection.weight"], theirs["extra"]["projection.weight"])


def test_what_has_not_joined_yet_is_left_alone(five_tiles, tmp_path, team_of_one):
    config = changed(CONFIG, "losses.start=8", "optimizer.weight_decay=1")  # a gradient of 0 would let it decay
    with pytest.raises(RunError, match=CANNOT):
        run_alone(five_tiles, blocked(tmp_path), config, distribution=team_of_one)
    projection = snapshot(tmp_path)["states"]["extra"]["projection.weight"]
    torch.testing.assert_close(projection.T @ projection, torch.eye(16), rtol=0, atol=1e-5)  # orthogonal, as it began


def test_a_stop_request_is_one_of_all(five_tiles, tmp_path, team_of_one):
    class Stopping(Run):
        def advance(self, done, total, unit="tiles"):
            request_stop(self.folder)
            return super().advance(done, total, unit)

    with Stopping(tmp_path, "train") as run:
        summary = train(CONFIG, TileSet.open(five_tiles, "train"), None, run, distribution=team_of_one)
    assert (summary.steps, summary.stopped) == (2, True)


def test_the_first_process_raises_what_another_one_could_not_do(monkeypatch):
    three = Team(Distribution(0, 3, 0))

    def add_the_others(words, op):
        assert op == torch.distributed.ReduceOp.MAX
        words[:] = torch.maximum(words, torch.tensor([2, 0]))  # the second of three has failed

    def hear(box, src, device):
        assert (src, device.type) == (1, "cpu")
        box[0] = DatasetError("t1.png cannot be read")

    monkeypatch.setattr(torch.distributed, "all_reduce", add_the_others)
    monkeypatch.setattr(torch.distributed, "broadcast_object_list", hear)
    for method in (three.together, three.any, three.lead):
        with pytest.raises(DatasetError, match=r"t1\.png"):
            method(lambda: True)


def test_a_lost_process_is_an_error_and_no_wait(team_of_one, monkeypatch):
    def lost(*_args, **_choices):
        raise RuntimeError("[gloo] Connection closed by peer")

    monkeypatch.setattr(torch.distributed, "all_reduce", lost)
    with pytest.raises(RunError, match="another process of this training ended early"):
        Team(team_of_one).together(lambda: None)


def test_nobody_to_meet_is_an_error(monkeypatch):
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    monkeypatch.delenv("MASTER_PORT", raising=False)
    with pytest.raises(RunError, match=r"MASTER_ADDR.*start by torchrun"), connected(Distribution(0, 2, 0)):
        pass


@pytest.mark.parametrize("world", [2, 3, 8])
@pytest.mark.parametrize("count", [1, 2, 3, 7, 10])
def test_the_parts_mean_is_the_batches(count, world):
    values = torch.rand(count, dtype=torch.float64)
    parts = [part_of(count, rank, world) for rank in range(world)]
    mean = sum(values[part.tiles].mean() * part.share for part in parts)
    torch.testing.assert_close(mean, values.mean())
    tiles = [index for part in parts if part.share for index in range(part.start, part.stop)]
    assert tiles == list(range(count))
    assert {part.stop - part.start for part in parts} <= {count // world, count // world + 1, 1}
    assert min(part.stop - part.start for part in parts) > 0


@pytest.mark.parametrize("world", [2, 3])
def test_a_tile_is_varied_alike_in_every_part(few_tiles, world):
    tiles, order = TileSet.open(few_tiles, "train"), [[3, 1, 4], [0, 5]]

    def fed(rank: int, world: int) -> list[torch.Tensor]:
        with feeding(tiles, order, 0, AugmentConfig(), 7, lambda count: part_of(count, rank, world)) as varied:
            return list(varied)

    whole = fed(0, 1)
    for rank in range(world):
        for step, own in enumerate(fed(rank, world)):
            assert torch.equal(own, whole[step][part_of(len(order[step]), rank, world).tiles])


def test_processes_draw_other_numbers_and_the_first_those_of_one_process():
    assert step_seed(5, 3, 0) == step_seed(5, 3)
    assert len({step_seed(5, step, rank) for step in range(50) for rank in range(4)}) == 200


@pytest.mark.parametrize("rank", [0, 3])
def test_every_process_seeds_its_drop_path_by_its_rank(five_tiles, tmp_path, monkeypatch, rank):
    asked = []
    team = Team()
    team.rank = rank
    monkeypatch.setattr(team, "part", lambda count: part_of(count, 0, 1))
    monkeypatch.setattr(loop, "Team", lambda _: team)
    monkeypatch.setattr(loop, "step_seed", lambda *words: asked.append(words) or step_seed(*words))
    with pytest.raises(RunError, match=CANNOT):
        run_alone(five_tiles, blocked(tmp_path), changed(CONFIG, "optimizer.epochs=1"))
    assert asked == [(5, 0, rank), (5, 1, rank)]


def test_a_follower_writes_nothing_and_hears_signals(tmp_path):
    request_stop(tmp_path)  # for the leader to see
    with Run(tmp_path / "run", "train"), FollowerRun(tmp_path / "run", "train") as run:
        before = {path: path.read_bytes() for path in (tmp_path / "run").iterdir()}
        run.say("nothing")
        run.advance(1, 2)
        request_stop(run.folder)
        assert not run.stop_requested()
        signal.raise_signal(signal.SIGTERM)
        assert run.stop_requested()
        (run.folder / "stop").unlink()
        assert {path: path.read_bytes() for path in run.folder.iterdir()} == before
    assert read_state(tmp_path / "run").state == "done"


def network(tiles: Path, *settings: str) -> LPDNet:
    config = changed(CONFIG, "encoder.name=test_resnet", *settings)
    return build_network(config, TileSet.open(tiles, "train").info.scheme)[0]


TWO = Team(Distribution(0, 2, 0))


def test_batch_statistics_cannot_be_shared_on_a_cpu(few_tiles):
    with pytest.raises(ConfigError, match="freeze_norm"):
        TWO.share_batch_norms(network(few_tiles))
    frozen = network(few_tiles)
    frozen.encoder.freeze_batch_norm()
    before = batch_norms(frozen)
    TWO.share_batch_norms(frozen)
    assert batch_norms(frozen) == before
    Team().share_batch_norms(network(few_tiles))


def test_batch_norms_on_gpus_are_shared_and_otherwise_the_same(few_tiles, monkeypatch):
    monkeypatch.setattr(LPDNet, "device", torch.device("cuda"))
    shared = network(few_tiles, "encoder.name=test_efficientnet")  # its batch norms hold its activations
    assert any(isinstance(norm, BatchNormAct2d) for norm in batch_norms(shared))
    plain = copy.deepcopy(shared)
    parameters = dict(shared.named_parameters())
    TWO.share_batch_norms(shared)
    assert {type(norm) for norm in batch_norms(shared)} <= {nn.SyncBatchNorm, SyncBatchNormAct}
    assert all(parameter is parameters[name] for name, parameter in shared.named_parameters())
    images = torch.randn(2, 3, 64, 64, generator=torch.manual_seed(1))
    with torch.no_grad():
        ours, theirs = (copy.deepcopy(n).eval()(images).class_logits[3] for n in (shared, plain))
    assert torch.equal(ours, theirs)


def test_every_process_needs_a_gpu_of_its_own(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    with pytest.raises(ConfigError, match="process 1 finds no GPU of its own among 1: lower --nproc-per-node"):
        Team(Distribution(1, 2, 1)).own_device(torch.device("cuda"))
    with pytest.raises(ConfigError, match="--device cpu"):
        TWO.own_device(torch.device("mps"))
    assert TWO.own_device(torch.device("cpu")).type == "cpu"
    assert Team().own_device(torch.device("mps")).type == "mps"

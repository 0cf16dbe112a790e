"""Cohorts on a Dask cluster: the same results, workers killed, stopped, unfit, and what a person reads of all that."""

from __future__ import annotations

import itertools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from filelock import FileLock

import lpd
from lpd.cli import build_parser, dask_cluster
from lpd.cli.dask_cluster import segment_on_dask
from lpd.cli.elsewhere import SIGN, Work, order_of, unfit_for
from lpd.errors import ConfigError, RunError
from lpd.inference.cohort import CohortSlide, result_folders, slides_of
from lpd.runs import read_state

from .test_cohort import arguments, cohort, ended_once, kill_at_work, table
from .test_segment import checkpoint, paint, segment

distributed = pytest.importorskip("distributed")

__all__ = ["checkpoint", "cohort"]

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """Two workers of two threads each, which get one slide at a time all the same."""
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=2, processes=True, dashboard_address="127.0.0.1:0", silence_logs=60
    ) as cluster:
        yield cluster.scheduler_address


def outcomes_of(folders, out: Path, checkpoint: Path, scheduler: str, count: int | None = None):
    return list(segment_on_dask(folders, arguments(out, checkpoint, out), scheduler, count))


@pytest.mark.slow
def test_a_cohort_comes_to_the_same_as_on_this_machine(cohort, checkpoint, tmp_path, scheduler, capfd):
    near, far = tmp_path / "near", tmp_path / "far"
    assert segment(near, checkpoint, cohort) == 1
    assert segment(far, checkpoint, cohort, more=("--mpp", "0.5", "--scheduler", scheduler)) == 1
    rows = table(far)
    assert {name: row["state"] for name, row in rows.items()} == {
        "a.png": "done",
        "b.png": "done",
        "bad.svs": "failed",
        "c.png": "done",
    }
    assert rows["bad.svs"]["reason"] == table(near)["bad.svs"]["reason"]
    for name in "abc":
        np.testing.assert_array_equal(*(tifffile.imread(out / name / "mask.ome.tif") for out in (near, far)))
    states = sorted((read_state(far / name) for name in "abc"), key=lambda state: (state.pid, state.started))
    assert os.getpid() not in {state.pid for state in states}
    for one, other in itertools.pairwise(states):
        assert one.pid != other.pid or one.updated <= other.started
    assert "distributed" not in capfd.readouterr().err
    assert segment(far, checkpoint, cohort, more=("--mpp", "0.5", "--scheduler", scheduler)) == 1
    assert table(far)["a.png"]["state"] == "kept"


def test_a_killed_worker_loses_no_slide_and_doubles_none(cohort, checkpoint, tmp_path, scheduler):
    out = tmp_path / "out"
    folders = result_folders(slides_of([cohort]), out)
    killer = kill_at_work(out, 1)
    outcomes = outcomes_of(folders, out, checkpoint, scheduler)
    killer.join()
    assert sorted((o.slide.name, o.state) for o in outcomes) == [
        ("a.png", "done"),
        ("b.png", "done"),
        ("bad.svs", "failed"),
        ("c.png", "done"),
    ]
    assert all(ended_once(out / name) for name in "abc")


@pytest.mark.slow
def test_a_slide_that_kills_every_worker_is_given_up(cohort, checkpoint, tmp_path, scheduler):
    out = tmp_path / "out"
    args = arguments(out, checkpoint, cohort)
    args.queue = tmp_path  # so that none of them gets any further
    with FileLock(tmp_path / "device-cpu.lock"):
        killer = kill_at_work(out, 3)
        (outcome,) = segment_on_dask({CohortSlide(cohort / "a.png"): out / "a"}, args, scheduler, 1)
        killer.join()
    assert outcome.state == "failed"
    assert "a.png ended its process 3 times" in outcome.said


def command(out: Path, checkpoint: Path, slides: Path, scheduler: str) -> subprocess.Popen[str]:
    words = ["segment", str(slides), "--checkpoint", str(checkpoint), "--out", str(out), "--scheduler", scheduler]
    words += ["--mpp", "0.5", "--device", "cpu", "--threads", "1", "--batch-size", "1", "--stride", "32"]
    return subprocess.Popen([sys.executable, "-m", "lpd", *words], stderr=subprocess.PIPE, text=True, cwd=ROOT)


def wait_for_work(out: Path) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and not list(out.glob("*/changes.jsonl")):
        time.sleep(0.02)


def test_sigterm_saves_and_stops(cohort, checkpoint, tmp_path, scheduler):
    out = tmp_path / "out"
    for number in range(4):  # more than two workers can have begun
        paint(cohort / f"d{number}.png", number)
    process = command(out, checkpoint, cohort, scheduler)
    wait_for_work(out)
    process.send_signal(signal.SIGTERM)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors
    assert "slides not begun" in errors
    states = [row["state"] for row in table(out).values()]
    assert "waiting" in states
    assert "stopped" in states or "done" in states
    assert all(read_state(path.parent).state in ("cancelled", "done") for path in out.glob("*/state.json"))


@pytest.mark.slow
def test_a_scheduler_that_dies_is_named(cohort, checkpoint, tmp_path):
    for number in range(40):  # so many that no machine is done before the scheduler is dead
        paint(cohort / f"{number}.png", number)
    out = tmp_path / "out"
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    start = (
        "import distributed, time\n"
        "if __name__ == '__main__':\n"
        "    local = dict(n_workers=1, dashboard_address='127.0.0.1:0', silence_logs=60)\n"
        f"    distributed.LocalCluster(scheduler_port={port}, **local)\n"
        "    time.sleep(300)\n"
    )
    (tmp_path / "cluster.py").write_text(start)
    own = {**os.environ, "PYTHONPATH": str(ROOT)}  # a scheduler reads tasks, too: it must have lpd
    cluster = subprocess.Popen([sys.executable, str(tmp_path / "cluster.py")], stderr=subprocess.DEVNULL, env=own)
    try:
        process = command(out, checkpoint, cohort, f"tcp://127.0.0.1:{port}")
        wait_for_work(out)
        cluster.kill()
        _, errors = process.communicate(timeout=90)
    finally:
        cluster.kill()
        cluster.wait()
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert f"the Dask scheduler at tcp://127.0.0.1:{port} has gone" in errors


@pytest.mark.parametrize(
    "address", ["", "somewhere", "tcp://host", "host:1x", "http://host:80", "tls://127.0.0.1:8786"]
)
def test_what_is_no_address_is_said_in_a_sentence(cohort, checkpoint, tmp_path, address):
    with pytest.raises(ConfigError, match="is no address of a Dask scheduler"):
        outcomes_of({CohortSlide(cohort / "a.png"): tmp_path / "out" / "a"}, tmp_path / "out", checkpoint, address)
    assert not (tmp_path / "out").exists()


def test_nobody_at_the_address(cohort, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(dask_cluster, "_CONNECT_S", 0.5)
    with pytest.raises(ConfigError, match=r"cannot reach a Dask scheduler at tcp://127\.0\.0\.1:9"):
        outcomes_of({CohortSlide(cohort / "a.png"): tmp_path / "a"}, tmp_path, checkpoint, "tcp://127.0.0.1:9")


def test_no_dask_here(cohort, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with pytest.raises(ConfigError, match=r"pip install distributed"):
        outcomes_of({CohortSlide(cohort / "a.png"): tmp_path / "a"}, tmp_path, checkpoint, "tcp://127.0.0.1:9")


def test_a_cluster_without_workers_is_waited_for_and_then_named(cohort, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(dask_cluster, "_NO_WORKERS_S", 0.5)
    with distributed.LocalCluster(n_workers=0, dashboard_address="127.0.0.1:0", silence_logs=60) as cluster:
        folders = {CohortSlide(cohort / "a.png"): tmp_path / "out" / "a"}
        with pytest.raises(RunError, match="has no workers: start some with: dask worker tcp://"):
            outcomes_of(folders, tmp_path / "out", checkpoint, cluster.scheduler_address)


def test_workers_that_see_another_folder_get_no_second_slide(cohort, checkpoint, tmp_path, scheduler, monkeypatch):
    out = tmp_path / "out"
    folders = result_folders(slides_of([cohort]), out)
    outcomes = segment_on_dask(folders, arguments(out, checkpoint, cohort), scheduler, 1)
    real = order_of

    def elsewhere(args):  # as a worker sees it that has a folder of its own under this path
        order = real(args)
        (out / SIGN).write_text("another")
        return order

    monkeypatch.setattr(dask_cluster, "order_of", elsewhere)
    said = [next(outcomes).said, next(outcomes).said]
    assert all(f"{socket.gethostname()} does not see {out}: share it" in each for each in said)
    with pytest.raises(RunError, match=r"no worker of tcp://.* can do it: .* does not see"):
        next(outcomes)
    assert not list(out.glob("*/state.json"))


def test_a_machine_names_what_it_lacks(cohort, checkpoint, tmp_path, monkeypatch):
    host, work = socket.gethostname(), Work.of(CohortSlide(cohort / "a.png"), tmp_path / "out" / "a", False)
    order = order_of(arguments(tmp_path / "out", checkpoint, cohort))
    assert unfit_for(order, work) == ""
    gone = replace(work, slide=CohortSlide(cohort / "gone.png"))
    assert f"{host} does not see {gone.slide.path}" in unfit_for(order, gone)
    assert unfit_for(order, replace(gone, seen=False)) == ""
    order.args.checkpoint = tmp_path / "no.safetensors"
    assert f"{host} does not see {tmp_path / 'no.safetensors'}" in unfit_for(order, work)
    monkeypatch.setattr(lpd, "__version__", "9.9")
    assert unfit_for(order, work).startswith(f"{host} has lpd 9.9, not ")


def versions(**others: str) -> dict[str, object]:
    packages = {"distributed": "2026.1.0", "lpd": "1.0", **others}
    return {"host": {"python": packages.pop("python", "3.11.4.final.0")}, "packages": packages}


def test_machines_of_one_kind_may_work_together():
    scheduler = versions(python="3.11.9.final.0")
    scheduler["packages"]["lpd"] = None  # nothing of ours runs there
    dask_cluster._check_versions({"client": versions(), "scheduler": scheduler, "workers": {"tcp://w:1": versions()}})


@pytest.mark.parametrize(
    ("worker", "said"),
    [
        (versions(python="3.12.1.final.0"), "tcp://w:1 has python 3.12, this machine 3.11"),
        (versions(distributed="2025.9.1"), "tcp://w:1 has distributed 2025.9.1, this machine 2026.1.0"),
        (versions(lpd="0.9"), "tcp://w:1 has lpd 0.9, this machine 1.0"),
    ],
)
def test_machines_of_two_kinds_may_not(worker, said):
    with pytest.raises(ConfigError, match=said.replace(".", r"\.")):
        dask_cluster._check_versions(
            {"client": versions(), "scheduler": versions(), "workers": {"tcp://v:1": versions(), "tcp://w:1": worker}}
        )


def test_dask_and_submitit_are_left_alone_until_they_are_asked_for():
    look = (
        "import sys, lpd.cli, lpd.cli.workers; lpd.cli.build_parser()\n"
        "found = {'dask', 'distributed', 'submitit'} & set(sys.modules); assert not found, found"
    )
    subprocess.run([sys.executable, "-c", look], check=True, cwd=ROOT)


def test_only_one_way_to_other_machines_at_a_time(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(
            ["segment", "a", "--checkpoint", "c", "--out", "o", "--scheduler", "tcp://a:1", "--slurm"]
        )
    assert "not allowed with" in capsys.readouterr().err

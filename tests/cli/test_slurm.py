"""Cohorts by Slurm's jobs: run on this machine by submitit, and against stand-ins for the commands of Slurm."""

from __future__ import annotations

import os
import signal
import stat
import sys
import threading
import time
from pathlib import Path

import pytest
from PIL import Image

from lpd.cli import build_parser, slurm
from lpd.cli.slurm import segment_by_slurm
from lpd.cli.slurm_queue import SlurmQueue
from lpd.errors import ConfigError
from lpd.inference.cohort import CohortSlide, result_folders, slides_of
from lpd.runs import read_state, request_stop

from .test_cohort import arguments, cohort, ended_once, kill_at_work
from .test_segment import checkpoint, segment, visible

pytest.importorskip("submitit")
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="submitit's jobs are those of Unix")

__all__ = ["checkpoint", "cohort"]


def slowly(out: Path, checkpoint: Path, *slides: Path):
    args = arguments(out, checkpoint, *slides)
    args.batch_size, args.stride = 1, 32
    return args


@pytest.fixture
def large(cohort: Path) -> Path:
    """A slide that takes long enough to be interrupted."""
    with Image.open(cohort / "a.png") as image:
        image.resize((700, 600)).save(cohort / "a.png")
    return cohort / "a.png"


def here(folders, args, count: int = 2, **options: str):
    return segment_by_slurm(folders, args, options, count, cluster="local")


def test_each_slide_is_a_job(cohort, checkpoint, tmp_path, capfd):
    out = tmp_path / "out"
    for name in "bc":
        (cohort / f"{name}.png").unlink()
    folders = result_folders(slides_of([cohort]), out)
    outcomes = list(here(folders, arguments(out, checkpoint, cohort)))
    assert sorted((o.slide.name, o.state) for o in outcomes) == [
        ("a.png", "done"),
        ("bad.svs", "failed"),
    ]
    assert {"mask.ome.tif", "manifest.json"} <= visible(out / "a")
    assert len(list((out / "slurm").glob("*_log.err"))) == 2
    assert "Traceback" not in capfd.readouterr().err


@pytest.mark.slow
def test_a_killed_job_is_followed_by_another_one(cohort, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr(slurm, "_ARRIVAL_S", 0.5)
    out = tmp_path / "out"
    killer = kill_at_work(out, 1)
    (outcome,) = here({CohortSlide(cohort / "a.png"): out / "a"}, slowly(out, checkpoint, cohort))
    killer.join()
    assert outcome.state == "done"
    assert ended_once(out / "a")


def when_at_work(folder: Path, do) -> threading.Thread:
    """Do something once a run in a folder has stored something."""

    def watch() -> None:
        end = time.monotonic() + 60
        while time.monotonic() < end and not (folder / "changes.jsonl").exists():
            time.sleep(0.01)
        do()

    thread = threading.Thread(target=watch)
    thread.start()
    return thread


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGUSR2, signal.SIGTERM])
def test_a_job_whose_time_is_up_saves_and_is_gone_on_with(large, checkpoint, tmp_path, monkeypatch, number):
    monkeypatch.setattr(slurm, "_ARRIVAL_S", 0.5)
    out = tmp_path / "out"
    pids = []

    def interrupt() -> None:
        pids.append(read_state(out / "a").pid)
        os.kill(pids[0], number)

    watcher = when_at_work(out / "a", interrupt)
    (outcome,) = here({CohortSlide(large): out / "a"}, slowly(out, checkpoint, large))
    watcher.join()
    assert outcome.state == "done"
    assert not outcome.asked_to_stop
    assert read_state(out / "a").pid != pids[0]


@pytest.mark.slow
def test_a_person_who_stops_a_slide_is_obeyed(large, checkpoint, tmp_path):
    out = tmp_path / "out"
    watcher = when_at_work(out / "a", lambda: request_stop(out / "a"))
    (outcome,) = here({CohortSlide(large): out / "a"}, slowly(out, checkpoint, large))
    watcher.join()
    assert outcome.state == "stopped"


@pytest.mark.slow
def test_ctrl_c_saves_what_is_in_hand_and_begins_nothing_more(cohort, large, checkpoint, tmp_path):
    out = tmp_path / "out"
    folders = result_folders(slides_of([cohort]), out)
    watcher = when_at_work(out / "a", lambda: os.kill(os.getpid(), signal.SIGINT))
    outcomes = list(here(folders, slowly(out, checkpoint, cohort), 1))
    watcher.join()
    assert [(o.slide.name, o.state) for o in outcomes] == [("a.png", "stopped")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"nodes": "2"}, "nodes=2 is this command's to say"),
        ({"array": "1-3"}, "array=1-3 is this command's to say"),
        ({"timeout_min": "soon"}, "cannot be met .*timeout_min"),
    ],
)
def test_options_that_cannot_be(cohort, checkpoint, tmp_path, options, said):
    with pytest.raises(ConfigError, match=said):
        list(here({CohortSlide(cohort / "a.png"): tmp_path / "a"}, arguments(tmp_path, checkpoint, cohort), **options))


def test_words_that_are_no_options(capsys):
    with pytest.raises(SystemExit):
        build_parser().parse_args(["segment", "--checkpoint", "c", "--out", "o", "--slurm", "partition=gpu", "slides"])
    assert "'slides' is not KEY=VALUE" in capsys.readouterr().err


def test_no_slurm_here(cohort, checkpoint, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert segment(tmp_path / "out", checkpoint, cohort, more=("--mpp", "0.5", "--slurm")) == 1
    assert "lpd segment: there is no Slurm here" in capsys.readouterr().err


def test_no_submitit_here(cohort, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "submitit", None)
    with pytest.raises(ConfigError, match=r"pip install submitit"):
        list(here({CohortSlide(cohort / "a.png"): tmp_path / "a"}, arguments(tmp_path, checkpoint, cohort)))


def command(folder: Path, name: str, script: str) -> None:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)


@pytest.fixture
def slurm_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Slurm of shell scripts: it takes every job, and its answers are in files."""
    folder = tmp_path / "bin"
    folder.mkdir()
    command(folder, "srun", "exit 1")
    command(folder, "sbatch", f'cp "$1" {tmp_path}/submitted.sh; echo "Submitted batch job 7"')
    command(folder, "squeue", f"cat {tmp_path}/queue")
    command(folder, "scancel", f'echo "$@" >> {tmp_path}/cancelled')
    (tmp_path / "queue").write_text("")
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def test_what_sbatch_is_told(cohort, checkpoint, slurm_commands):
    out = slurm_commands / "out"
    folders = result_folders(slides_of([cohort]), out)
    options = {"partition": "gpu", "gpus_per_node": "1", "timeout_min": "30", "reservation": "ours", "exclusive": "yes"}
    (slurm_commands / "queue").write_text("7_0 CANCELLED\n7_1 CANCELLED\n7_2 CANCELLED\n7_3 CANCELLED\n")
    timer = threading.Timer(1.5, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    assert list(segment_by_slurm(folders, arguments(out, checkpoint, cohort), options, 2)) == []
    timer.join()
    said = (slurm_commands / "submitted.sh").read_text().splitlines()
    for line in (
        "--array=0-3%2",
        "--partition=gpu",
        "--gpus-per-node=1",
        "--time=30",
        "--reservation=ours",
        "--exclusive",
    ):
        assert f"#SBATCH {line}" in said
    assert (slurm_commands / "cancelled").read_text() == "--state=PENDING 7_0 7_1 7_2 7_3\n"


def test_jobs_that_sbatch_refuses(cohort, checkpoint, slurm_commands):
    command(slurm_commands / "bin", "sbatch", 'echo "sbatch: error: invalid partition" >&2; exit 1')
    out = slurm_commands / "out"
    folders = {CohortSlide(cohort / "a.png"): out / "a"}
    with pytest.raises(ConfigError, match=r"Slurm does not take the jobs .*: change the options of --slurm"):
        list(segment_by_slurm(folders, arguments(out, checkpoint, cohort), {"partition": "no"}, 1))


def test_what_is_known_of_jobs(slurm_commands):
    queue, file = SlurmQueue(), slurm_commands / "queue"
    file.write_text("7_0 RUNNING\n7_1 PENDING\n8 TIMEOUT\n")
    queue.look(0)
    assert [queue.state(job) for job in ("7_0", "7_1", "8", "9")] == ["RUNNING", "PENDING", "TIMEOUT", "UNKNOWN"]
    assert [queue.is_over(job) for job in ("7_0", "7_1", "8", "9")] == [False, False, True, False]
    file.write_text("7_1 RUNNING\n8 PENDING\n")  # the first is long over, the last has been brought back
    queue.look(3600)
    assert not queue.is_over("7_0")
    queue.look(0)
    assert [queue.is_over(job) for job in ("7_0", "7_1", "8")] == [True, False, False]
    command(slurm_commands / "bin", "squeue", "exit 1")  # the controller is away for a moment
    queue.look(0)
    assert queue.state("7_1") == "RUNNING"


def test_a_job_that_vanishes_is_a_death(cohort, checkpoint, slurm_commands, monkeypatch):
    monkeypatch.setattr(slurm, "_ARRIVAL_S", 0.1)
    monkeypatch.setattr(slurm, "_LOOK_S", 0.1)
    out = slurm_commands / "out"
    (slurm_commands / "queue").write_text("7 OUT_OF_MEMORY\n")
    folders = {CohortSlide(cohort / "a.png"): out / "a"}
    (outcome,) = segment_by_slurm(folders, arguments(out, checkpoint, cohort), {}, 1)
    assert outcome.state == "failed"
    assert "a.png ended its process 3 times (job 7, OUT_OF_MEMORY)" in outcome.said

"""Jobs as folders and processes: found again, told apart, stopped by force if need be, never zombies."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from lpd.cli import build_parser
from lpd.errors import LpdError
from lpd.runs import read_state
from viewers.children import Children
from viewers.errors import NotFoundError
from viewers.jobs import Job, JobRequest, Jobs, segment_arguments
from viewers.services import Services

Wait = Callable[[Callable[[], object]], None]


def request(services: Services, checkpoint: str) -> JobRequest:
    file = next(file for file in services.catalogue.files() if file.relative == "first.png")
    return JobRequest(file.id, file.path, services.checkpoints.get(checkpoint).path, mpp=0.5)


def running(wait_for: Wait, services: Services, checkpoint: str) -> Job:
    job = services.jobs.start(request(services, checkpoint))
    wait_for(lambda: services.jobs.get(job.id).run.state == "running")
    return services.jobs.get(job.id)


def ended(wait_for: Wait, services: Services, job: Job) -> Job:
    wait_for(lambda: services.jobs.get(job.id).run.ended)
    return services.jobs.get(job.id)


def test_the_command_line_is_one_that_lpd_understands(tmp_path: Path) -> None:
    asked = JobRequest("id", tmp_path / "a b.svs", tmp_path / "m.safetensors", "cpu", 0.25, (1, 2, 3, 4))
    parsed = build_parser().parse_args(segment_arguments(asked, tmp_path / "out", tmp_path / "results"))
    assert parsed.slides == [tmp_path / "a b.svs"]
    assert (parsed.checkpoint, parsed.out) == (tmp_path / "m.safetensors", tmp_path / "out")
    assert (parsed.device, parsed.mpp, parsed.region) == ("cpu", 0.25, [1, 2, 3, 4])
    assert parsed.queue == tmp_path / "results"


def test_precise_resolutions_are_passed_on_in_full(tmp_path: Path) -> None:
    asked = JobRequest("id", tmp_path / "a.svs", tmp_path / "m.safetensors", mpp=0.123456789)
    parsed = build_parser().parse_args(segment_arguments(asked, tmp_path, tmp_path))
    assert parsed.mpp == 0.123456789


def test_a_restarted_app_finds_running_and_finished_jobs(
    wait_for: Wait, services: Services, fake_lpd: tuple[str, ...]
) -> None:
    done = ended(wait_for, services, services.jobs.start(request(services, "good")))
    active = running(wait_for, services, "slow")
    again = Jobs(services.jobs.folder, fake_lpd)
    states = {job.id: job.run.state for job in again.all()}
    assert states == {done.id: "done", active.id: "running"}
    again.cancel(active.id)
    wait_for(lambda: again.get(active.id).run.state == "cancelled")


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_killed_job_is_called_crashed(wait_for: Wait, services: Services) -> None:
    job = running(wait_for, services, "slow")
    os.kill(job.run.pid, signal.SIGKILL)
    found = ended(wait_for, services, job)
    assert found.run.state == "crashed"
    assert "unexpectedly" in found.run.message


def test_a_job_that_does_not_listen_is_ended_by_force(wait_for: Wait, services: Services) -> None:
    job = running(wait_for, services, "deaf")
    assert services.jobs.cancel(job.id).run.message.startswith("Stopping")
    assert ended(wait_for, services, job).run.state == "cancelled"


def test_cancelling_while_the_command_starts_is_not_forgotten(wait_for: Wait, services: Services) -> None:
    job = services.jobs.start(request(services, "slow"))
    services.jobs.cancel(job.id)
    assert ended(wait_for, services, job).run.state == "cancelled"


def test_cancelling_an_ended_job_changes_nothing(wait_for: Wait, services: Services) -> None:
    job = ended(wait_for, services, services.jobs.start(request(services, "good")))
    assert services.jobs.cancel(job.id).run.state == "done"


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks into /proc")
def test_ended_children_are_reaped(wait_for: Wait, services: Services) -> None:
    job = running(wait_for, services, "slow")
    pid = job.run.pid
    services.jobs.cancel(job.id)
    wait_for(lambda: (job.folder / "exit.json").exists())
    assert not Path(f"/proc/{pid}").exists()


@pytest.mark.skipif(os.name == "nt", reason="POSIX process groups")
def test_jobs_have_a_process_group_of_their_own(wait_for: Wait, services: Services) -> None:
    job = running(wait_for, services, "slow")
    assert os.getpgid(job.run.pid) == job.run.pid != os.getpgid(0)


def test_second_job_waits_for_the_first(wait_for: Wait, services: Services) -> None:
    first = running(wait_for, services, "slow")
    second = services.jobs.start(request(services, "good"))
    wait_for(lambda: (second.run_folder / "state.json").exists())
    assert services.jobs.get(second.id).run.state == "queued"
    services.jobs.cancel(first.id)
    assert ended(wait_for, services, second).run.state == "done"
    assert read_state(first.run_folder).state == "cancelled"


def test_every_device_has_a_line_of_its_own(wait_for: Wait, services: Services) -> None:
    slow = running(wait_for, services, "slow")  # auto, which is the CPU for the stand-in
    assert services.queue() == {}
    waiting = [services.jobs.start(replace(request(services, "good"), device=name)) for name in ("auto", "cpu")]
    gpu = services.jobs.start(replace(request(services, "good"), device="cuda"))
    assert ended(wait_for, services, gpu).run.state == "done"
    wait_for(lambda: len(services.queue()) == 2)  # once the command has said what auto is
    assert services.queue() == {waiting[0].id: 1, waiting[1].id: 2}
    assert [services.jobs.get(job.id).line for job in (slow, *waiting, gpu)] == ["cpu", "cpu", "cpu", "cuda"]


def test_a_waiting_job_can_be_cancelled(wait_for: Wait, services: Services) -> None:
    first = running(wait_for, services, "slow")
    second = services.jobs.start(request(services, "good"))
    wait_for(lambda: (second.run_folder / "state.json").exists())
    services.jobs.cancel(second.id)
    assert ended(wait_for, services, second).run.state == "cancelled"
    assert services.jobs.get(first.id).run.state == "running"


def test_an_orphan_that_never_started_counts_as_failed(
    wait_for: Wait, services: Services, fake_lpd: tuple[str, ...]
) -> None:
    job = ended(wait_for, services, services.jobs.start(request(services, "early-failure")))
    (job.folder / "exit.json").unlink()
    record = json.loads((job.folder / "job.json").read_text())
    again = Jobs(services.jobs.folder, fake_lpd)
    assert again.get(job.id).run.message == "Starting …"
    (job.folder / "job.json").write_text(json.dumps({**record, "created": time.time() - 3600}))
    assert again.get(job.id).run.state == "failed"


def test_a_restarted_app_finishes_stopping_what_the_last_one_began(
    wait_for: Wait, services: Services, fake_lpd: tuple[str, ...]
) -> None:
    job = running(wait_for, services, "deaf")
    (job.folder / "cancel").touch()  # as an app leaves it that was killed right after the click
    again = Jobs(services.jobs.folder, fake_lpd, stop_patience_s=(0.4, 0.4))
    wait_for(lambda: again.get(job.id).run.state == "cancelled")


def test_a_results_folder_that_vanishes_leaves_an_empty_list(services: Services) -> None:
    services.jobs.folder.rmdir()
    assert services.jobs.all() == []
    services.jobs.folder.touch()
    assert services.jobs.all() == []


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_a_deleted_job_does_not_come_back(wait_for: Wait, services: Services) -> None:
    job = running(wait_for, services, "slow")
    os.kill(job.run.pid, signal.SIGSTOP)  # so that it writes nothing while the folder goes
    shutil.rmtree(job.folder)
    os.kill(job.run.pid, signal.SIGKILL)
    wait_for(lambda: job.id not in services.jobs._children)
    assert not job.folder.exists()


def test_an_unreadable_record_is_left_out_of_the_list(services: Services) -> None:
    folder = services.jobs.folder / "20200101-000000-abcdef"
    folder.mkdir()
    for text in ("", "[]", '{"slide_id": 1}', "\x00"):
        (folder / "job.json").write_text(text)
        assert services.jobs.all() == []
        with pytest.raises(NotFoundError, match="delete its folder"):
            services.jobs.get(folder.name)


def test_results_folder_that_cannot_be_made_is_said_so(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(LpdError, match="--results"):
        Jobs(tmp_path / "file")


def test_missing_python_is_said_so_and_leaves_no_job(services: Services, tmp_path: Path) -> None:
    jobs = Jobs(tmp_path / "other", (str(tmp_path / "no-such-python"), "-m", "lpd"))
    with pytest.raises(LpdError, match="cannot start"):
        jobs.start(request(services, "good"))
    assert jobs.all() == []


def test_the_default_command_is_this_python() -> None:
    assert Jobs.__init__.__defaults__ is not None
    assert Jobs.__init__.__defaults__[0] == (sys.executable, "-m", "lpd")


def test_a_job_whose_worker_died_goes_on_as_long_as_its_command_lives(
    wait_for: Wait, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = running(wait_for, services, "slow")
    with monkeypatch.context() as patch:
        patch.setattr("viewers.jobs.read_state", lambda _: replace(job.run, state="crashed"))
        found = services.jobs.get(job.id).run
        assert (found.state, found.message) == ("queued", "Going on …")
        patch.setattr(services.jobs, "_children", Children())  # now nobody is there to go on with it
        assert services.jobs.get(job.id).run.state == "crashed"


def test_a_worker_is_ended_only_with_a_command_that_does_not_end(
    wait_for: Wait, services: Services, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command hands the slide to a worker, whose process is the one that the run names."""
    job = running(wait_for, services, "slow")
    command, worker = services.jobs._children.pid(job.id), job.run.pid + 1_000_000
    by_worker = replace(job, run=replace(job.run, pid=worker))
    asked: list[tuple[int, bool]] = []
    with monkeypatch.context() as patch:
        patch.setattr("viewers.jobs.signal_group", lambda pid, force: asked.append((pid, force)))
        services.jobs._signal(by_worker, force=False)
        assert asked == [(command, False)]
        services.jobs._signal(by_worker, force=True)
        assert asked[1:] == [(command, True), (worker, True)]
        services.jobs._signal(replace(job, run=replace(job.run, pid=0)), force=True)
        assert asked[3:] == [(command, True)]  # of a run that names nobody, least of all this app's own group

"""Slurm: a cohort's slides as jobs, one each, submitted as arrays by submitit."""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lpd.cli.crew import Ended, ask_to_stop, lead
from lpd.cli.elsewhere import Answer, Order, Work, absolute, order_of
from lpd.cli.segmenting import Outcome
from lpd.cli.slurm_job import segment_job
from lpd.cli.slurm_queue import OVER, SlurmQueue
from lpd.errors import ConfigError
from lpd.inference.cohort import CohortSlide

#: Of logs and of what submitit keeps, in the folder of the results.
FOLDER = "slurm"
#: Slurm takes 1001 jobs in an array, unless it is told otherwise.
_LARGEST_ARRAY = 1000
#: Enough for any slide; a slide that takes longer is gone on with by another job.
_DEFAULTS = {"timeout_min": "240", "name": "lpd"}
#: Those that submitit has under names of its own; all others are sbatch's.
_SUBMITITS = ("name", "timeout_min", "mem_gb", "cpus_per_task", "gpus_per_node", "signal_delay_s")
#: What this command says, or cannot do with.
_OURS = ("nodes", "ntasks", "ntasks_per_node", "tasks_per_node", "array", "output", "error", "signal", "open_mode")
#: How long an outcome may take from the machine that wrote it to this one: network shares look again after a minute.
_ARRIVAL_S = 60.0
#: How often Slurm is asked about its jobs, and how often when some are about to end.
_LOOK_S, _LOOK_NOW_S = 30.0, 2.0


def segment_by_slurm(
    folders: Mapping[CohortSlide, Path],
    args: argparse.Namespace,
    options: Mapping[str, str],
    count: int | None,
    *,
    cluster: str = "slurm",
) -> Iterator[Outcome]:
    """Segment slides by jobs, one each; see :func:`lpd.cli.crew.lead`.

    A job that dies or is ended by Slurm for its time or for another job is followed by one that goes on. If this
    process is killed, jobs go on; the same command, given again, waits for them and does the rest.

    Args:
        folders: of the results, by slide; they and the slides have the same paths on all machines.
        args: of the command.
        options: of submitit (``timeout_min``, ``gpus_per_node`` …) or of sbatch (``partition`` …).
        count: jobs at a time; None for as many as Slurm gives.
        cluster: of submitit; ``local`` runs jobs on this machine.

    Raises:
        ConfigError: there is no submitit or no Slurm here, or it refuses the jobs.
        RunError: the folder of the results cannot be written.
    """
    with _quiet():
        executor = _executor(args.out, options, count, cluster)
        yield from lead(folders, _Jobs(executor, order_of(args), count, arrays=cluster == "slurm"))


@dataclass(eq=False)
class _Hand:
    """A slide that a job has in hand.

    Attributes:
        ended: since when the job is known to be over, on the monotonic clock; None while it is not.
    """

    slide: CohortSlide
    folder: Path
    job: Any
    ended: float | None = None

    @property
    def answered(self) -> bool:
        return bool(self.job.paths.result_pickle.exists())

    @property
    def arriving(self) -> bool:
        """What the job, or Slurm, has to say of its end may still be on its way."""
        return self.ended is None or time.monotonic() - self.ended < _ARRIVAL_S


class _Jobs:
    """Jobs that Slurm has; slides that have been begun are submitted all at once, when there is time to wait."""

    def __init__(self, executor: Any, order: Order, count: int | None, *, arrays: bool) -> None:
        self._executor, self._order = executor, order
        self._width = count or (_LARGEST_ARRAY if arrays else 1)
        self._hands: list[_Hand] = []
        self._batch: list[Work] = []
        self._queue = SlurmQueue() if arrays else None
        self._stopping = False

    def begin(self, slide: CohortSlide, folder: Path, again: bool) -> bool:
        # Slurm itself keeps an array to its width; what comes on top waits until fewer than that are left.
        room = _LARGEST_ARRAY if self._queue is not None and not self._hands else self._width
        if len(self._hands) + len(self._batch) >= room:
            return False
        self._batch.append(Work.of(slide, folder, again))
        return True

    def ended(self, wait_s: float) -> list[Ended]:
        if self._batch:
            self._submit()
        time.sleep(wait_s)
        self._look()
        ends = [(hand, end) for hand in self._hands if (end := self._end_of(hand))]
        for hand, _ in ends:
            self._hands.remove(hand)
        return [end for _, end in ends]

    def stop(self) -> None:
        if self._queue is not None and not self._stopping:
            self._queue.cancel_those_that_wait([str(hand.job.job_id) for hand in self._hands])
        self._stopping = True
        for hand in self._hands:
            ask_to_stop(hand.folder)

    def close(self) -> None:
        if self._hands:
            self.stop()

    def _submit(self) -> None:
        batch, self._batch = self._batch, []
        try:
            jobs = self._executor.map_array(segment_job, [self._order] * len(batch), batch)
        except Exception as error:  # sbatch has many reasons, submitit a class of error for each
            cure = "change the options of --slurm"
            raise ConfigError(f"Slurm does not take the jobs ({_words(error)}): {cure}") from error
        self._hands += [_Hand(work.slide, work.folder, job) for work, job in zip(batch, jobs, strict=True)]
        count = f"{len(jobs)} jobs, from" if len(jobs) > 1 else "job"
        print(f"lpd segment: Slurm has {count} {jobs[0].job_id}; logs in {jobs[0].paths.folder}", file=sys.stderr)

    def _look(self) -> None:
        """See which jobs are over."""
        if self._queue is not None and self._hands:
            urgent = self._stopping or any(hand.ended is not None for hand in self._hands)
            self._queue.look(_LOOK_NOW_S if urgent else _LOOK_S)
        for hand in self._hands:
            over = self._queue.is_over(hand.job.job_id) if self._queue is not None else hand.job.done()
            if not over and not hand.answered:
                hand.ended = None  # Slurm has brought it back
            elif hand.ended is None:
                hand.ended = time.monotonic()

    def _end_of(self, hand: _Hand) -> Ended | None:
        """How a slide ended, None while it has not."""
        if hand.ended is None:
            return None
        if hand.answered:
            return self._end_said(hand)
        state = self._state(hand)
        not_begun = self._stopping and state == "CANCELLED"
        if hand.arriving and not not_begun:
            return None
        return Ended(hand.slide, death="" if self._stopping else f"job {hand.job.job_id}, {state}")

    def _end_said(self, hand: _Hand) -> Ended | None:
        try:
            answer: Answer = hand.job.result()
        except Exception:  # it could not even begin
            said = f"job {hand.job.job_id} could not begin {hand.slide.path.name}: see {hand.job.paths.stderr}"
            return Ended(hand.slide, Outcome(hand.slide.path, hand.folder, "failed", said))
        if not answer.interrupted or self._stopping:
            return Ended(hand.slide, answer.outcome)
        state = self._state(hand)
        if state == "CANCELLED":  # by a person
            return Ended(hand.slide, answer.outcome)
        if state not in OVER and hand.arriving:
            return None
        return Ended(hand.slide, death=f"job {hand.job.job_id}, stopped by Slurm")

    def _state(self, hand: _Hand) -> str:
        return self._queue.state(hand.job.job_id) if self._queue is not None else str(hand.job.state)


def _executor(out: Path, options: Mapping[str, str], count: int | None, cluster: str) -> Any:
    try:
        from submitit import AutoExecutor
    except ImportError as error:
        raise ConfigError("--slurm needs submitit: pip install submitit") from error
    try:
        executor = AutoExecutor(absolute(out) / FOLDER, cluster=cluster)
        executor.update_parameters(**_parameters(options, count))
    except RuntimeError as error:
        raise ConfigError(f"there is no Slurm here ({_words(error)}): give the command on a login node") from error
    except AssertionError as error:
        raise ConfigError(f"--slurm cannot be met ({_words(error)}): give it another value") from error
    return executor


def _parameters(options: Mapping[str, str], count: int | None) -> dict[str, Any]:
    """Options as submitit wants them."""
    wanted = next((name for name in _OURS if name in options), None)
    if wanted is not None:
        raise ConfigError(f"--slurm {wanted}={options[wanted]} is this command's to say: leave it out")
    values = {key: _value(text) for key, text in {**_DEFAULTS, **options}.items()}
    found = {key: values.pop(key) for key in _SUBMITITS if key in values}
    if "signal_delay_s" in found:
        found["slurm_signal_delay_s"] = found.pop("signal_delay_s")
    if count is not None:
        found["slurm_array_parallelism"] = count
    return {**found, "slurm_additional_parameters": values}


def _value(text: str) -> int | float | bool | str:
    if text.lower() in ("true", "yes"):
        return True
    for kind in (int, float):
        with suppress(ValueError):
            return kind(text)
    return text


def _words(error: BaseException) -> str:
    lines = [line for line in str(error).strip().splitlines() if line.strip(" -")]
    return lines[0] if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """Submitit tells of Slurm's state of health what is not for people to hear."""
    logger = logging.getLogger("submitit")
    with suppress(ImportError):
        import submitit  # noqa: F401 - it sets its logger up
    before = logger.level
    logger.setLevel(logging.CRITICAL + 1)
    try:
        yield
    finally:
        logger.setLevel(before)

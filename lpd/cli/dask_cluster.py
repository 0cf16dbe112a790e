"""Dask: a cohort's slides on the workers of a running Dask cluster, one at a time on each."""

from __future__ import annotations

import argparse
import logging
import time
import uuid
import warnings
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from lpd.cli.crew import Ended, ask_to_stop, lead, stillborn
from lpd.cli.dask_task import Task, forget, load_task, segment_task
from lpd.cli.elsewhere import Answer, Order, Work, order_of
from lpd.cli.segmenting import Outcome
from lpd.errors import ConfigError, RunError
from lpd.inference.cohort import CohortSlide

_SCHEMES = ("tcp", "tls", "ws", "wss", "ucx")
_CONNECT_S = 10.0
#: A cluster without workers may be about to get some.
_NO_WORKERS_S = 60.0
#: To fetch what a task returned, which is small, or to hear that its worker is gone.
_FETCH_S = 5.0


def segment_on_dask(
    folders: Mapping[CohortSlide, Path], args: argparse.Namespace, address: str, count: int | None
) -> Iterator[Outcome]:
    """Segment slides on a Dask cluster, each worker with a model of its own; see :func:`lpd.cli.crew.lead`.

    A worker gets one slide at a time, however many threads it has. Who shares the slides out is this process: Dask
    carries them and says which workers live. A worker that cannot see what it needs gets no more of them.

    Args:
        folders: of the results, by slide; they and the slides have the same paths on all machines.
        args: of the command.
        address: of the scheduler, as ``tcp://host:8786``.
        count: workers that may be used at a time; None for all.

    Raises:
        ConfigError: there is no Dask here, or no scheduler at the address, or one of another version.
        RunError: the folder of the results cannot be written; later, the scheduler has gone, or all workers.
    """
    with _quiet():
        client = _connected(address)
        try:
            yield from lead(folders, _Cluster(client, address, order_of(args), count))
        finally:
            with suppress(Exception):  # it may be gone
                client.close(timeout=2)


@dataclass(eq=False)
class _Hand:
    """A slide that a worker has in hand."""

    slide: CohortSlide
    folder: Path
    worker: str
    future: Any


class _Cluster:
    """The workers that the scheduler names; new ones join in, lost ones lose their slide."""

    def __init__(self, client: Any, address: str, order: Order, count: int | None) -> None:
        self._client, self._address, self._order, self._count = client, address, order, count
        self._command = uuid.uuid4().hex
        self._hands: list[_Hand] = []
        self._unfit: dict[str, str] = {}
        self._workers: frozenset[str] = frozenset()
        self._loading: dict[str, Any] = {}
        self._ready: set[str] = set()
        self._seen, self._stillborn = time.monotonic(), 0
        self._look()

    def begin(self, slide: CohortSlide, folder: Path, again: bool) -> bool:
        free = self._workers - {hand.worker for hand in self._hands} - self._unfit.keys()
        room = len(free) if self._count is None else self._count - len(self._hands)
        if room <= 0:
            return False
        ready = sorted(free & self._ready)
        if not ready:  # a slide must not be blamed for deaths that it had no part in
            for worker in sorted(free - self._loading.keys())[: room - len(self._loading)]:
                self._loading[worker] = self._send(worker, load_task)
            return False
        work, worker = Work.of(slide, folder, again), ready[0]
        self._hands.append(_Hand(slide, work.folder, worker, self._send(worker, segment_task, work)))
        return True

    def _send(self, worker: str, what: Any, *words: Any) -> Any:
        neighbours = Counter(_host_of(each) for each in self._workers - self._unfit.keys())[_host_of(worker)]
        task = Task(self._command, self._order, neighbours)
        # Were it free to choose, Dask would queue up slides at workers that have more threads than one.
        return self._client.submit(what, task, *words, workers=[worker], pure=False, retries=0)

    def ended(self, wait_s: float) -> list[Ended]:
        if not any(hand.future.done() for hand in self._hands):
            time.sleep(wait_s)
        self._look()
        ends = [(hand, end) for hand in self._hands if (end := self._end_of(hand))]
        for hand, _ in ends:
            self._hands.remove(hand)
            hand.future.release()
        return [end for _, end in ends]

    def stop(self) -> None:
        for hand in self._hands:
            ask_to_stop(hand.folder)
        with suppress(Exception):  # whoever is gone is missed in a moment
            at_work = {key for stacks in self._client.call_stack(self._futures()).values() for key in stacks}
            for hand in self._hands:  # some other command's slide may hold up ours
                if hand.future.key not in at_work and not hand.future.done():
                    hand.future.cancel()

    def close(self) -> None:
        for hand in self._hands:
            ask_to_stop(hand.folder)
        for future in [*self._futures(), *self._loading.values()]:
            with suppress(Exception):
                future.cancel()
        with suppress(Exception):  # the models of workers that are there
            self._client.run(forget, self._command, on_error="ignore")

    def _futures(self) -> list[Any]:
        return [hand.future for hand in self._hands]

    def _look(self) -> None:
        """See who is there.

        Raises:
            RunError: the scheduler does not answer, or nobody that could compute has been there for a while.
        """
        try:
            self._workers = frozenset(self._client.nthreads())
        except Exception as error:
            cure = "start it and its workers again, then give the same command"
            raise RunError(f"the Dask scheduler at {self._address} has gone ({_words(error)}): {cure}") from error
        self._ready &= self._workers
        for worker, future in list(self._loading.items()):
            if worker not in self._workers:
                del self._loading[worker]
                self._stillborn += 1
                stillborn(self._stillborn, worker)
            elif future.done():
                del self._loading[worker]
                self._ready.add(worker)
                self._stillborn = 0
        if self._workers - self._unfit.keys() or self._hands:
            self._seen = time.monotonic()
        elif self._workers:
            raise RunError(f"no worker of {self._address} can do it: {next(iter(self._unfit.values()))}")
        elif time.monotonic() - self._seen > _NO_WORKERS_S:
            start = f"start some with: dask worker {self._address} --nthreads 1"
            raise RunError(f"the Dask scheduler at {self._address} has no workers: {start}")

    def _end_of(self, hand: _Hand) -> Ended | None:
        """How a slide ended, None while it has not."""
        lost = hand.worker not in self._workers
        state = hand.future.status
        if state == "cancelled" and not lost:
            return Ended(hand.slide)
        if state == "finished":
            with suppress(Exception):  # the worker died before it handed the outcome over: the slide is kept
                answer: Answer = hand.future.result(timeout=_FETCH_S)
                if answer.unfit:
                    self._unfit[hand.worker] = answer.outcome.said
                return Ended(hand.slide, answer.outcome)
        if state == "error":
            error = hand.future.exception(timeout=_FETCH_S)
            if not lost and type(error).__name__ != "KilledWorker":
                return Ended(hand.slide, self._refused(hand, error))
            lost = True
        if lost:
            hand.future.cancel()
            return Ended(hand.slide, death=f"the last one was {hand.worker}")
        return None

    def _refused(self, hand: _Hand, error: BaseException) -> Outcome:
        """Of a worker that could not even begin: it knows no lpd, or another one."""
        said = f"{hand.worker} cannot segment ({_words(error)}): install the same lpd as here where it runs"
        self._unfit[hand.worker] = said
        return Outcome(hand.slide.path, hand.folder, "failed", said)


def _connected(address: str) -> Any:
    try:
        from distributed import Client
    except ImportError as error:
        raise ConfigError("--scheduler needs Dask: pip install distributed") from error
    if (why := _malformed(address)) is not None:
        raise ConfigError(f"{address!r} is no address of a Dask scheduler ({why}): {_CURE}")
    try:
        client = Client(address, timeout=_CONNECT_S, set_as_default=False, name="lpd")
        versions = client.get_versions(packages=["lpd"])
    except Exception as error:  # an address may be wrong in ways of which each has its own class of error
        raise ConfigError(f"cannot reach a Dask scheduler at {address} ({_words(error)}): {_CURE}") from error
    try:
        _check_versions(versions)
    except ConfigError:
        client.close()
        raise
    return client


_CURE = "name the one that `dask scheduler` prints, as tcp://host:8786"


def _malformed(address: str) -> str | None:
    """What is wrong with an address, which Dask would find out too late to let go of what it has begun."""
    try:
        parts = urlsplit(address if "://" in address else f"tcp://{address}")
        if parts.scheme not in _SCHEMES:
            return f"{parts.scheme} is none of {', '.join(_SCHEMES)}"
        if not (parts.hostname and parts.port):
            return "it lacks a host or a port"
    except ValueError as error:
        return str(error)
    from distributed import Security

    if parts.scheme in ("tls", "wss") and Security().get_connection_args("client").get("ssl_context") is None:
        return "Dask's own settings name no certificates for it"
    return None


def _check_versions(versions: Mapping[str, Any]) -> None:
    """Refuse machines that would not understand one another.

    Args:
        versions: as Dask gives them, of ``client``, ``scheduler`` and ``workers``.
    """
    ours = versions["client"]
    others = {"the scheduler": versions["scheduler"], **versions["workers"]}
    for name, theirs in others.items():
        for what in ("python", "distributed", "lpd"):
            wanted, found = _version(ours, what), _version(theirs, what)
            if wanted == found or (what == "lpd" and name == "the scheduler"):
                continue
            raise ConfigError(f"{name} has {what} {found}, this machine {wanted}: install the same on all machines")


def _version(machine: Mapping[str, Any], what: str) -> str:
    if what == "python":
        version = str(machine["host"]["python"])
        return ".".join(version.split(".")[:2])
    return str(machine["packages"].get(what))


def _host_of(worker: str) -> str:
    return worker.rpartition(":")[0]


def _words(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


@contextmanager
def _quiet() -> Iterator[None]:
    """What Dask logs and warns of are things that it gets over, or that are said here in a sentence."""
    with suppress(ImportError):
        import distributed  # noqa: F401 - it sets its loggers up

    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] in ("distributed", "tornado")]
    before = {name: logging.getLogger(name).level for name in names}
    try:
        for name in names:
            logging.getLogger(name).setLevel(logging.CRITICAL + 1)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for name, level in before.items():
            logging.getLogger(name).setLevel(level)

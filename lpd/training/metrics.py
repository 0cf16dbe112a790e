"""MetricsLog: the numbers of a training as it runs, for programs (JSON lines), spreadsheets (CSV) and TensorBoard."""

from __future__ import annotations

import csv
import importlib
import io
import json
import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from lpd.errors import RunError, ShapeError
from lpd.recipe.run_files import EVENTS, METRICS
from lpd.runs import replacing

METRICS_TABLE, VALID_TABLE = "metrics.csv", "valid.csv"

_EVENT_FILE = "events.out.tfevents."  # and a number: TensorBoard knows the files by this and reads them by name
_NO_TENSORBOARD = (
    "no TensorBoard events are written, as the package tensorboardX cannot be imported ({error}): "
    "pip install tensorboardX, or switch them off"
)

Row = Mapping[str, Any]
#: What is known of the use of the device, see :mod:`lpd.training.usage`.
_USAGE = ("busy", "memory_mb")


class MetricsLog:
    """Writes into one run folder; use it as a context manager, or :meth:`close` it.

    ``metrics.jsonl`` is what programs read and what all else can be told from. ``metrics.csv`` has one row per logged
    step, ``valid.csv`` one per validation, gate and background protocol, ``tensorboard/`` the events.

    Attributes:
        notice: one sentence for people if TensorBoard events were asked for and cannot be written, else None; known
            after :meth:`begin` or :meth:`go_on`.
    """

    def __init__(self, folder: Path, loss_names: Sequence[str], *, tensorboard: bool = True) -> None:
        """Touch nothing yet; :meth:`begin` or :meth:`go_on` comes next.

        Args:
            folder: of the run; it exists.
            loss_names: of all losses that :meth:`losses` will ever be given: a table cannot grow columns later.
            tensorboard: also write events, if the package for it is there.
        """
        self.notice: str | None = None
        self._folder, self._tensorboard = folder, tensorboard
        self._loss_columns = ("step", "rate", *loss_names, "seconds", *_USAGE)
        self._valid_columns: tuple[str, ...] | None = None  # as the first validation has them
        self._validated = -1  # the step of the last validation before an interruption
        self._events: _EventFile | None = None

    def __enter__(self) -> MetricsLog:
        return self

    def __exit__(self, _kind: object, error: BaseException | None, _trace: object) -> None:
        try:
            self.close()
        except RunError:
            if error is None:  # else the first error is the one to hear of
                raise

    def begin(self) -> None:
        """Clear what an earlier run left.

        Raises:
            RunError: the folder cannot be written.
        """
        self.close()
        with writing(self._folder):
            for leftover in (METRICS, METRICS_TABLE, VALID_TABLE):
                (self._folder / leftover).unlink(missing_ok=True)
            for events in (self._folder / EVENTS).glob(f"{_EVENT_FILE}*"):
                events.unlink()
        self._valid_columns, self._validated = None, -1
        self._open_events(None)

    def go_on(self, step: int) -> None:
        """Continue an interrupted run: forget everything logged after ``step``, which will come again.

        Raises:
            RunError: the metrics cannot be read or written.
        """
        path = self._folder / METRICS
        with writing(self._folder):
            text = path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
            kept = [entry for entry in map(_entry, text.splitlines()) if entry is not None and entry["step"] <= step]
            self._replace(METRICS, "".join(_json_line(entry) for entry in kept))
            self._replace_tables(kept)
        self._validated = max((entry["step"] for entry in kept if "valid" in entry), default=-1)
        self._open_events(step + 1)

    def losses(
        self,
        step: int,
        rate: float,
        losses: Mapping[str, float],
        seconds: float,
        usage: Mapping[str, float | None] | None = None,
    ) -> None:
        """Log the losses of one step.

        Args:
            step: optimiser steps done.
            rate: share of the full learning rate.
            losses: by name; numbers that are none are logged as unknown.
            seconds: of work until now.
            usage: of the device, if it is known: of :meth:`lpd.training.usage.Usage.take`.

        Raises:
            RunError: the disk is full or the folder gone.
            ValueError: a loss was not announced.
        """
        unknown = [name for name in losses if name not in self._loss_columns]
        if unknown:
            raise ValueError(f"loss {unknown[0]!r} is none of those announced: {', '.join(self._loss_columns)}")
        own = {name: value for name, value in (usage or {}).items() if value is not None}
        entry = _known({"step": step, "rate": rate, **losses, "seconds": round(seconds, 2), **own})
        with writing(self._folder):
            self._append(METRICS, _json_line(entry))
            self._append_rows(METRICS_TABLE, self._loss_columns, [entry])
            named = {f"loss/{name}": value for name, value in losses.items()}
            self._scalars(step, {"rate": rate, **named, **{f"device/{name}": value for name, value in own.items()}})

    def validation(self, step: int, report: Mapping[str, Any], seconds: float) -> None:
        """Log how the network did on the valid split.

        What was logged before an interruption, which may have come between this and the end, is not logged again.

        Args:
            step: optimiser steps done.
            report: of :func:`lpd.evaluation.report.evaluate`; every number of its ``gates`` is logged.
            seconds: of work until now.

        Raises:
            RunError: the disk is full or the folder gone.
        """
        if step <= self._validated:
            return
        entry = _known(
            {
                "step": step,
                "valid": report["gates"],
                "jeffreys_similarity": report.get("jeffreys_similarity", {}),
                "seconds": round(seconds, 2),
            }
        )
        rows = list(_valid_rows(entry))
        with writing(self._folder):
            self._append(METRICS, _json_line(entry))
            self._append_rows(VALID_TABLE, self._columns_of(rows), rows)
            self._scalars(step, _valid_scalars(entry))

    def pictures(self, step: int, pictures: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        """Put pictures, (H, W, 3) uint8 RGB by name, into the events; without events nothing is written.

        Raises:
            RunError: the disk is full or the folder gone.
            ShapeError: a picture is not (H, W, 3) uint8.
        """
        for name, picture in pictures.items():
            if picture.dtype != np.uint8 or picture.ndim != 3 or picture.shape[2] != 3:
                raise ShapeError(f"picture {name!r} is {picture.shape} {picture.dtype}, not (H, W, 3) uint8 RGB")
        if self._events is not None:
            with writing(self._folder):
                self._events.add_pictures(step, pictures)

    def close(self) -> None:
        """End the event file; the other files are whole at any time. Closing twice does no harm.

        Raises:
            RunError: the disk is full.
        """
        events, self._events = self._events, None
        if events is not None:
            with writing(self._folder):
                events.close()

    def _open_events(self, purge_from: int | None) -> None:
        self.close()
        self.notice = None
        if self._tensorboard:
            try:
                with writing(self._folder):
                    self._events = _EventFile(self._folder / EVENTS)
                    self._events.start(purge_from)
            except _NoTensorBoardError as error:
                self.notice = _NO_TENSORBOARD.format(error=error)

    def _scalars(self, step: int, scalars: Mapping[str, float | None]) -> None:
        if self._events is not None:
            self._events.add_scalars(step, scalars)

    def _replace_tables(self, entries: Sequence[Row]) -> None:
        self._valid_columns = None
        losses = [entry for entry in entries if "valid" not in entry]
        valid = [row for entry in entries if "valid" in entry for row in _valid_rows(entry)]
        self._replace(METRICS_TABLE, _table(self._loss_columns, losses, header=True) if losses else "")
        self._replace(VALID_TABLE, _table(self._columns_of(valid), valid, header=True) if valid else "")

    def _columns_of(self, rows: Sequence[Row]) -> tuple[str, ...]:
        if self._valid_columns is None:
            inner = dict.fromkeys(name for row in rows for name in row if name != "seconds")
            self._valid_columns = (*inner, "seconds")
        return self._valid_columns

    def _append_rows(self, name: str, columns: Sequence[str], rows: Sequence[Row]) -> None:
        path = self._folder / name
        empty = not path.exists() or path.stat().st_size == 0
        self._append(name, _table(columns, rows, header=empty))

    def _append(self, name: str, text: str) -> None:
        with (self._folder / name).open("a", encoding="utf-8", newline="") as file:
            file.write(text)

    def _replace(self, name: str, text: str) -> None:
        with replacing(self._folder / name) as temporary:
            temporary.write_bytes(text.encode())


@contextmanager
def writing(folder: Path) -> Iterator[None]:
    """Turn what the system says of a full disk or a lost folder into one sentence.

    Raises:
        RunError: the block failed to write.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or error
        raise RunError(f"cannot write to {folder} ({reason}): free some space or choose another folder") from error


class _NoTensorBoardError(Exception):
    """The package that knows TensorBoard's format is missing or broken; the text says how."""


class _EventFile:
    """One file of TensorBoard events, written at once: no thread that could die or hang unseen on a full disk."""

    def __init__(self, folder: Path) -> None:
        """Open a file that sorts behind those in ``folder``; :meth:`start` comes next.

        Raises:
            OSError: the disk refuses.
            _NoTensorBoardError: the package is missing or broken.
        """
        records, self._event, self._summary = _tensorboard_modules()
        folder.mkdir(exist_ok=True)
        numbers = (path.suffix[1:] for path in folder.glob(f"{_EVENT_FILE}*"))
        number = 1 + max((int(number) for number in numbers if number.isdigit()), default=0)
        self._file = records.RecordWriter(str(folder / f"{_EVENT_FILE}{number:06d}"))

    def start(self, purge_from: int | None) -> None:
        """Write what comes first, and that the files before hold nothing worth showing from a step on."""
        self._write(file_version="brain.Event:2")
        if purge_from is not None:
            log = self._event.SessionLog(status=self._event.SessionLog.START)
            self._write(step=purge_from, session_log=log)
        self._file.flush()

    def add_scalars(self, step: int, scalars: Mapping[str, float | None]) -> None:
        """Add the numbers that are known."""
        value = self._summary.Summary.Value
        known = {tag: number for tag, number in scalars.items() if number is not None and math.isfinite(number)}
        self._add(step, [value(tag=tag, simple_value=number) for tag, number in known.items()])

    def add_pictures(self, step: int, pictures: Mapping[str, npt.NDArray[np.uint8]]) -> None:
        """Add pictures, (H, W, 3) uint8 RGB."""
        value, image = self._summary.Summary.Value, self._summary.Summary.Image
        for tag, picture in pictures.items():
            height, width, channels = picture.shape
            content = image(height=height, width=width, colorspace=channels, encoded_image_string=_png(picture))
            self._add(step, [value(tag=tag, image=content)])

    def close(self) -> None:
        """The file is closed even if the disk refuses its last bytes."""
        self._file.close()

    def _add(self, step: int, values: Sequence[Any]) -> None:
        self._write(step=step, summary=self._summary.Summary(value=values))
        self._file.flush()

    def _write(self, **content: Any) -> None:
        self._file.write(self._event.Event(wall_time=time.time(), **content).SerializeToString())


def _tensorboard_modules() -> list[Any]:
    try:
        names = ("record_writer", "proto.event_pb2", "proto.summary_pb2")
        return [importlib.import_module(f"tensorboardX.{name}") for name in names]
    except Exception as error:  # a protobuf of another generation raises errors of many kinds, none worth a training
        raise _NoTensorBoardError(str(error).split("\n")[0]) from error


def _known(value: Any) -> Any:
    """A copy for JSON, in which numbers that are none are None."""
    if isinstance(value, Mapping):
        return {key: _known(inner) for key, inner in value.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _json_line(entry: Row) -> str:
    return json.dumps(entry, allow_nan=False) + "\n"


def _entry(line: str) -> dict[str, Any] | None:
    """A line of metrics; none that a killed process left half written is to stay."""
    try:
        entry = json.loads(line)
        return _known(entry) if math.isfinite(entry["step"]) else None
    except (ValueError, KeyError, TypeError):
        return None


def _protocols(gates: Mapping[str, Mapping[str, Row]]) -> Iterator[tuple[str, str, Row]]:
    for gate, backgrounds in gates.items():
        for background, numbers in backgrounds.items():
            yield gate, background, numbers


def _valid_rows(entry: Row) -> Iterator[Row]:
    for gate, background, numbers in _protocols(entry["valid"]):
        protocol = {"step": entry["step"], "gate": gate, "background": background}
        yield {**protocol, **_flat(numbers, " "), "seconds": entry.get("seconds")}


def _valid_scalars(entry: Row) -> dict[str, float | None]:
    scalars = {
        f"valid/{gate}/{background}/{name}": value
        for gate, background, numbers in _protocols(entry["valid"])
        for name, value in _flat(numbers, "/").items()
    }
    similarity = {"jeffreys_similarity": entry["jeffreys_similarity"]}
    return {**scalars, **{f"valid/{name}": value for name, value in _flat(similarity, "/scale ").items()}}


def _flat(numbers: Row, joint: str) -> dict[str, float | None]:
    """Numbers of a report's table by name; those of a class are named ``iou`` + ``joint`` + its code."""
    flat: dict[str, float | None] = {}
    for name, value in numbers.items():
        inner = {f"{name}{joint}{code}": v for code, v in value.items()} if isinstance(value, Mapping) else {}
        flat.update({k: v for k, v in (inner or {name: value}).items() if v is None or isinstance(v, int | float)})
    return flat


def _table(columns: Sequence[str], rows: Sequence[Row], *, header: bool) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, restval="", extrasaction="ignore", lineterminator="\n")
    if header:
        writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _png(picture: npt.NDArray[np.uint8]) -> bytes:
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()

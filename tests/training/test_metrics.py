"""What a training logs: lines, tables and TensorBoard events that agree, also after an interruption or a full disk."""

from __future__ import annotations

import csv
import gc
import io
import json
import shutil
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lpd.errors import RunError, ShapeError
from lpd.training import metrics
from lpd.training.metrics import MetricsLog

FULL = Path("/dev/full")  # answers every write with "no space left"
NAMES = ("loss", "classification", "diversity")


def report(miou: float | None) -> dict[str, Any]:
    """As evaluate makes it, with a class code that no table likes and one figure that only one protocol has."""
    return {
        "gates": {
            "predicted": {
                "ignored": {"miou": miou, "iou": {"TUM": 0.5, "A, B": None}},
                "tissue rule": {"miou": 0.25, "iou": {"TUM": 0.5, "A, B": 0.0, "background": 0.75}, "mdice": 0.4},
            },
        },
        "jeffreys_similarity": {"2": 0.125, "3": None},
        "refined": {},
    }


def write_run(log: MetricsLog, steps: range) -> None:
    """Losses at every step, scores and a picture at even ones; step n says n."""
    for step in steps:
        log.losses(step, 1 / step, {name: float(step) for name in NAMES}, step)
        if step % 2 == 0:
            log.validation(step, report(step / 100), step + 0.5)
            log.pictures(step, {"preview": np.full((2, 3, 3), step, np.uint8)})


def rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text(encoding="utf-8"))))


def crc32c(data: bytes) -> int:
    """Castagnoli's checksum bit by bit, as RFC 3720 defines it."""
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder ^= byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (0x82F63B78 if remainder & 1 else 0)
    return remainder ^ 0xFFFFFFFF


def read_records(path: Path) -> list[bytes]:
    """Contents of a TFRecord file: length, its masked checksum, content, its masked checksum; all little-endian."""
    data, records = path.read_bytes(), []
    while data:
        length, check = struct.unpack("<QI", data[:12])
        content, (content_check,) = data[12 : 12 + length], struct.unpack("<I", data[12 + length : 16 + length])
        for part, value in ((data[:8], check), (content, content_check)):
            plain = crc32c(part)
            assert value == ((plain >> 15 | plain << 17) + 0xA282EAD8) % 2**32
        records.append(content)
        data = data[16 + length :]
    return records


def read_events(folder: Path) -> dict[str, list[tuple[int, Any]]]:
    """(step, value) per tag as TensorBoard shows them: files by name, a start drops what was from its step on."""
    from tensorboardX.proto import event_pb2

    shown: dict[str, list[tuple[int, Any]]] = {}
    for path in sorted((folder / "tensorboard").iterdir()):
        assert "tfevents" in path.name
        events = [event_pb2.Event.FromString(record) for record in read_records(path)]
        assert events[0].file_version == "brain.Event:2"
        for event in events:
            if event.HasField("session_log"):
                assert event.session_log.status == event_pb2.SessionLog.START
                shown = {tag: [e for e in entries if e[0] < event.step] for tag, entries in shown.items()}
            for value in event.summary.value:
                content = value.image if value.HasField("image") else value.simple_value
                shown.setdefault(value.tag, []).append((event.step, content))
    return shown


def values(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(step, pytest.approx(value)) for step, value in read_events(folder)[tag]]


@pytest.fixture
def straight(tmp_path):
    folder = tmp_path / "straight"
    folder.mkdir()
    with MetricsLog(folder, NAMES) as log:
        log.begin()
        write_run(log, range(1, 7))
    return folder


def test_lines_keep_their_format(tmp_path):
    with MetricsLog(tmp_path, ("loss", "diversity")) as log:
        log.begin()
        log.losses(10, 0.5, {"loss": 1.5, "diversity": 0.0}, 12.3456)
        log.validation(10, report(0.5), 13)
    first, second = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert first == '{"step": 10, "rate": 0.5, "loss": 1.5, "diversity": 0.0, "seconds": 12.35}'
    assert json.loads(second) == {
        "step": 10,
        "valid": report(0.5)["gates"],
        "jeffreys_similarity": {"2": 0.125, "3": None},
        "seconds": 13,
    }
    assert list(json.loads(second)) == ["step", "valid", "jeffreys_similarity", "seconds"]


def test_losses_are_a_table_of_fixed_columns(tmp_path):
    with MetricsLog(tmp_path, NAMES, tensorboard=False) as log:
        log.begin()
        log.losses(10, 0.5, {"loss": 1.5, "classification": 1.0}, 12.3456)
        numbers = {"diversity": 0.5, "loss": 1.0, "classification": float("nan")}
        log.losses(20, 0.25, numbers, 20, {"busy": 0.75, "memory_mb": None})
    assert (tmp_path / "metrics.csv").read_text() == (
        "step,rate,loss,classification,diversity,seconds,busy,memory_mb\n"
        "10,0.5,1.5,1.0,,12.35,,\n20,0.25,1.0,,0.5,20,0.75,\n"
    )


def test_scores_are_a_table_with_a_row_per_protocol(tmp_path):
    with MetricsLog(tmp_path, NAMES, tensorboard=False) as log:
        log.begin()
        log.validation(10, report(None), 1)
        log.validation(20, report(0.5), 2)
    assert (tmp_path / "valid.csv").read_text() == (
        'step,gate,background,miou,iou TUM,"iou A, B",iou background,mdice,seconds\n'
        "10,predicted,ignored,,0.5,,,,1\n"
        "10,predicted,tissue rule,0.25,0.5,0.0,0.75,0.4,1\n"
        "20,predicted,ignored,0.5,0.5,,,,2\n"
        "20,predicted,tissue rule,0.25,0.5,0.0,0.75,0.4,2\n"
    )


def test_only_numbers_of_a_report_go_into_its_table(tmp_path):
    gates = {"predicted": {"ignored": {"miou": 0.5, "note": "of tissue", "range": [0.4, 0.6], "iou": {"TUM": 0.5}}}}
    with MetricsLog(tmp_path, NAMES) as log:
        log.begin()
        log.validation(10, {"gates": gates}, 1)
    assert (tmp_path / "valid.csv").read_text().splitlines()[0] == "step,gate,background,miou,iou TUM,seconds"
    assert set(read_events(tmp_path)) == {"valid/predicted/ignored/miou", "valid/predicted/ignored/iou/TUM"}


def test_a_loss_that_was_not_announced_is_refused(tmp_path):
    with MetricsLog(tmp_path, ("loss",), tensorboard=False) as log:
        log.begin()
        with pytest.raises(ValueError, match="'similarity' is none of those announced"):
            log.losses(10, 1.0, {"loss": 1.0, "similarity": 1.0}, 1)
    assert not (tmp_path / "metrics.jsonl").exists()


def test_numbers_that_are_none_leave_the_lines_readable(tmp_path):
    with MetricsLog(tmp_path, NAMES) as log:
        log.begin()
        log.losses(10, 0.5, {"loss": 1.0, "classification": float("inf"), "diversity": float("nan")}, 1)
        log.validation(10, report(float("nan")), 2)
    first, second = [
        json.loads(line, parse_constant=pytest.fail) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()
    ]
    assert (first["loss"], first["classification"], first["diversity"]) == (1.0, None, None)
    assert second["valid"]["predicted"]["ignored"]["miou"] is None
    shown = read_events(tmp_path)
    assert not {"loss/classification", "loss/diversity", "valid/predicted/ignored/miou"} & set(shown)


def test_tensorboard_shows_all_numbers_and_pictures(straight):
    shown = read_events(straight)
    assert values(straight, "loss/loss") == [(step, step) for step in range(1, 7)]
    assert values(straight, "rate") == [(step, 1 / step) for step in range(1, 7)]
    assert values(straight, "valid/predicted/ignored/miou") == [(2, 0.02), (4, 0.04), (6, 0.06)]
    assert values(straight, "valid/predicted/tissue rule/iou/background") == [(step, 0.75) for step in (2, 4, 6)]
    assert values(straight, "valid/jeffreys_similarity/scale 2") == [(step, 0.125) for step in (2, 4, 6)]
    assert "valid/predicted/ignored/iou/A, B" not in shown  # never known
    for step, image in shown["preview"]:
        picture = np.asarray(Image.open(io.BytesIO(image.encoded_image_string)))
        assert (image.height, image.width, image.colorspace) == (2, 3, 3)
        assert picture.shape == (2, 3, 3)
        assert (picture == step).all()
    assert [step for step, _ in shown["preview"]] == [2, 4, 6]


def test_events_can_be_read_while_the_training_runs(tmp_path):
    with MetricsLog(tmp_path, NAMES) as log:
        log.begin()
        log.losses(1, 1.0, {"loss": 2.0}, 1)
        assert values(tmp_path, "loss/loss") == [(1, 2.0)]
        log.pictures(1, {"preview": np.zeros((2, 2, 3), np.uint8)})
        assert len(read_events(tmp_path)["preview"]) == 1


@pytest.mark.parametrize("kept", [0, 3, 4])
def test_an_interrupted_log_ends_like_one_written_straight_through(straight, tmp_path, kept):
    folder = tmp_path / "interrupted"
    folder.mkdir()
    with MetricsLog(folder, NAMES) as log:
        log.begin()
        write_run(log, range(1, 6))
    for name in ("metrics.jsonl", "metrics.csv", "valid.csv"):  # killed amid its last words
        with (folder / name).open("a") as file:
            file.write('{"step": 1' if name == "metrics.jsonl" else "1")
    with MetricsLog(folder, NAMES) as log:
        log.go_on(kept)
        write_run(log, range(kept + 1, 7))
    for name in ("metrics.jsonl", "metrics.csv", "valid.csv"):
        assert (folder / name).read_bytes() == (straight / name).read_bytes(), name
    assert read_events(folder) == read_events(straight)


def test_a_log_may_be_interrupted_again_and_again(tmp_path):
    for attempt in range(12):  # more event files than one digit counts
        with MetricsLog(tmp_path, NAMES) as log:
            log.go_on(0)
            log.losses(1, 1.0, {"loss": float(attempt)}, 1)
    assert values(tmp_path, "loss/loss") == [(1, 11)]
    assert [row["loss"] for row in rows(tmp_path / "metrics.csv")] == ["11.0"]


def test_tables_of_an_earlier_version_appear_when_it_goes_on(straight, tmp_path):
    shutil.copy(straight / "metrics.jsonl", tmp_path)
    with MetricsLog(tmp_path, NAMES, tensorboard=False) as log:
        log.go_on(6)
    for name in ("metrics.jsonl", "metrics.csv", "valid.csv"):
        assert (tmp_path / name).read_bytes() == (straight / name).read_bytes(), name


def test_a_new_run_clears_what_an_earlier_one_left_and_nothing_else(straight):
    (straight / "notes.txt").write_text("mine")
    (straight / "tensorboard" / "notes.txt").write_text("mine")
    with MetricsLog(straight, ("loss",), tensorboard=False) as log:
        log.begin()
    assert {path.name for path in straight.rglob("*")} == {"notes.txt", "tensorboard"}
    with MetricsLog(straight, ("loss",), tensorboard=False) as log:
        log.begin()
        log.validation(1, report(0.5), 1)
        log.begin()
        log.validation(1, {"gates": {"none": {"ignored": {"accuracy": 1.0}}}}, 1)
    assert (straight / "valid.csv").read_text() == "step,gate,background,accuracy,seconds\n1,none,ignored,1.0,1\n"


@pytest.mark.parametrize(
    "breakage", [ImportError("no module"), TypeError("Descriptors cannot be created directly.\nSee the manual")]
)
def test_without_tensorboard_all_else_is_written_and_a_sentence_says_so(tmp_path, monkeypatch, breakage):
    def fails(name):
        raise breakage

    monkeypatch.setattr(metrics.importlib, "import_module", fails)
    with MetricsLog(tmp_path, NAMES) as log:
        log.begin()
        write_run(log, range(1, 3))
    assert "pip install tensorboardX" in log.notice
    assert str(breakage).split("\n")[0] in log.notice
    assert "\n" not in log.notice
    assert {path.name for path in tmp_path.iterdir()} == {"metrics.jsonl", "metrics.csv", "valid.csv"}
    with MetricsLog(tmp_path, NAMES, tensorboard=False) as log:
        log.begin()
    assert log.notice is None


def test_tensorboard_is_imported_only_when_events_are_written():
    code = "import sys, lpd.training.metrics; print('tensorboardX' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout == "False\n"


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
@pytest.mark.parametrize("name", ["metrics.jsonl", "metrics.csv", "valid.csv"])
def test_a_full_disk_is_one_sentence(tmp_path, name):
    with MetricsLog(tmp_path, NAMES, tensorboard=False) as log:
        log.begin()
        (tmp_path / name).symlink_to(FULL)
        with pytest.raises(RunError, match=r"cannot write to .* \(No space left on device\): free some space"):
            write_run(log, range(2, 3))


def fail_while_full(folder: Path) -> None:
    with MetricsLog(folder, NAMES) as log:
        with pytest.raises(RunError):
            log.begin()
        raise ZeroDivisionError


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full here")
def test_a_full_disk_stops_the_events_and_leaves_no_file_open(tmp_path, monkeypatch):
    from tensorboardX import record_writer

    monkeypatch.setattr(record_writer, "open_file", lambda path: FULL.open("wb"))
    log = MetricsLog(tmp_path, NAMES)
    with pytest.raises(RunError, match="No space left"):
        log.begin()
    with pytest.raises(RunError, match="No space left"):
        log.close()
    log.close()
    with pytest.raises(ZeroDivisionError):  # is not hidden by what closing has to say
        fail_while_full(tmp_path)
    del log
    gc.collect()  # a file left open would warn here, and warnings are errors


def test_a_folder_that_was_thrown_away_stays_away(tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    with MetricsLog(folder, NAMES) as log:
        log.begin()
        shutil.rmtree(folder)
        with pytest.raises(RunError, match="cannot write to"):
            log.losses(1, 1.0, {"loss": 1.0}, 1)
    assert not folder.exists()
    with pytest.raises(RunError, match="cannot write to"):
        MetricsLog(folder, NAMES).begin()


@pytest.mark.parametrize("shape", [(4, 4), (4, 4, 4), (1, 4, 4, 3)])
def test_what_is_no_picture_is_refused(tmp_path, shape):
    with MetricsLog(tmp_path, NAMES, tensorboard=False) as log:
        with pytest.raises(ShapeError, match=r"'preview' is .* not \(H, W, 3\) uint8 RGB"):
            log.pictures(1, {"preview": np.zeros(shape, np.uint8)})
        with pytest.raises(ShapeError):
            log.pictures(1, {"preview": np.zeros((4, 4, 3), np.float32)})
        log.pictures(1, {"preview": np.zeros((4, 4, 3), np.uint8)})

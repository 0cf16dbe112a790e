"""Passwords, the users file, sessions and the throttle: what the log-in stands on."""

from __future__ import annotations

import base64
import getpass
import hashlib
import json
import os
import time
from pathlib import Path

import pytest

import app
from lpd.errors import LpdError
from viewers.passwords import PasswordHash
from viewers.sessions import LIFETIME_S, Sessions
from viewers.throttle import Throttle, address_key
from viewers.users import UsersFile, add_user, read_users

PASSWORD = "correct horse"


def line(name: str, password: str = PASSWORD) -> str:
    """A line made without the code under test."""
    salt = b"0123456789abcdef"
    key = hashlib.scrypt(password.encode(), salt=salt, n=2**14, r=8, p=1, dklen=32)
    return f"{name}:scrypt$14$8$1${base64.b64encode(salt).decode()}${base64.b64encode(key).decode()}\n"


@pytest.fixture
def users(tmp_path: Path) -> UsersFile:
    (tmp_path / "users").write_text("# the ward\n\n" + line("anna"))
    return UsersFile(tmp_path / "users")


def change(users: UsersFile, text: str) -> None:
    users.path.write_text(text)
    users._looked = 0  # as if a second had passed


def test_only_the_password_fits(users: UsersFile) -> None:
    assert users.fits("anna", PASSWORD)
    for name, password in (("anna", "correct horsf"), ("anna", ""), ("berta", PASSWORD), ("berta", "no such user")):
        assert not users.fits(name, password)


def test_a_hash_is_salted_and_survives_being_written() -> None:
    first, second = PasswordHash.of(PASSWORD), PasswordHash.of(PASSWORD)
    assert first.key != second.key
    assert PasswordHash.parse(str(first)) == first
    assert first.fits(PASSWORD)
    assert PasswordHash.of("pässword").fits("pa\u0308ssword")  # another keyboard's ä


@pytest.mark.parametrize(
    "bad",
    ["anna", "anna:secret", "a b:" + line("x")[2:], line("anna").replace("$14$", "$2$"),
     line("anna").replace("$14$", "$20$"), line("anna")[:-30], line("anna").replace("scrypt", "md5"),
     line("berta") * 2],
)  # fmt: skip
def test_a_malformed_line_is_named_by_its_number(bad: str, tmp_path: Path) -> None:
    (tmp_path / "users").write_text(line("first") + "# note\n" + bad)
    with pytest.raises(LpdError, match=r"users line [34] .*: correct or delete it"):
        UsersFile(tmp_path / "users")


def test_a_file_without_users_or_no_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "users").write_text("\n")
    with pytest.raises(LpdError, match="names no users"):
        UsersFile(tmp_path / "users")
    with pytest.raises(LpdError, match="none cannot be read"):
        UsersFile(tmp_path / "none")


def test_the_file_is_read_again_when_it_changes(users: UsersFile, caplog: pytest.LogCaptureFixture) -> None:
    change(users, line("berta"))
    assert users.get("anna") is None
    assert users.fits("berta", PASSWORD)
    change(users, "a slip")
    assert users.fits("berta", PASSWORD)
    assert "line 1" in caplog.text


def test_the_command_makes_lines(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "users"
    path.write_text("# kept\n" + line("berta"))
    for password in ("first password", "second password"):
        monkeypatch.setattr(getpass, "getpass", lambda _prompt, p=password: p)
        assert app.main(["--auth", str(path), "--add-user", "anna"]) == 0
    assert path.read_text().startswith("# kept\n" + line("berta"))
    assert set(read_users(path)) == {"anna", "berta"}
    assert read_users(path)["anna"].fits("second password")
    if os.name != "nt":
        assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(p.name for p in tmp_path.iterdir()) == ["users"]


@pytest.mark.parametrize(
    ("typed", "name", "says"),
    [
        (("one password", "another one"), "anna", "differ"),
        (("short", "short"), "anna", "5 characters"),
        (("long enough", "long enough"), "a:b", "no user name"),
    ],
)
def test_the_command_refuses(
    typed: tuple[str, str],
    name: str,
    says: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    answers = iter(typed)
    monkeypatch.setattr(getpass, "getpass", lambda _prompt: next(answers))
    assert app.main(["--auth", str(tmp_path / "users"), "--add-user", name]) == 1
    assert says in capsys.readouterr().err
    assert not (tmp_path / "users").exists()


def test_nothing_is_written_over_a_file_that_is_something_else(tmp_path: Path) -> None:
    (tmp_path / "notes").write_text("dear diary")
    with pytest.raises(LpdError, match="line 1"):
        add_user(tmp_path / "notes", "anna", PASSWORD)
    assert (tmp_path / "notes").read_text() == "dear diary"


def test_a_session_outlives_a_restart_and_ends_when_it_should(
    users: UsersFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "sessions"
    sessions = Sessions(path, users)
    token, other = sessions.begin("anna"), sessions.begin("anna")
    again = Sessions(path, users)
    assert again.user(token) == "anna"
    again.end(token)
    assert (again.user(token), again.user(other)) == (None, "anna")
    assert Sessions(path, users).user(token) is None
    if os.name != "nt":
        assert path.stat().st_mode & 0o777 == 0o600
    later = time.time() + LIFETIME_S + 1
    with monkeypatch.context() as patch:
        patch.setattr("viewers.sessions.time.time", lambda: later)
        assert again.user(other) is None
    change(users, line("anna", "a new password"))
    assert again.user(other) is None


def test_a_forged_session_is_nobodys(users: UsersFile, tmp_path: Path) -> None:
    sessions = Sessions(tmp_path / "sessions", users)
    token = sessions.begin("anna")
    payload, signature = token.split(".")
    claim = base64.urlsafe_b64encode(json.dumps(["anna", time.time() + 10**6, "0"]).encode()).decode().rstrip("=")
    stranger = Sessions(tmp_path / "other", users).begin("anna")
    for forged in (
        "",
        ".",
        "a.b",
        token[:-2],
        f"{claim}.{signature}",
        f"{payload}.",
        f"{claim}.",
        stranger,
        "é.é",
        "x" * 9999,
    ):
        assert sessions.user(forged) is None, forged


def test_guessing_is_slowed_and_forgiven() -> None:
    now = [100.0]
    throttle = Throttle(free=3, longest_s=30, clock=lambda: now[0])
    waits = []
    for _ in range(10):
        throttle.failed("anna")
        waits.append(throttle.wait_s("anna"))
    assert waits == [0, 0, 1, 2, 4, 8, 16, 30, 30, 30]
    assert throttle.wait_s("berta") == 0
    now[0] += 30
    assert throttle.wait_s("anna") == 0
    throttle.failed("anna")
    assert throttle.wait_s("anna") == 30
    now[0] += 901
    assert throttle.wait_s("anna") == 0


def test_the_throttle_forgets_the_oldest_rather_than_grow() -> None:
    throttle = Throttle(free=1, longest_s=30)
    for number in range(5000):
        throttle.failed(str(number))
    assert len(throttle._failures) == 4096
    assert (throttle.wait_s("0"), throttle.wait_s("4999")) == (0, 1)


def test_addresses_that_one_machine_chooses_from_are_one() -> None:
    assert address_key("2001:db8:1:2::5") == address_key("2001:db8:1:2:ffff::9") != address_key("2001:db8:1:3::5")
    assert address_key("::ffff:10.0.0.1") == address_key("10.0.0.1") != address_key("10.0.0.2")

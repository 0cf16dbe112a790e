"""The pool: opens once, closes what is idle and oldest, never what is in use."""

from __future__ import annotations

import threading
import time

import pytest

from viewers.pool import Pool


class Opened:
    def __init__(self) -> None:
        self.opened: list[str] = []
        self.closed: list[str] = []
        self.pool: Pool[str, str] = Pool(self.open, self.closed.append, limit=2)

    def open(self, key: str) -> str:
        if key == "bad":
            raise ValueError(key)
        self.opened.append(key)
        return key


def test_oldest_idle_value_is_closed_first() -> None:
    made = Opened()
    for key in ("a", "b", "a", "c"):
        with made.pool.borrow(key) as value:
            assert value == key
    assert (made.opened, made.closed) == (["a", "b", "c"], ["b"])


def test_what_is_in_use_stays_open_beyond_the_limit() -> None:
    made = Opened()
    with made.pool.borrow("a"), made.pool.borrow("b"), made.pool.borrow("c"):
        assert made.closed == []
    assert len(made.closed) == 1


def test_many_threads_open_a_value_once() -> None:
    made = Opened()
    slow = made.open

    def open_slowly(key: str) -> str:
        time.sleep(0.05)
        return slow(key)

    pool: Pool[str, str] = Pool(open_slowly, made.closed.append, limit=2)

    def use() -> None:
        with pool.borrow("a"):
            time.sleep(0.01)

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (made.opened, made.closed) == (["a"], [])


def test_an_error_reaches_the_borrower_every_time_and_nothing_is_kept() -> None:
    made = Opened()
    for _ in range(2):
        with pytest.raises(ValueError, match="bad"), made.pool.borrow("bad"):
            pass
    with made.pool.borrow("a"):
        pass
    assert made.closed == []

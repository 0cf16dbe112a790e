"""Commands that a page runs for an answer: what one that was killed had left."""

from __future__ import annotations

from viewers.commands import clear_scratch, scratch
from viewers.services import Services


def test_what_a_killed_app_had_left_is_cleared(services: Services) -> None:
    left = services.cache / "pictures" / "tmpabc"
    left.mkdir(parents=True)
    (left / "patient.png").write_bytes(b"x")
    with scratch(services.cache) as folder:
        assert left.exists()  # another app may be at it
        assert folder.is_dir()
    clear_scratch(services.cache)
    assert not left.exists()

"""Fixtures of the data room's tests."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache

import pytest

from lpd.data.phantom import tissue
from lpd.data.phantom.textures import Texture


@pytest.fixture(scope="session")
def _shared_textures() -> Iterator[None]:
    """Let phantom cases share two sets of textures, which take seconds to make; layout and stain stay their own."""
    make = cache(tissue.make_textures)

    def share(seed: int) -> tuple[Texture, ...]:
        return make(seed % 2)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tissue, "make_textures", share)
        yield

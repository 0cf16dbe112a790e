"""Thumbnails: small pictures of slides, made when they are first asked for and kept on disk, within bounds."""

from __future__ import annotations

import logging
import threading
from contextlib import suppress
from pathlib import Path

from lpd.runs import replacing
from viewers import images
from viewers.catalog import Catalogue

_LOGGER = logging.getLogger(__name__)
_LONGEST_PX = 320
#: About 15,000 pictures.
_LIMIT_BYTES = 200_000_000
#: The folder is measured when so many have been added, and the first time.
_LOOK_EVERY = 100


class Thumbnails:
    """JPEG pictures of at most 320 px, by slide fingerprint; those that were not asked for the longest go first.

    Args:
        folder: where they are kept. Deleting it costs only time, and so does a full or read-only disk.
        limit: bytes that it may hold.
    """

    def __init__(self, folder: Path, limit: int = _LIMIT_BYTES) -> None:
        self._folder = folder
        self._limit = limit
        self._guard = threading.Lock()
        self._until_look = 1

    def jpeg(self, catalogue: Catalogue, slide_id: str) -> bytes:
        """The picture of a slide.

        Raises:
            LpdError: the slide does not exist or cannot be read.
        """
        path = self._folder / f"{catalogue.info(slide_id).fingerprint}.jpeg"
        with suppress(OSError):
            data = path.read_bytes()
            path.touch()
            return data
        with catalogue.borrow_briefly(slide_id) as slide:
            data = images.jpeg(slide.thumbnail(_LONGEST_PX))
        with suppress(OSError):
            with replacing(path) as temporary:
                temporary.write_bytes(data)
            self._keep_within_bounds()
        return data

    def _keep_within_bounds(self) -> None:
        with self._guard:
            self._until_look -= 1
            if self._until_look > 0:
                return
            self._until_look = _LOOK_EVERY
            facts = [(path, path.stat()) for path in self._folder.glob("*.jpeg")]
            size = sum(fact.st_size for _, fact in facts)
            for path, fact in sorted(facts, key=lambda found: found[1].st_mtime_ns):
                if size <= self._limit:
                    return
                path.unlink(missing_ok=True)
                size -= fact.st_size

"""Reviews: those of results that were looked at lately, kept open, and the files that are made of them."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

from lpd.errors import ResultError
from lpd.export.areas import write_areas_csv
from lpd.export.ome_tiff import write_ome_tiff
from lpd.inference.store import STORE_NAME, ResultStore
from lpd.review.geojson import write_corrections_geojson
from lpd.review.review import Review
from lpd.review.sources import CorrectedMask, CorrectionsAlone
from viewers.errors import NotFoundError, NotReadyError
from viewers.jobs import Job
from viewers.pool import Pool

_KEPT = 8
#: Kind -> ending, media type, and what writes it.
_FILES: dict[str, tuple[str, str, Callable[[Review, Path], object]]] = {
    "corrected": ("ome.tif", "image/tiff", lambda review, path: write_ome_tiff(CorrectedMask(review), path)),
    "areas": ("csv", "text/csv", lambda review, path: write_areas_csv(CorrectedMask(review), path)),
    "corrections": ("geojson", "application/geo+json", write_corrections_geojson),
    "labels": (
        "ome.tif",
        "image/tiff",
        lambda review, path: write_ome_tiff(CorrectionsAlone(review), path, unknown="not reviewed"),
    ),
}
_LOG = "log"


class Reviews:
    """Opened when first asked for; a result that is begun anew is another one."""

    def __init__(self) -> None:
        self._pool: Pool[tuple[Path, int], Review] = Pool(
            lambda key: Review(ResultStore.open(key[0])), lambda _review: None, _KEPT
        )
        self._making = threading.Lock()

    @contextmanager
    def of(self, job: Job) -> Iterator[Review]:
        """The review of a job's result, for a ``with`` block.

        Raises:
            NotReadyError: there is no mask yet.
            ResultError: the result or the review is damaged.
        """
        try:
            made = (job.run_folder / STORE_NAME).stat().st_mtime_ns
        except OSError:
            raise NotReadyError(f"result {job.id} has no mask yet: it appears when the first tiles are done") from None
        with self._pool.borrow((job.run_folder, made)) as review:
            yield review

    def file(self, job: Job, kind: str) -> tuple[BinaryIO, str, str]:
        """A file of a review, open: the file, the name to save it under, media type; made when it is first asked for.

        An open one can be sent to its end, whatever is corrected meanwhile.

        Raises:
            NotFoundError: there is no such kind.
            NotReadyError: nobody has said anything yet.
            ResultError: it cannot be written.
        """
        if kind not in (*_FILES, _LOG):
            raise NotFoundError(
                f"there is no file {kind[:20]!r} of a review: it is one of {', '.join((*_FILES, _LOG))}"
            )
        with self.of(job) as review:
            revision = review.refresh()
            if not revision:
                raise NotReadyError(f"result {job.id} has not been reviewed by anybody: correct something first")
            stem = f"{Path(job.slide_name).stem}-{job.checkpoint}"
            if kind == _LOG:
                return _opened(review.log_path), f"{stem}-review.jsonl", "application/jsonl"
            ending, media_type, write = _FILES[kind]
            mask = review.store.changes().revision  # a job that had been cancelled may have gone on
            path = review.folder / f"{kind}-{revision}-{mask}.{ending}"
            with self._making:  # of large masks one at a time
                if not path.is_file():
                    write(review, path)
                file = _opened(path)
                for old in review.folder.glob(f"{kind}-*"):
                    if old != path:
                        with suppress(OSError):  # somebody is being sent it
                            old.unlink()
            return file, f"{stem}-{kind}.{ending}", media_type


def _opened(path: Path) -> BinaryIO:
    try:
        return path.open("rb")
    except OSError as error:
        raise ResultError(f"cannot read {path.name} ({error.strerror or error}): ask for it again") from error

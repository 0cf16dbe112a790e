"""Services: what the pages work with, made once at start and handed to routes and tabs."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from lpd.errors import ResultError
from lpd.inference.store import STORE_NAME, ResultStore
from viewers.catalog import Catalogue
from viewers.checkpoints import Checkpoints
from viewers.errors import NotReadyError
from viewers.jobs import Job, Jobs
from viewers.options import Options
from viewers.overviews import Overviews
from viewers.pool import Pool
from viewers.resolutions import RememberedMpp
from viewers.result_index import ResultIndex
from viewers.reviews import Reviews
from viewers.slide_info import KnownSlides

_OPEN_RESULTS = 16
_CACHE = ".cache"


@dataclass(frozen=True)
class Services:
    """The catalogue of slides, the models, the jobs, and their results."""

    catalogue: Catalogue
    checkpoints: Checkpoints
    jobs: Jobs
    openseadragon: Path
    options: Options = field(default_factory=Options)
    reviews: Reviews = field(default_factory=Reviews)
    _stores: Pool[tuple[Path, int], ResultStore] = field(
        default_factory=lambda: Pool(lambda key: ResultStore.open(key[0]), lambda _store: None, _OPEN_RESULTS)
    )

    @cached_property
    def index(self) -> ResultIndex:
        """The jobs and results, without opening them anew each time."""
        return ResultIndex(self.jobs)

    @property
    def cache(self) -> Path:
        """Folder of what is kept to save time; deleting it costs nothing else."""
        return self.jobs.folder / _CACHE

    @contextmanager
    def result(self, job: Job) -> Iterator[ResultStore]:
        """The job's result, for a ``with`` block.

        Raises:
            NotReadyError: the job has not made it yet.
            ResultError: it cannot be read.
        """
        try:
            made = (job.run_folder / STORE_NAME).stat().st_mtime_ns
        except OSError:
            raise NotReadyError(f"result {job.id} has no mask yet: it appears when the first tiles are done") from None
        with self._stores.borrow((job.run_folder, made)) as store:
            yield store

    def has_mask(self, job: Job) -> bool:
        """True once there is a mask to show, even an unfinished one."""
        try:
            with self.result(job):
                return True
        except (NotReadyError, ResultError):
            return False


def make_services(
    slides: Path, checkpoints: Path, results: Path, openseadragon: Path, options: Options | None = None
) -> Services:
    """Services for the three folders and the folder of OpenSeadragon's files.

    Raises:
        LpdError: a folder is missing or cannot be made.
    """
    jobs = Jobs(results)
    known = KnownSlides(jobs.folder / _CACHE / "slides.json")
    overviews = Overviews(jobs.folder / _CACHE / "overviews")
    catalogue = Catalogue(slides, RememberedMpp(jobs.folder / "resolutions.json"), known, overviews)
    return Services(catalogue, Checkpoints(checkpoints), jobs, openseadragon, options or Options())

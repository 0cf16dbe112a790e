"""Services: what the pages work with, made once at start and handed to routes and tabs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
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
from viewers.labellings import Labellings
from viewers.lines import places
from viewers.options import Options
from viewers.overviews import Overviews
from viewers.pool import Pool
from viewers.resolutions import RememberedMpp
from viewers.result_index import ResultIndex
from viewers.reviews import Reviews
from viewers.slide_info import KnownSlides
from viewers.train.records import Training
from viewers.train.room import TrainingFolders, TrainingRoom, make_room

_OPEN_RESULTS = 16
_CACHE = ".cache"


@dataclass(frozen=True)
class Services:
    """The catalogue of slides, the models, the jobs, and their results; ``data`` is the folder of tile sets."""

    catalogue: Catalogue
    checkpoints: Checkpoints
    jobs: Jobs
    openseadragon: Path
    options: Options = field(default_factory=Options)
    reviews: Reviews = field(default_factory=Reviews)
    training: TrainingRoom | None = None
    data: Path = Path("data")
    _stores: Pool[tuple[Path, int], ResultStore] = field(
        default_factory=lambda: Pool(lambda key: ResultStore.open(key[0]), lambda _store: None, _OPEN_RESULTS)
    )

    @cached_property
    def index(self) -> ResultIndex:
        """The jobs and results, without opening them anew each time."""
        return ResultIndex(self.jobs)

    @cached_property
    def labellings(self) -> Labellings:
        """The label sets."""
        return Labellings(self.jobs.folder / "labels")

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
        try:
            with self._stores.borrow((job.run_folder, made)) as store:
                yield store
        except ResultError as error:  # where results lie is nobody's business
            text = str(error).replace(str(job.run_folder / STORE_NAME), str(job.run_folder))
            raise ResultError(text.replace(str(job.run_folder), f"the result of {job.checkpoint}")) from error

    def queue(self, jobs: Iterable[Job] | None = None, trainings: Iterable[Training] | None = None) -> dict[str, int]:
        """Places in the lines for the devices, by a job's id or a training's name: :func:`viewers.lines.places`.

        Args:
            jobs, trainings: all there are, if they have been read just now.
        """
        if trainings is None:
            trainings = self.training.trainings.all() if self.training else ()
        going = [job.in_line for job in (self.index.all() if jobs is None else jobs) if not job.run.ended]
        return places([*going, *(training.in_line for training in trainings if not training.run.ended)])

    def has_mask(self, job: Job) -> bool:
        """True once there is a mask to show, even an unfinished one."""
        try:
            with self.result(job):
                return True
        except (NotReadyError, ResultError):
            return False


def make_services(
    slides: Path,
    checkpoints: Path,
    results: Path,
    openseadragon: Path,
    options: Options | None = None,
    training: TrainingFolders | None = None,
) -> Services:
    """Services for the three folders, the folder of OpenSeadragon's files, and those of trainings, if there are any.

    Raises:
        LpdError: a folder is missing or cannot be made.
    """
    jobs = Jobs(results)
    known = KnownSlides(jobs.folder / _CACHE / "slides.json")
    overviews = Overviews(jobs.folder / _CACHE / "overviews")
    catalogue = Catalogue(slides, RememberedMpp(jobs.folder / "resolutions.json"), known, overviews)
    models = Checkpoints(checkpoints)
    room = make_room(training, models, jobs.folder, jobs.folder / _CACHE) if training else None
    data = training.data.resolve() if training else Path("data")
    return Services(catalogue, models, jobs, openseadragon, options or Options(), training=room, data=data)

"""Distribution: several processes, started by torchrun, train one network as one process would."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from timm.layers.norm_act import convert_sync_batchnorm
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from lpd.errors import ConfigError, LpdError, RunError
from lpd.model.encoders import batch_norms
from lpd.model.network import LPDNet
from lpd.runs import Run
from lpd.training.objective import Losses, Objective

#: Processes wait for one that scores for hours; one that died is noticed by its closed connection and by torchrun.
_PATIENCE = timedelta(days=7)

T = TypeVar("T")


@dataclass(frozen=True)
class Distribution:
    """Which of the processes this one is.

    Attributes:
        rank: its number; 0 leads: it alone writes and speaks.
        world: how many processes there are, on all machines.
        local_rank: its number on this machine, and that of its GPU.
    """

    rank: int
    world: int
    local_rank: int

    def __post_init__(self) -> None:
        if not 0 <= self.local_rank <= self.rank < self.world:
            raise ConfigError(
                f"process {self.rank} of {self.world} (on its machine {self.local_rank}) cannot be: start the training "
                "by torchrun, which counts them from 0"
            )

    @property
    def leads(self) -> bool:
        """Whether this process writes and speaks."""
        return self.rank == 0


@dataclass(frozen=True)
class Part:
    """A process's part of a batch: the tiles from ``start`` to before ``stop``.

    Attributes:
        share: of the batch's tiles. Where there are fewer tiles than processes, one without a tile of its own repeats
            the batch's first with a share of 0.
    """

    start: int
    stop: int
    share: float

    @property
    def tiles(self) -> slice:
        """Where they are in the batch."""
        return slice(self.start, self.stop)


def part_of(count: int, rank: int, world: int) -> Part:
    """The part of process ``rank`` of ``world`` in a batch of ``count`` tiles: contiguous, sizes at most 1 apart."""
    start, stop = count * rank // world, count * (rank + 1) // world
    if start == stop:
        return Part(0, 1, 0.0)
    return Part(start, stop, (stop - start) / count)


@contextmanager
def connected(distribution: Distribution) -> Iterator[None]:
    """The processes know each other inside the block, and leave it together.

    What they tell each other goes by gloo, gradients on a GPU by NCCL. torchrun's own variables say where to meet.

    Raises:
        RunError: they do not find each other.
    """
    by_nccl = torch.cuda.is_available() and dist.is_nccl_available()
    try:
        dist.init_process_group(
            "cpu:gloo,cuda:nccl" if by_nccl else "gloo",
            init_method="env://",
            rank=distribution.rank,
            world_size=distribution.world,
            timeout=_PATIENCE,
        )
    except (RuntimeError, ValueError) as error:
        reason = str(error).split("\n")[0]
        raise RunError(
            f"process {distribution.rank} does not reach the others ({reason}): start by torchrun"
        ) from error
    try:
        with warnings.catch_warnings():
            # Kernels lie channels last in memory and some of their gradients do not, which costs a copy.
            warnings.filterwarnings("ignore", "Grad strides do not match", UserWarning)
            yield
        # torchrun ends all as soon as one has failed: nobody leaves before the leader has written and spoken.
        Team(distribution).wait()
    finally:
        dist.destroy_process_group()


class Team:
    """What the processes of one training do together. Every method is called by all of them, at the same point.

    A team of one (no ``distribution``) needs no connection, and does just what it is asked to.

    Attributes:
        alone: whether it is such a team.
        rank: number of this process, of ``world``.
        leads: whether it alone writes and speaks.
    """

    def __init__(self, distribution: Distribution | None = None) -> None:
        self.alone = distribution is None
        self._self = distribution or Distribution(0, 1, 0)
        self.rank, self.world, self.leads = self._self.rank, self._self.world, self._self.leads

    def together(self, work: Callable[[], T]) -> T:
        """Do ``work`` in every process; none goes on before all are done.

        Raises:
            LpdError: of any process, the same in all: that of the lowest rank if there are several.
            RunError: another process died.
        """
        return self._agree(work, lambda _: False)[0]

    def any(self, work: Callable[[], bool]) -> bool:
        """Whether ``work`` is true in any process; errors are those of :meth:`together`."""
        return self._agree(work, bool)[1]

    def lead(self, work: Callable[[], T]) -> T:
        """Do ``work`` in the leading process only and tell the others, who wait, what came of it.

        Errors are those of :meth:`together`.
        """
        result: T = self.together(work if self.leads else _nothing)
        return result if self.alone else self._told(result, 0)

    def mean(self, numbers: Mapping[str, float], share: float) -> dict[str, float]:
        """Means over a batch, of means over this process's ``share`` of it."""
        if self.alone:
            return dict(numbers)
        values = torch.tensor(list(numbers.values()), dtype=torch.float64) * share
        _reduce(values, dist.ReduceOp.SUM)
        return dict(zip(numbers, values.tolist(), strict=True))

    def part(self, count: int) -> Part:
        """This process's part of a batch of ``count`` tiles."""
        return part_of(count, self.rank, self.world)

    def own_device(self, device: torch.device) -> torch.device:
        """The device of that kind that this process trains on.

        Raises:
            ConfigError: there are more processes than GPUs, or the kind cannot be shared.
        """
        if self.alone or device.type == "cpu":
            return device
        if device.type != "cuda":
            raise ConfigError(
                f"processes cannot share a training on {device.type}: pass --device cpu, or do without torchrun"
            )
        if self._self.local_rank >= torch.cuda.device_count():
            raise ConfigError(
                f"process {self.rank} finds no GPU of its own among {torch.cuda.device_count()}: lower --nproc-per-node"
            )
        own = torch.device("cuda", self._self.local_rank)
        torch.cuda.set_device(own)
        return own

    def borrowed(self, device: torch.device) -> Sequence[int] | None:
        """GPUs whose random numbers this process disturbs; None for all there are."""
        if self.alone:
            return None
        return [torch.cuda.current_device()] if device.type == "cuda" else []

    def share_batch_norms(self, network: LPDNet) -> None:
        """Make batch norms that use a batch's own statistics look at the parts of all processes.

        Call it once the network is where it trains.

        Raises:
            ConfigError: on a CPU, where nothing does this.
        """
        if self.alone or not any(norm.training for norm in batch_norms(network)):
            return
        if network.device.type != "cuda":
            raise ConfigError(
                f"encoder {network.config.encoder} uses the statistics of whole batches, which processes share on GPUs "
                "only: keep them as loaded (encoder.freeze_norm with a weights file), choose an encoder without batch "
                "norm, or do without torchrun"
            )
        # timm's, since torch's own would lose the activations that timm puts into its batch norms.
        network.encoder.body = convert_sync_batchnorm(network.encoder.body)  # type: ignore[no-untyped-call]  # in timm

    def wait(self) -> None:
        """Wait for the others, unless they are gone."""
        with suppress(LpdError):
            self.together(_nothing)

    def _agree(self, work: Callable[[], T], judge: Callable[[T], bool]) -> tuple[T, bool]:
        """What ``work`` gives here, and whether anybody's is judged true."""
        if self.alone:
            result = work()
            return result, judge(result)
        try:
            result = work()
        except LpdError as error:
            self._exchange(error, False)
            raise
        return result, self._exchange(None, judge(result))

    def _exchange(self, error: LpdError | None, flag: bool) -> bool:
        words = torch.tensor([self.world - self.rank if error else 0, int(flag)])
        _reduce(words, dist.ReduceOp.MAX)
        failed, anyone = words.tolist()
        if failed:
            first = self._told(error, self.world - failed)
            assert first is not None
            raise first
        return bool(anyone)

    def _told(self, said: T, source: int) -> T:
        """What process ``source`` says."""
        box = [said]
        with _hearing():
            dist.broadcast_object_list(box, src=source, device=torch.device("cpu"))
        return box[0]


class SharedObjective:
    """Calls an objective so that going backward from its loss leaves every process with the whole batch's gradient.

    L_cls and L_div are means over images: by their shares, the parts add up to what one process computes (but for
    rounding). L_sim does not quite: each process chooses its pairs, up to ``pair_cap``, among the tiles of its part.
    """

    def __init__(self, objective: Objective, team: Team) -> None:
        self._objective, self._team = objective, team
        self._ours = _WeighedLoss(objective)
        self._reducing: nn.Module | None = None
        self._joined = False

    def __call__(self, images: Tensor, labels: Tensor, *, joined: bool, share: float) -> tuple[Tensor, Losses]:
        """What to go backward from, and the losses of this process's part.

        Args:
            images: (B', 3, H, W) network input, the tiles of the part.
            labels: (B', C).
            joined: whether L_sim and L_div count in this step.
            share: of the part in the batch.
        """
        if self._team.alone:
            losses: Losses = self._objective(images, labels, joined=joined)
            return losses.total, losses
        if self._reducing is None or joined != self._joined:
            self._reducing, self._joined = self._wrapped(), joined
        # torch takes the mean of the processes' gradients, where shares ask for the sum.
        loss: Tensor = self._reducing(images, labels, share * self._team.world, joined=joined)
        assert self._ours.losses is not None
        return loss, self._ours.losses

    def _wrapped(self) -> nn.Module:
        # What takes part is the same in every step until L_sim and L_div join, so it is looked for once (static_graph)
        # and not in every step (find_unused_parameters). What takes no part keeps no gradient, as in one process.
        self._reducing = None
        device = self._objective.network.device
        ids = [device.index] if device.type == "cuda" else None
        return DistributedDataParallel(self._ours, device_ids=ids, static_graph=True)


class FollowerRun(Run):
    """The run of a process that does not lead: it hears signals, and neither locks nor writes anything."""

    def stop_requested(self) -> bool:
        """True after a signal; what lies in the folder is for the leader to see."""
        return self._stop.is_set()

    def _take_folder(self) -> None:
        pass

    def _write(self) -> None:
        pass


class _WeighedLoss(nn.Module):
    """Gives the loss as a plain tensor: with ``static_graph`` torch reduces nothing if it finds none in the output."""

    def __init__(self, objective: Objective) -> None:
        super().__init__()
        self.objective = objective
        self.losses: Losses | None = None

    def forward(self, images: Tensor, labels: Tensor, weight: float, *, joined: bool) -> Tensor:
        losses: Losses = self.objective(images, labels, joined=joined)
        self.losses = losses
        return losses.total * weight


def _nothing() -> Any:
    return None


def _reduce(values: Tensor, operation: Any) -> None:
    with _hearing():
        dist.all_reduce(values, op=operation)


@contextmanager
def _hearing() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise RunError(
            "another process of this training ended early: see what it says, then go on with --resume"
        ) from error

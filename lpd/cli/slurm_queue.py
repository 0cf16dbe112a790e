"""SlurmQueue: what Slurm says of a person's jobs; asked of its controller, as not every cluster keeps accounts."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from contextlib import suppress

#: States of jobs that nothing more becomes of, unless Slurm brings them back.
OVER = frozenset(
    {
        *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED"),
        *("NODE_FAIL", "OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
    }
)
#: A controller that is busy answers late; one that is away is asked again.
_ANSWER_S = 60.0


class SlurmQueue:
    """States of jobs as of the last look."""

    def __init__(self) -> None:
        self._states: dict[str, str] = {}
        self._looked = float("-inf")

    def look(self, at_most_every_s: float) -> None:
        """Ask about all jobs at once, unless that has been done a moment ago."""
        if time.monotonic() - self._looked < at_most_every_s:
            return
        answer = _said("squeue", "--me", "--array", "--states=all", "--noheader", "--format=%i %T")
        self._looked = time.monotonic()
        if answer is None:
            return  # nothing is known: jobs are as they were
        found = dict(line.split()[:2] for line in answer.splitlines() if len(line.split()) >= 2)
        # Slurm forgets a job some minutes after its end; one that it has not heard of yet is not forgotten.
        gone = {job: state if state in OVER else "FORGOTTEN" for job, state in self._states.items() if job not in found}
        self._states = {**gone, **found}

    def state(self, job: str) -> str:
        """As Slurm names it; ``UNKNOWN`` if it was never heard of."""
        return self._states.get(str(job), "UNKNOWN")

    def is_over(self, job: str) -> bool:
        """True if nothing more becomes of the job, as far as Slurm says."""
        return self.state(job) in OVER or self.state(job) == "FORGOTTEN"

    def cancel_those_that_wait(self, jobs: Sequence[str]) -> None:
        """Cancel jobs that have not begun."""
        if jobs:
            _said("scancel", "--state=PENDING", *jobs)


def _said(*command: str) -> str | None:
    with suppress(OSError, subprocess.SubprocessError):
        return subprocess.run(command, capture_output=True, text=True, timeout=_ANSWER_S, check=True).stdout
    return None

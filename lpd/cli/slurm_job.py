"""Job: what one job of Slurm does with the slide that it was submitted for."""

from __future__ import annotations

import signal
import threading
from dataclasses import replace

from lpd.cli.elsewhere import Answer, Order, Work, answer_to, wait_until_free
from lpd.cli.segmenting import Outcome, Segmenter
from lpd.runs import asked_to_stop


def segment_job(order: Order, work: Work) -> Answer:
    """Segment one slide, in a job; the signal before its time is up makes it save and stop."""
    signalled = threading.Event()

    def stop(*_: object) -> None:
        signalled.set()
        signal.raise_signal(signal.SIGTERM)  # which a run, once there is one, understands

    signal.signal(signal.SIGUSR2, stop)

    def segment() -> Outcome:
        segmenter = Segmenter(order.args, quiet=True)
        wait_until_free(work.folder)
        if signalled.is_set():
            raise KeyboardInterrupt
        return segmenter.segment(work.slide, work.folder, again=work.again)

    answer = answer_to(order, work, segment)
    interrupted = answer.outcome.state == "stopped" and not asked_to_stop(work.folder)
    return replace(answer, interrupted=interrupted)

"""Errors of the web room: what a request can ask for in vain."""

from __future__ import annotations

from lpd.errors import LpdError


class NotFoundError(LpdError):
    """An id, tile or file that the request names does not exist."""


class NotAllowedError(LpdError):
    """What the request wants is up to somebody else."""


class PreparingError(LpdError):
    """What the request names is being made ready: ask again in a second. ``done`` is how much is, 0–1."""

    def __init__(self, message: str, done: float) -> None:
        super().__init__(message)
        self.done = done


class NotReadyError(LpdError):
    """What the request names will exist later, for example the mask of a run that has just started."""

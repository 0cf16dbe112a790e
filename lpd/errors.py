"""Named errors: each message is one sentence that names the thing, the value and the cure."""

from __future__ import annotations


class LpdError(Exception):
    """Base of every error a user can cause or cure; its text is shown as it stands."""


class ConfigError(LpdError):
    """A setting is out of range, unknown or contradicts another one."""


class SlideError(LpdError):
    """A slide cannot be opened or read."""


class MissingMppError(SlideError):
    """A slide has no usable resolution and none was given."""


class CheckpointError(LpdError):
    """A checkpoint file is missing, truncated, foreign or of another version."""


class DatasetError(LpdError):
    """A tile set is missing files, has contradicting labels or unreadable images."""


class ShapeError(LpdError, ValueError):
    """An array or tensor does not have the shape that the function documents."""


class ResultError(LpdError):
    """A result folder or store is missing, foreign or cannot be written."""


class OutdatedError(LpdError):
    """What a request was made from has been changed meanwhile by somebody else."""


class RunError(LpdError):
    """A run folder is in use, unreadable or cannot be written."""

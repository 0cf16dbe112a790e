"""The public sample slide, fetched when a person asks for it, and believed by its checksum alone."""

from __future__ import annotations

import hashlib
import http.client
import time
import urllib.request
from pathlib import Path

from lpd.errors import LpdError
from viewers.arriving import Arrival
from viewers.options import Sample

_SILENCE_S = 15.0
_PATIENCE_S = 120.0
_PART_BYTES = 64 * 1024


def fetch_sample(sample: Sample, arrival: Arrival, folder: Path) -> None:
    """Read the slide from its public address; takes some seconds.

    Raises:
        LpdError: the address does not answer, or with something else; what to do instead is said.
    """
    instead = f"copy {sample.name} from another computer, or a slide of your own, into {folder}"
    found, size, deadline = hashlib.sha256(), 0, time.monotonic() + _PATIENCE_S
    try:
        with urllib.request.urlopen(sample.url, timeout=_SILENCE_S) as answer:
            while part := answer.read(_PART_BYTES):
                found.update(part)
                size += len(part)
                if size > sample.size:
                    break
                if time.monotonic() > deadline:
                    raise TimeoutError("it is too slow")
                _write(arrival, part)
    except (OSError, http.client.HTTPException) as error:
        raise LpdError(
            f"the sample slide cannot be fetched from {sample.host} ({_reason(error)}): {instead}"
        ) from error
    if (size, found.hexdigest()) != (sample.size, sample.sha256):
        raise LpdError(f"{sample.host} sent something else than the sample slide, which was thrown away: {instead}")


def _write(arrival: Arrival, part: bytes) -> None:
    try:
        arrival.write(part)
    except OSError as error:  # of the disk, and not to be taken for one of the network
        raise LpdError(f"the disk of the slides folder cannot take the sample slide ({error.strerror})") from error


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    code = getattr(error, "code", None)
    if code is not None:
        return f"it answers {code}"
    return str(getattr(inner, "strerror", None) or inner) or type(error).__name__

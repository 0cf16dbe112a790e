"""Options: what the flags allow people to do with the slides folder, and what they are shown of a slide."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from lpd.errors import LpdError

GIGABYTE = 10**9
_LARGEST_GB = 10_000


@dataclass(frozen=True)
class Sample:
    """A public slide that may be fetched, known by its checksum."""

    url: str
    name: str
    size: int
    sha256: str

    @property
    def host(self) -> str:
        """Where it comes from, for people."""
        return urlsplit(self.url).hostname or ""


#: OpenSlide's own test data, CC0; size and checksum as its index publishes them.
CMU_1 = Sample(
    "https://openslide.cs.cmu.edu/download/openslide-testdata/Aperio/CMU-1-Small-Region.svs",
    "CMU-1-Small-Region.svs",
    1_938_955,
    "ed92d5a9f2e86df67640d6f92ce3e231419ce127131697fbbce42ad5e002c8a7",
)


@dataclass(frozen=True)
class Options:
    """``max_upload`` is in bytes, 0 where nobody may upload; ``hide_labels`` keeps label and macro pictures back."""

    max_upload: int = 0
    hide_labels: bool = False
    sample: Sample = field(default=CMU_1)


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Flags about slides."""
    parser.add_argument("--allow-upload", action="store_true", help="let people put slides into the folder by the page")
    parser.add_argument(
        "--max-upload-gb", metavar="GB", type=float, help="size of the largest slide that may be uploaded (default: 10)"
    )
    parser.add_argument(
        "--hide-labels",
        action="store_true",
        help="keep back label and macro pictures and barcodes, which may identify patients",
    )


def read_options(args: argparse.Namespace) -> Options:
    """What the flags of :func:`add_flags` come to.

    Raises:
        LpdError: a size that cannot be meant, or one without ``--allow-upload``.
    """
    gigabytes = args.max_upload_gb
    if gigabytes is not None and not args.allow_upload:
        raise LpdError("--max-upload-gb means nothing without --allow-upload: add that, or leave this out")
    if gigabytes is not None and not 0 < gigabytes <= _LARGEST_GB:
        raise LpdError(f"--max-upload-gb {gigabytes:g} is no size of a slide: say a number up to {_LARGEST_GB}")
    size = int((10 if gigabytes is None else gigabytes) * GIGABYTE) if args.allow_upload else 0
    return Options(max_upload=size, hide_labels=args.hide_labels)

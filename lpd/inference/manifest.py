"""Manifest: what was done to which slide, with which model, settings and versions, for whoever finds the result."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import lpd
from lpd.inference.manifest_file import MANIFEST_NAME
from lpd.inference.pipeline import SegmentSummary
from lpd.inference.store import ResultStore
from lpd.runs import write_json_atomically
from lpd.slide.slide import Slide

_KEPT = ("state", "arguments", "settings", "summary", "versions")
_PACKAGES = (
    "torch",
    "timm",
    "openvino",
    "numpy",
    "openslide-python",
    "openslide-bin",
    "zarr",
    "tifffile",
    "simplejpeg",
)


def write_manifest(
    folder: Path,
    slide: Slide,
    store: ResultStore,
    summary: SegmentSummary,
    arguments: Mapping[str, Any],
    earlier: Sequence[Mapping[str, Any]] = (),
) -> Path:
    """Write ``manifest.json`` into a result folder.

    ``parts`` says which places were asked for and when each began and ended, ``revision`` which state of the store the
    files beside it are of.

    Args:
        folder: the result folder; names of the files in it are listed.
        slide: that was segmented.
        store: the result.
        summary: how it went.
        arguments: what the person asked for, as plain JSON values.
        earlier: what manifests of the runs for earlier parts said, see :func:`earlier_runs`.

    Raises:
        RunError: the folder cannot be written.
    """
    path, meta, maps = folder / MANIFEST_NAME, store.meta, store.prototypes
    document = {
        "state": "cancelled" if summary.cancelled else "done",
        "created": meta.created,
        "arguments": dict(arguments),
        "slide": _describe_slide(slide),
        "checkpoint": {"name": meta.checkpoint_name, "digest": meta.checkpoint_digest, "notice": meta.notice},
        "mask_mpp": meta.mask_mpp,
        "level0_px_per_mask_px": meta.scale,
        "settings": dict(meta.settings),
        "prototype_maps": maps.maps.to_dict() if maps else None,
        "summary": summary.to_dict(),
        "parts": [part.to_dict() for part in meta.parts],
        "revision": store.changes().revision,
        "earlier": list(earlier),
        "versions": library_versions(),
        "files": sorted(p.name for p in folder.iterdir() if not p.name.startswith(".") and p.suffix != ".lock"),
    }
    write_json_atomically(path, document)
    return path


def earlier_runs(manifest: Mapping[str, Any], parts: int) -> list[dict[str, Any]]:
    """What the next manifest of a result keeps of the one before, if a run has added a part to it since.

    Args:
        manifest: the one before; empty if there is none.
        parts: of the result now.
    """
    if not manifest:
        return []
    earlier = list(manifest.get("earlier", []))
    if parts > len(manifest.get("parts", [None])):
        earlier.append({name: manifest.get(name) for name in _KEPT})
    return earlier


def library_versions() -> dict[str, str]:
    """Versions of lpd, Python and the libraries that a mask depends on; those not installed are left out."""
    versions = {"lpd": lpd.__version__, "python": platform.python_version()}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return versions


def _describe_slide(slide: Slide) -> dict[str, Any]:
    return {
        "path": str(slide.path.resolve()),
        "name": slide.name,
        "fingerprint": slide.fingerprint,
        "vendor": slide.vendor,
        "width_l0": slide.width_l0,
        "height_l0": slide.height_l0,
        "mpp": slide.mpp.value if slide.mpp else None,
        "mpp_origin": slide.mpp.origin if slide.mpp else None,
    }

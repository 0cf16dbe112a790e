"""Manifest: what was done to which slide, with which model, settings and versions, for whoever finds the result."""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

import lpd
from lpd.inference.meta import ResultMeta
from lpd.inference.pipeline import SegmentSummary
from lpd.inference.prototype_store import PrototypeStore
from lpd.inference.store import STORE_NAME
from lpd.runs import write_json_atomically
from lpd.slide.slide import Slide

MANIFEST_NAME = "manifest.json"
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
    folder: Path, slide: Slide, meta: ResultMeta, summary: SegmentSummary, arguments: Mapping[str, Any]
) -> Path:
    """Write ``manifest.json`` into a result folder.

    Args:
        folder: the result folder; names of the files in it are listed.
        slide: that was segmented.
        meta: of the result.
        summary: how it went.
        arguments: what the person asked for, as plain JSON values.

    Raises:
        RunError: the folder cannot be written.
        ResultError: the result should have maps of prototypes, and they are gone.
    """
    path, has_maps = folder / MANIFEST_NAME, meta.settings.get("prototype_maps", False)
    document = {
        "state": "cancelled" if summary.cancelled else "done",
        "created": meta.created,
        "arguments": dict(arguments),
        "slide": _describe_slide(slide),
        "checkpoint": {"name": meta.checkpoint_name, "digest": meta.checkpoint_digest, "notice": meta.notice},
        "mask_mpp": meta.mask_mpp,
        "level0_px_per_mask_px": meta.scale,
        "settings": dict(meta.settings),
        "prototype_maps": PrototypeStore(folder / STORE_NAME).maps.to_dict() if has_maps else None,
        "summary": summary.to_dict(),
        "versions": library_versions(),
        "files": sorted(p.name for p in folder.iterdir() if not p.name.startswith(".") and p.suffix != ".lock"),
    }
    write_json_atomically(path, document)
    return path


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

"""What a manifest says, for those who only read it: needs neither torch nor the slide."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

MANIFEST_NAME = "manifest.json"


def read_manifest(folder: Path) -> dict[str, Any]:
    """What the last run wrote into a result folder; empty if none got so far, or if it cannot be read."""
    try:
        found = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}

"""The room of settings: no torch in it, and the same numbers as the losses that they set."""

from __future__ import annotations

import subprocess
import sys

from lpd.losses.pairs import THRESHOLD
from lpd.losses.similarity import TEMPERATURE
from lpd.recipe.losses import SimilarityOptions


def test_settings_need_no_torch():
    names = "config, losses, presets, run_files, settings_file"
    code = f"import sys; from lpd.recipe import {names}; sys.exit('torch' in sys.modules or 'timm' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_similarity_loss_starts_with_the_numbers_of_the_paper():
    assert (SimilarityOptions().threshold, SimilarityOptions().temperature) == (THRESHOLD, TEMPERATURE)

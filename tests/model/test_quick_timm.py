"""A network is loaded and run without PyTorch's compiler, which is there as ever for whoever asks for it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lpd.model.encoders import build_encoder
from lpd.model.quick_timm import unfilled

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = """
import sys
from pathlib import Path
import numpy as np
import torch
from lpd.inference.backend import load_backend
backend = load_backend(Path(sys.argv[1]), "cpu")
backend.logits(np.zeros((1, 224, 224, 3), np.uint8))
assert "torch._dynamo" not in sys.modules, "the compiler was imported"
assert torch.compiler.disable.__module__ == "torch.compiler"
from torchvision.ops.roi_align import is_compile_supported
assert isinstance(is_compile_supported("cpu"), bool)
import torch._dynamo.utils
assert torch._dynamo.utils.__file__ and torch._dynamo.utils.is_compile_supported is not is_compile_supported
"""


def test_the_compiler_is_imported_by_who_asks_for_it() -> None:
    (checkpoint,) = (ROOT / "checkpoints").glob("luad224-learnable-*.safetensors")
    done = subprocess.run([sys.executable, "-c", PROGRAM, checkpoint], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("name", "expected"),
    [("mobilenetv2_050", True), ("resnet18", True), ("mit_b0", True), ("vit_tiny_patch16_224", False)],
)
def test_which_encoders_need_not_be_tried(name: str, expected: bool) -> None:
    with torch.device("meta"), unfilled():
        encoder = build_encoder(name, maps=1)
        assert encoder.works_by_place is expected
    own = build_encoder(name, maps=1).state_dict()
    assert {key: value.shape for key, value in encoder.state_dict().items()} == {k: v.shape for k, v in own.items()}

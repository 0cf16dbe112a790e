"""Run by the interpreter of a peer's own environment: one slide by TIAToolbox, what it took as JSON on the last line.

``python -m benchmarks.engine.peer_process SLIDE CHECKPOINT {network,nothing} FOLDER``, from the project's root; the
environment has TIAToolbox, and torch, timm and safetensors as this project pins them.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import zarr
from tiatoolbox import __version__
from tiatoolbox.models.engine.io_config import IOSegmentorConfig
from tiatoolbox.models.engine.semantic_segmentor import SemanticSegmentor
from tiatoolbox.models.models_abc import ModelABC
from torch import Tensor
from torch.nn import functional

from benchmarks.engine.overhead import peak_mb
from benchmarks.engine.stand_in import StandIn
from lpd.inference.backend import Backend, load_backend
from lpd.model.header import read_info


class _Model(ModelABC):  # type: ignore[misc]  # the peer is not there when types are checked
    """The very backend of this project, asked tile by tile; class probabilities, as the peer wants them."""

    def __init__(self, backend: Backend) -> None:
        super().__init__()
        self.backend = backend

    def forward(self, tiles: Tensor) -> Tensor:
        """Class probabilities (B, C, h, w) of (B, h, w, 3) uint8 tiles."""
        logits = self.backend.logits(tiles.numpy().astype(np.uint8, copy=False))[0]
        scores = functional.softmax(logits, dim=1)
        return functional.interpolate(scores, tiles.shape[1:3], mode="bilinear", align_corners=False)

    @staticmethod
    def postproc(image: Any) -> Any:
        """Class by pixel, from probabilities with the classes last."""
        return image.argmax(axis=-1)

    @staticmethod
    def infer_batch(model: Any, batch_data: Tensor, *, device: str) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            return model(batch_data).permute(0, 2, 3, 1).numpy()  # type: ignore[no-any-return]


def main() -> None:
    """Segment, and print what it took beyond what was there when the model was loaded."""
    slide, checkpoint, kind, folder = (*map(Path, sys.argv[1:3]), sys.argv[3], Path(sys.argv[4]))
    torch.set_num_threads(1)
    info = read_info(checkpoint)
    backend = load_backend(checkpoint, "cpu") if kind == "network" else StandIn(info)
    tile, resolution = (info.input.tile_px,) * 2, [{"units": "mpp", "resolution": info.input.mpp}]
    layout = IOSegmentorConfig(
        patch_input_shape=tile,
        patch_output_shape=tile,
        stride_shape=(info.input.tile_px * 3 // 7,) * 2,
        input_resolutions=resolution,
        output_resolutions=resolution,
        save_resolution=resolution[0],
    )
    engine = SemanticSegmentor(model=_Model(backend), batch_size=16, num_workers=0, device="cpu", verbose=False)
    before, cpu_s = peak_mb(), time.process_time()
    out = engine.run(
        [slide], patch_mode=False, ioconfig=layout, save_dir=folder / "out", output_type="zarr", auto_get_mask=False
    )
    took = {"cpu_s": time.process_time() - cpu_s, "mb": peak_mb() - before}
    tiles = zarr.open_array(out[slide], path="coordinates", mode="r").shape[0]
    print(json.dumps({**took, "tiles": tiles, "note": __version__}))


if __name__ == "__main__":
    main()

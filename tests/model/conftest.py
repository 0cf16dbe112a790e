"""A network small enough to build and run in milliseconds, and its description."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from lpd.classes import BCSS
from lpd.config import Calibration, InputSpec, ModelConfig
from lpd.model.header import CheckpointInfo
from lpd.model.network import LPDNet

TINY_MIT = (("depths", (1, 2, 1, 1)), ("embed_dims", (8, 16, 20, 32)), ("drop_path_rate", 0.0))


@pytest.fixture(scope="session")
def tiny_config() -> ModelConfig:
    return ModelConfig("mit_b0", class_count=4, prototypes_per_class=3, prototype_dim=16, timm_options=TINY_MIT)


@pytest.fixture
def tiny_network(tiny_config: ModelConfig) -> LPDNet:
    torch.manual_seed(3)
    return LPDNet(tiny_config).eval()


@pytest.fixture
def tiny_info(tiny_config: ModelConfig, tmp_path: Path) -> CheckpointInfo:
    calibration = Calibration(
        fusion_weights=(0.2, 0.3, 0.5),
        pixel_gain=(1.0, 2.0, 3.0, 4.0),
        pixel_bias=(0.1, 0.2, 0.3, 0.4),
        gate_gain=(5.0, 6.0, 7.0, 8.0),
        gate_bias=(0.5, 0.6, 0.7, 0.8),
    )
    return CheckpointInfo(
        path=tmp_path / "tiny.safetensors",
        classes=BCSS,
        input=InputSpec(mpp=0.5, tile_px=64, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.4)),
        model=tiny_config,
        calibration=calibration,
        prototype_source="kmeans_init",
        notice="für Tests — not for diagnosis",
        scores={"valid": {"protocol": "predicted gate", "miou": 0.25, "per_class": {"TUM": None}}},
        training={"run": "r1", "data": "sha256:0"},
    )

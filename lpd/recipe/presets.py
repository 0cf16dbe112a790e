"""Named starting points for trainings; each changes only what it says."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any


@dataclass(frozen=True)
class Preset:
    """Part of the settings of a training, and in one line what it is for."""

    purpose: str
    values: Mapping[str, Any]


_MIT_B1 = {"name": "mit_b1", "frozen": []}
_BCSS_OPTIMIZER = {"epochs": 8, "batch_size": 10, "learning_rate": 5e-5, "weight_decay": 1e-3}

#: By name. ``encoder.weights`` is never part of one: nothing is trained from random weights unless somebody says so.
PRESETS: Mapping[str, Preset] = MappingProxyType(
    {
        "default": Preset("the corrected method; name an encoder", {}),
        "bcss": Preset(
            "the paper's hyper-parameters on BCSS-WSSS with MiT-B1, corrected losses, L_sim by the encoder itself",
            {
                "encoder": _MIT_B1,
                "losses": {"start": 3000, "similarity": {"tower": "own"}},
                "optimizer": {**_BCSS_OPTIMIZER, "ema_decay": 0.999},
            },
        ),
        "paper_code": Preset(
            "what the authors' code does, faults included, for comparison; needs a tower's weights or "
            "losses.similarity.random=true",
            {
                "encoder": {**_MIT_B1, "freeze_norm": False},
                "prototypes": {"init_std": 1.0},
                "losses": {
                    "start": 3000,
                    "similarity": {
                        "tower": "timm",
                        "name": "swin_tiny_patch4_window7_224",
                        "pair_cap": 0,
                        "exclude_same_class": False,
                        "joint_threshold": True,
                    },
                    "diversity": {"variant": "official"},
                },
                "optimizer": {
                    **_BCSS_OPTIMIZER,
                    "prototype_factor": 1.0,
                    "prototype_decay": 1e-3,
                    "gradient_clip": 0.0,
                    "ema_decay": 0.0,
                },
                "augment": {"stain": 0.0, "brightness": 0.0},
                "loop": {"precision": "fp32"},
            },
        ),
        "cpu": Preset(
            "hundreds of tiles in minutes on a CPU: MobileNetV2 with its first layers as loaded",
            {
                "encoder": {
                    "name": "mobilenetv2_100",
                    "options": {"pad_type": "same"},
                    "mean": [0.5, 0.5, 0.5],
                    "std": [0.5, 0.5, 0.5],
                    "frozen": ["conv_stem", "bn1", "blocks.0", "blocks.1"],
                },
            },
        ),
        "tiny": Preset(
            "a MiT-B0 without weights, to see the whole way work on the phantom",
            {
                "encoder": {"name": "mit_b0"},
                "optimizer": {"epochs": 3, "batch_size": 6, "learning_rate": 1e-3},
            },
        ),
    }
)

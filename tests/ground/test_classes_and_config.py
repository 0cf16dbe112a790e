"""Class schemes and settings: round trips, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest

from lpd.classes import BCSS, NOT_COMPUTED, ClassScheme, TissueClass
from lpd.config import Calibration, InputSpec, ModelConfig
from lpd.errors import ConfigError


def test_bcss_follows_the_fields_order_and_palette():
    assert BCSS.codes == ("TUM", "STR", "LYM", "NEC")
    assert BCSS.background == 4
    expected = [(255, 0, 0), (0, 255, 0), (0, 0, 255), (153, 0, 255), (255, 255, 255)]
    np.testing.assert_array_equal(BCSS.palette(), np.array(expected, np.uint8))


def test_scheme_survives_json():
    assert ClassScheme.from_dict(json.loads(json.dumps(BCSS.to_dict()))) == BCSS


def test_background_never_reaches_the_not_computed_value():
    many = tuple(TissueClass(f"C{i}", f"Class {i}", (0, 0, 0)) for i in range(NOT_COMPUTED))
    with pytest.raises(ConfigError, match="254"):
        ClassScheme(many)
    assert ClassScheme(many[:-1]).background == NOT_COMPUTED - 1


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ({"code": "A", "name": "a"}, "color"),
        ({"code": "A", "name": "a", "color": [1, 2]}, "malformed"),
        ({"code": "A", "name": "a", "color": [1, 2, 256]}, "256"),
        ({"code": "", "name": "a", "color": [1, 2, 3]}, "code"),
        (3, "malformed"),
    ],
)
def test_malformed_class_is_named(entry, said):
    with pytest.raises(ConfigError, match=said):
        ClassScheme.from_dict({"classes": [entry]})


def test_doubled_code_is_refused():
    with pytest.raises(ConfigError, match="differ"):
        ClassScheme((TissueClass("A", "a", (0, 0, 0)), TissueClass("A", "b", (0, 0, 0))))


@pytest.mark.parametrize(
    "settings",
    [
        InputSpec(mpp=0.5, tile_px=448),
        ModelConfig("mit_b0", 4, timm_options=(("pad_type", "same"),)),
        Calibration((0.0, 0.5, 0.5), (1.0, 2.0), (0.0, 0.0), (1.0, 1.0), (0.1, -0.1)),
    ],
)
def test_settings_survive_json(settings):
    assert type(settings).from_dict(json.loads(json.dumps(settings.to_dict()))) == settings


def test_unknown_and_missing_settings_are_named():
    with pytest.raises(ConfigError, match="tile_size"):
        InputSpec.from_dict({"mpp": 1.0, "tile_size": 224})
    with pytest.raises(ConfigError, match="mpp"):
        InputSpec.from_dict({})


@pytest.mark.parametrize("wrong", [{"mpp": 0.0}, {"mpp": 1.0, "tile_px": 100}, {"mpp": 1.0, "std": (1.0, 0.0, 1.0)}])
def test_impossible_input_is_refused(wrong):
    with pytest.raises(ConfigError):
        InputSpec(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [{"class_count": 0}, {"prototypes_per_class": 0}, {"scales": (3, 1), "scale_weights": (1.0, 1.0)}, {"scales": ()}],
)
def test_impossible_model_is_refused(wrong):
    with pytest.raises(ConfigError):
        ModelConfig(**{"encoder": "mit_b0", "class_count": 4, **wrong})

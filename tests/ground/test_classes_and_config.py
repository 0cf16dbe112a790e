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
        ({"code": "A", "name": "a", "color": "123"}, "'123' is not a list of three whole numbers"),
        ({"code": "A", "name": "a", "color": [1, 2, 2.7]}, "three whole numbers"),
        ({"code": "", "name": "a", "color": [1, 2, 3]}, "code"),
        ({"code": " ", "name": "a", "color": [1, 2, 3]}, "needs both a code and a name"),
        ({"code": "A", "name": "\t", "color": [1, 2, 3]}, "needs both a code and a name"),
        ({"code": "Background", "name": "a", "color": [1, 2, 3]}, "choose another code"),
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


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"mpp": 0.0}, "between 0.01 and 100"),
        ({"mpp": True}, "mpp True must be a finite number"),
        ({"mpp": NAN}, "mpp nan"),
        ({"mpp": 10**400}, "finite"),
        ({"tile_px": 100}, "multiple of 32 from 32 to 4096: cut the tiles"),
        ({"tile_px": 32_000}, "32000 px is not"),
        ({"tile_px": 64.0}, "tile_px 64.0 must be a whole number"),
        ({"std": (1.0, 0.0, 1.0)}, "0.001 to 1"),
        ({"std": (1.0, INF, 1.0)}, "inf"),
        ({"mean": (1.0, NAN, 1.0)}, "nan"),
        ({"mean": (127, 127, 127)}, "divide 8-bit values by 255"),
        ({"mean": ("a", "b", "c")}, "mean .*'a', 'b', 'c'"),
        ({"mean": (0.5, 0.5)}, "must be a list of 3, each a finite number"),
    ],
)
def test_impossible_input_is_refused(wrong, said):
    wrong = {"mpp": 1.0, **wrong}
    with pytest.raises(ConfigError, match=said):
        InputSpec(**wrong)
    with pytest.raises(ConfigError, match=said):
        InputSpec.from_dict(wrong)


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"class_count": 0}, "1 to 254"),
        ({"class_count": 255}, "1 to 254"),
        ({"prototypes_per_class": 0}, "1 to 100"),
        ({"prototypes_per_class": 3.0}, "must be a whole number"),
        ({"prototypes_per_class": 101}, "1 to 100"),
        ({"prototype_dim": 10**13}, "1 to 8192"),
        ({"prototype_dim": 2**70}, "must be a whole number"),
        ({"prototype_dim": 1e13}, "must be a whole number"),
        ({"encoder": 5}, "encoder 5 must be text"),
        ({"encoder": ("a",)}, "must be text"),
        ({"scales": (3, 1), "scale_weights": (1.0, 1.0)}, "rising"),
        ({"scales": ()}, "pair up"),
        ({"scale_weights": (1.0, -1.0, 1.0)}, "negative"),
        ({"scale_weights": (1.0, NAN, 1.0)}, "finite"),
        ({"init_temperature": NAN}, "finite"),
        ({"init_temperature": 1e-300}, "0.001 to 1000"),
        ({"timm_options": (("a", 1, 2),)}, "timm_options"),
    ],
)
def test_impossible_model_is_refused(wrong, said):
    with pytest.raises(ConfigError, match=said):
        ModelConfig(**{"encoder": "mit_b0", "class_count": 4, **wrong})


@pytest.mark.parametrize("name", ["pixel_gain", "gate_gain", "pixel_bias", "gate_bias", "fusion_weights"])
@pytest.mark.parametrize("wrong", [NAN, INF, "a", True, -1.0])
def test_impossible_calibration_is_refused(name, wrong):
    good = Calibration((1.0,), (1.0,), (0.0,), (1.0,), (0.0,)).to_dict()
    if wrong == -1.0 and name.endswith("bias"):
        assert Calibration.from_dict({**good, name: [wrong]})
    else:
        with pytest.raises(ConfigError, match=name):
            Calibration.from_dict({**good, name: [wrong]})


def test_whole_numbers_may_stand_for_floats():
    assert InputSpec.from_dict({"mpp": 1, "mean": [0, 0, 0]}) == InputSpec(mpp=1.0, mean=(0.0, 0.0, 0.0))

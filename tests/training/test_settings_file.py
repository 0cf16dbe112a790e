"""Settings from presets, YAML and overrides: what wins, what is refused, and that nothing is lost on the way."""

from __future__ import annotations

import pytest

from lpd.errors import ConfigError
from lpd.recipe.presets import PRESETS
from lpd.recipe.settings_file import changed, read_config, to_yaml

NAMED = ("encoder.name=mit_b0", "encoder.weights=none")
#: What a preset needs said on top of it.
SAID = {
    "default": NAMED,
    "bcss": ("encoder.weights=mit_b1.pth",),
    "paper_code": ("encoder.weights=mit_b1.pth", "losses.similarity.random=true"),
    "cpu": ("encoder.weights=mobilenet.safetensors",),
    "tiny": ("encoder.weights=none",),
}


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_is_complete_but_for_what_it_asks_for(preset):
    config = read_config(preset, overrides=SAID[preset])
    with pytest.raises(ConfigError, match="encoder"):
        read_config(preset)
    assert read_config(overrides=SAID["default"]) != config or preset == "default"


def test_presets_are_what_their_names_promise():
    bcss = read_config("bcss", overrides=SAID["bcss"])
    assert (bcss.optimizer.learning_rate, bcss.optimizer.weight_decay) == (5e-5, 1e-3)
    assert (bcss.optimizer.batch_size, bcss.optimizer.epochs, bcss.losses.start) == (10, 8, 3000)
    assert (bcss.losses.similarity.weight, bcss.losses.diversity.weight) == (0.1, 0.5)
    assert (bcss.cam.loss_weights, bcss.prototypes.per_class) == ((0.1, 1.0, 1.0), 3)
    assert bcss.losses.diversity.variant == "jeffreys"
    paper = read_config("paper_code", overrides=SAID["paper_code"])
    assert paper.losses.diversity.variant == "official"
    assert paper.losses.similarity.joint_threshold
    assert not paper.losses.similarity.exclude_same_class
    assert paper.losses.similarity.pair_cap == 0
    assert paper.prototypes.init_std == 1.0
    assert (paper.optimizer.prototype_factor, paper.optimizer.prototype_decay) == (1.0, 1e-3)
    assert paper.optimizer.ema_decay == 0
    with pytest.raises(ConfigError, match="untrained tower says nothing"):
        read_config("paper_code", overrides=SAID["bcss"])


def test_overrides_win_over_the_file_and_the_file_over_the_preset(tmp_path):
    file = tmp_path / "mine.yaml"
    file.write_text("optimizer: {epochs: 3, learning_rate: 2e-4}\nencoder:\n  options: {drop_path_rate: 0.2}\n")
    config = read_config("bcss", file, ["encoder.weights=w.pth", "optimizer.epochs=2"])
    assert (config.optimizer.epochs, config.optimizer.learning_rate, config.optimizer.weight_decay) == (2, 2e-4, 1e-3)
    assert config.encoder.options == (("drop_path_rate", 0.2),)
    assert config.encoder.name == "mit_b1"


@pytest.mark.parametrize(
    ("text", "value"), [("1e-4", 1e-4), ("3E5", 3e5), (".5e-2", 5e-3), ("-0", 0), ("2", 2.0), ("0.25", 0.25)]
)
def test_numbers_are_read_as_people_write_them(text, value):
    assert read_config(overrides=[*NAMED, f"losses.diversity.weight={text}"]).losses.diversity.weight == value


@pytest.mark.parametrize("preset", PRESETS)
def test_written_settings_read_as_the_same_settings(preset, tmp_path):
    extra = ("encoder.options={pad_type: same, depths: [1, 2, 3, 4]}", "losses.similarity.options={img_size: 224}")
    config = read_config(preset, overrides=[*SAID[preset], *extra])
    (tmp_path / "config.yaml").write_text(to_yaml(config), encoding="utf-8")
    assert read_config(file=tmp_path / "config.yaml") == config


def test_changed_changes_only_what_it_is_told():
    config = read_config(overrides=NAMED)
    other = changed(config, "losses.similarity.tower=ema", "loop.seed=7")
    assert other.losses.similarity.tower == "ema"
    assert changed(other, "losses.similarity.tower=off", "loop.seed=0") == config


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("optimizer.lr=1", "no setting optimizer.lr: there are optimizer.epochs"),
        ("optimiser.epochs=1", "did you mean optimizer"),
        ("losses.diversity.wait=1", "did you mean losses.diversity.weight"),
        ("losses.diversity.weight.x=1", "weight"),
        ("losses=3", "losses is a group"),
        ("epochs", "write it as name=value"),
        ("=1", "no setting"),
        ("optimizer.epochs=two", "optimizer.epochs 'two' must be a whole number"),
        ("loop.precision=fp8", "loop.precision 'fp8' must be one of auto, fp32, bf16, fp16"),
        ("loop.seed=-1", "loop.seed -1 must lie in 0 to 4294967295"),
        ("loop.tensorboard=3", "loop.tensorboard 3 must be true or false"),
        ("losses.start=-1", "losses.start -1 must lie in 0 to 1000000000"),
        ("losses.similarity.tower=far", "losses.similarity.tower 'far' must be one of off, own, ema, timm"),
        ("losses.similarity.mean=3", "mean 3 must be a list of 3, each a finite number or null"),
        ("encoder.mean=[1,2]", "encoder.mean (1, 2) must be a list of 3, each a finite number"),
        ("cam.scales=[3,2,1]", "cam.scales (3, 2, 1) must be rising"),
        ("cam.scales=[]", "must pair up"),
        ("prototypes.per_class=0", "prototypes.per_class 0 must lie in 1 to 100"),
        ("prototypes.source=linear", "set prototypes.per_class to 1"),
        ("optimizer.epochs=[1", "not YAML"),
        ("loop.seed=2020-13-45", "not YAML"),
        ("loop.seed=0b_", "not YAML"),
        ("loop.seed=" + "7" * 5000, "not YAML"),
        ("optimizer.epochs=!!python/object/apply:os.system ['true']", "not YAML"),
    ],
)
def test_what_is_no_setting_is_named(override, named):
    with pytest.raises(ConfigError) as error:
        read_config(overrides=[*NAMED, override])
    assert named in str(error.value)
    assert "\n" not in str(error.value)


def test_an_unknown_preset_is_named():
    with pytest.raises(ConfigError, match="'fast': choose one of default, "):
        read_config("fast")


def test_when_l_sim_and_l_div_join():
    assert read_config(overrides=[*NAMED, "losses.start=0.25"]).losses.first_step(200) == 50
    assert read_config(overrides=[*NAMED, "losses.start=3000"]).losses.first_step(200) == 3000
    assert read_config(overrides=[*NAMED, "losses.start=0"]).losses.first_step(200) == 0

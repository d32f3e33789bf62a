"""The gate from untyped values to typed fields: what passes, what is refused, and in which words."""

import dataclasses
import json
from pathlib import Path

import pytest
from ml_collections import ConfigDict

from m3sr_jax.config import (
    Config,
    DataConfig,
    ModelConfig,
    TrainConfig,
    default_config,
    load_config,
)
from m3sr_jax.config.fields import SECTIONS
from m3sr_jax.config.names import BASE_FIELDS, BRANCHES
from m3sr_jax.errors import InputError
from m3sr_jax.models import M3SR, build_model


def test_an_untouched_config_dict_gives_the_defaults():
    assert Config.from_config_dict(default_config()) == Config()
    assert Config.from_config_dict({}) == Config()


def test_the_defaults_are_the_papers():
    config = Config()
    assert (config.model.num_groups, config.model.num_stages, config.model.num_blocks) == (4, 1, (1, 1, 1))
    assert (config.data.batch_size, config.data.crop_size, config.train.num_epochs) == (32, 128, 100)
    assert (config.optim.learning_rate, config.optim.final_learning_rate, config.optim.grad_clip) == (4e-4, 0.0, None)


def test_values_pass_typed():
    config = default_config()
    config.model.num_blocks = (2, 1, 2)
    config.optim.learning_rate = 1e-3
    config.train.num_steps = 7
    config.train.num_epochs = None
    typed = Config.from_config_dict(config)
    assert typed.model.num_blocks == (2, 1, 2)
    assert typed.train == TrainConfig(num_steps=7, num_epochs=None)
    whole = Config.from_config_dict({"optim": {"learning_rate": 1}, "model": {"num_blocks": [1, 2, 3]}})
    assert isinstance(whole.optim.learning_rate, float)
    assert whole.model.num_blocks == (1, 2, 3)


def test_json_round_trip():
    config = Config.from_config_dict({"model": {"branches": ["spatial"], "implementation": "xla"}, "seed": 3})
    assert Config.from_json(config.to_json()) == config
    assert json.loads(config.to_json())["model"]["branches"] == ["spatial"]


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"train": {"num_stps": 3}}, "train.num_stps: no such field; did you mean train.num_steps?"),
        ({"modle": {}}, "modle: no such field; did you mean model?"),
        ({"zzz": 1}, "zzz: no such field; known groups: model, data, optim, loss, train"),
        ({"model": 3}, "model: found 3, expected a group of fields"),
        ({"data": {"batch_size": "4"}}, 'data.batch_size: found "4", expected a whole number'),
        ({"data": {"batch_size": True}}, "data.batch_size: found true, expected a whole number"),
        ({"data": {"batch_size": 0}}, "data.batch_size: found 0, expected 1 or more"),
        ({"data": {"name": "ntire"}}, 'data.name: found "ntire", expected one of synthetic, cave'),
        ({"optim": {"learning_rate": float("nan")}}, "optim.learning_rate: found NaN, expected a finite number"),
        ({"optim": {"learning_rate": 0.0}}, "optim.learning_rate: found 0.0, expected more than 0"),
        ({"optim": {"grad_clip": 0.0}}, "optim.grad_clip: found 0.0, expected more than 0"),
        ({"model": {"name": "m4sr"}}, 'model.name: found "m4sr", expected one of m3sr, mst_plus_plus'),
        ({"model": {"num_blocks": [1, 1]}}, "model.num_blocks: found [1, 1], expected three numbers from 1 to 64"),
        ({"model": {"num_blocks": "111"}}, 'model.num_blocks: found "111", expected a list of values'),
        ({"model": {"branches": []}}, "model.branches: found [], expected one or more of spatial"),
        (
            {"model": {"branches": ["spatial", "spatial"]}},
            'model.branches: found ["spatial", "spatial"], expected one or more of',
        ),
        (
            {"model": {"implementation": "cuda"}},
            'model.implementation: found "cuda", expected unset or one of pallas_triton, ',
        ),
        (
            {"train": {"num_steps": None, "num_epochs": None}},
            "train.num_steps and train.num_epochs: both are unset; set one",
        ),
        ({"loss": {"mae": 0.0}}, "config group loss: all weights are 0, expected at least one above 0"),
        ({"loss": {"mrae": 1.0, "mrae_floor": 0.0}}, "loss.mrae_floor: found 0.0, expected more than 0"),
        ({"loss": {"sam": 1.0}}, "loss.sam: no such field"),
        ({"seed": 1.5}, "seed: found 1.5, expected a whole number"),
        ({"seed": -1}, "seed: found -1, expected 0 or more"),
    ],
)
def test_what_cannot_be_used_is_named_with_what_was_expected(values, told):
    with pytest.raises(InputError) as caught:
        Config.from_config_dict(ConfigDict(values))
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_set_number_of_steps_wins():
    assert TrainConfig(num_steps=7, num_epochs=3).total_steps(steps_per_epoch=10) == 7
    assert TrainConfig(num_epochs=3).total_steps(steps_per_epoch=10) == 30


def test_conflicts_are_the_fields_that_shape_a_run():
    one = Config.from_config_dict({"train": {"num_steps": 5}})
    other = Config.from_config_dict({"train": {"num_steps": 6, "log_every_steps": 1}, "data": {"root": "x"}, "seed": 1})
    assert other.conflicts(one) == ["seed: 0 → 1", "train.num_steps: 5 → 6"]
    assert one.conflicts(one) == []


def test_model_fields_are_the_networks():
    ours = {field.name: field.default for field in dataclasses.fields(ModelConfig)}
    theirs = {f.name: f.default for f in dataclasses.fields(M3SR) if f.name not in ("parent", "name")}
    assert ours.keys() - theirs.keys() == {"name", *BASE_FIELDS}
    plain = theirs.keys() - {"dtype", "param_dtype"}
    assert {name: ours[name] for name in plain} == {name: theirs[name] for name in plain}
    model = build_model(ModelConfig(num_groups=2, dtype="bfloat16"))
    assert isinstance(model, M3SR)
    assert (model.num_groups, str(model.dtype)) == (2, "bfloat16")


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"wavelet": "no-such-wavelet"}, "wavelet no-such-wavelet is unknown"),
        ({"name": "hrnet", "features": 8}, "hrnet has no field features"),
    ],
)
def test_what_the_network_refuses_is_bad_input(fields, told):
    with pytest.raises(InputError, match=f"config group model: .*{told}"):
        build_model(ModelConfig(**fields))


def test_every_field_can_be_overridden_by_a_flag():
    config = default_config()
    for name, section in SECTIONS.items():
        assert set(config[name]) == {field.name for field in dataclasses.fields(section)}
        for field in dataclasses.fields(section):
            assert config[name].get_type(field.name) is not type(None), field.name


@pytest.mark.parametrize("name", ["ntire2022", "ntire2020_clean", "ntire2020_real", "cave"])
def test_benchmark_configs_are_the_papers_recipe_and_its_variants(name):
    path = f"{Path(__file__).parents[2] / 'configs' / name}.py"
    config = load_config(path)
    assert dataclasses.replace(config, data=DataConfig(), train=TrainConfig()) == Config()
    assert (config.data.name, config.data.batch_size, config.data.crop_size) == (name, 32, 128)
    assert (config.train.num_epochs, config.train.num_steps) == (100, None)
    for branch in BRANCHES:
        branches = load_config(f"{path}:no_{branch}").model.branches
        assert set(branches) == set(BRANCHES) - {branch}
    for groups in (2, 8, 16):
        assert load_config(f"{path}:groups{groups}").model.num_groups == groups
    recipe = load_config(f"{path}:mstpp_recipe")
    assert (recipe.loss.mae, recipe.loss.mrae, recipe.loss.mrae_floor) == (0, 1, 1e-3)
    assert (recipe.data.batch_size, recipe.train.total_steps(1)) == (20, 300_000)
    assert (recipe.optim.learning_rate, recipe.optim.final_learning_rate) == (4e-4, 1e-6)
    both = load_config(f"{path}:groups8,mstpp_recipe")
    assert (both.model.num_groups, both.data.batch_size) == (8, 20)
    with pytest.raises(
        InputError, match=r"variant no_temporal: no such variant; expected one of no_spatial, .*groups2"
    ):
        load_config(f"{path}:no_temporal")


def test_config_files_and_what_is_wrong_with_them(tmp_path):
    path = tmp_path / "page.py"
    path.write_text("from m3sr_jax.config import default_config\ndef get_config():\n  return default_config()\n")
    assert load_config(path) == Config()
    (tmp_path / "config.json").write_text(Config(seed=4).to_json())
    assert load_config(tmp_path / "config.json") == Config(seed=4)
    broken = {
        "x = 1": "found no get_config, expected a Python file that",
        "1 / 0": "ZeroDivisionError",
        "def get_config(): return 3": "found a value of type int",
    }
    for text, told in broken.items():
        path.write_text(text)
        with pytest.raises(InputError, match=told):
            load_config(path)
    with pytest.raises(InputError, match="no such config file"):
        load_config(tmp_path / "none.py")
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(InputError, match="not valid JSON"):
        load_config(tmp_path / "config.json")

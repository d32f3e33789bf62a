"""`m3sr convert` both ways, and what it refuses."""

import dataclasses
import json
import os
from pathlib import Path

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from m3sr_jax import cli
from m3sr_jax.checkpoint import load_model, save_model
from m3sr_jax.config import ModelConfig
from m3sr_jax.convert import infer_model, params_to_release, read_release
from m3sr_jax.errors import InputError
from m3sr_jax.model_card import ModelCard
from m3sr_jax.models import build_model, parameter_shapes

SMALL = ModelConfig(num_groups=2, num_stages=2, num_blocks=(2, 1, 1), num_bands=7, features=5)
QUICK = ModelConfig(branches=("frequency",), num_stages=2, num_bands=7, features=5)


def release_of(fields: ModelConfig) -> dict[str, np.ndarray]:
    """A release state dict with random numbers, for a model of ours."""
    model = build_model(fields)
    shapes = jax.eval_shape(model.init, jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))["params"]
    generator = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: generator.standard_normal(leaf.shape).astype(np.float32), shapes)
    return params_to_release(params, model)


@pytest.fixture(scope="module")
def release(tmp_path_factory):
    path = tmp_path_factory.mktemp("release") / "small.safetensors"
    save_file(release_of(SMALL), path)
    return path


@pytest.fixture(scope="module")
def quick(tmp_path_factory):
    """A release for tests of what goes on around the conversion."""
    path = tmp_path_factory.mktemp("release") / "quick.safetensors"
    save_file(release_of(QUICK), path)
    return path


def convert(*arguments) -> int:
    return cli.main(["convert", *map(str, arguments)])


def test_there_and_back_is_exact(release, tmp_path, capsys):
    assert convert(release, tmp_path / "ours", "--rgb-normalization", "minmax", "--wavelengths", 400, 1000) == 0
    assert "num_groups 2, num_stages 2, num_blocks (2, 1, 1)" in capsys.readouterr().out
    model, _, card = load_model(tmp_path / "ours")
    assert model == build_model(SMALL)
    assert card.rgb_normalization == "minmax"
    assert card.wavelengths == (400.0, 500.0, 600.0, 700.0, 800.0, 900.0, 1000.0)
    assert card.provenance == {"converted_from": "small.safetensors", "source": str(release)}
    assert convert(tmp_path / "ours", tmp_path / "back.safetensors") == 0
    there, back = load_file(release), load_file(tmp_path / "back.safetensors")
    assert there.keys() == back.keys()
    assert all(np.array_equal(there[key], back[key]) for key in there)


def test_the_way_back_as_pth_is_what_the_release_loads(quick, tmp_path):
    torch = pytest.importorskip("torch", reason="pip install torch, for .pth files")
    assert convert(quick, tmp_path / "ours") == 0
    assert convert(tmp_path / "ours", tmp_path / "back.pth") == 0
    content = torch.load(tmp_path / "back.pth", weights_only=True)
    assert list(content) == ["state_dict"]
    back, there = read_release(tmp_path / "back.pth"), load_file(quick)
    assert all(np.array_equal(there[key], back[key]) for key in there)
    assert len(there) == len(back)


@pytest.mark.parametrize(
    "fields",
    [
        ModelConfig(),
        SMALL,
        ModelConfig(num_groups=8, num_bands=28, branches=("spatial", "spectral")),
        ModelConfig(branches=("frequency",)),
    ],
)
def test_fields_are_read_off_names_and_shapes(fields):
    assert infer_model(release_of(fields)) == fields


def test_a_release_in_float64_becomes_float32(tmp_path):
    doubles = {key: value.astype(np.float64) for key, value in release_of(QUICK).items()}
    save_file(doubles, tmp_path / "doubles.safetensors")
    assert convert(tmp_path / "doubles.safetensors", tmp_path / "ours") == 0
    assert {leaf.dtype for leaf in jax.tree.leaves(load_model(tmp_path / "ours")[1])} == {np.dtype("float32")}


def test_the_stored_release_checkpoint_converts(tmp_path):
    pytest.importorskip("torch", reason="pip install torch, for .pth files")
    parity = os.environ.get("M3SR_PARITY_DIR")
    if not parity:
        pytest.skip("set M3SR_PARITY_DIR, the folder with the release's numbers")
    assert convert(Path(parity) / "default.pth", tmp_path / "ours") == 0
    assert json.loads((tmp_path / "ours" / "model.json").read_text())["model"]["num_groups"] == 4
    assert sum(leaf.size for leaf in jax.tree.leaves(load_model(tmp_path / "ours")[1])) == 2_786_188


def test_what_cannot_be_converted_costs_one_line_and_leaves_nothing(quick, tmp_path, capsys):
    one_missing = {key: value for key, value in load_file(quick).items() if key != "body.1.mapping.weight"}
    save_file(one_missing, tmp_path / "one_missing.safetensors")
    save_file({"layer.weight": np.zeros(3, np.float32)}, tmp_path / "other.safetensors")
    (tmp_path / "broken.safetensors").write_bytes(b"not a checkpoint")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    before = sorted(tmp_path.rglob("*"))
    out = tmp_path / "ours"
    refused = {
        ("one_missing.safetensors", out): "body.1.mapping.weight",
        ("other.safetensors", out): "other.safetensors: not a release checkpoint",
        ("broken.safetensors", out): "broken.safetensors",
        ("absent.safetensors", out): "no such file",
        (quick, tmp_path / "full"): "not empty",
        (quick, out, "--wavelengths", "700", "400"): "--wavelengths 700 400: expected",
        (tmp_path / "full", tmp_path / "back.pth"): "no model.json",
        (tmp_path / "full", tmp_path / "back"): ".pth or .safetensors",
    }
    for arguments, told in refused.items():
        assert convert(*(tmp_path / a if str(a).endswith(".safetensors") else a for a in arguments)) == 2, arguments
        (line,) = capsys.readouterr().err.splitlines()
        assert told in line
    assert sorted(tmp_path.rglob("*")) == before


def test_an_output_is_replaced_only_when_asked(quick, tmp_path, capsys):
    assert convert(quick, tmp_path / "ours") == 0
    assert convert(quick, tmp_path / "ours") == 2
    assert convert(quick, tmp_path / "ours", "--overwrite", "--camera", "cie1964") == 0
    assert json.loads((tmp_path / "ours" / "model.json").read_text())["camera"] == "cie1964"
    assert convert(tmp_path / "ours", tmp_path / "back.safetensors") == 0
    assert convert(tmp_path / "ours", tmp_path / "back.safetensors") == 2
    assert "--overwrite" in capsys.readouterr().err
    assert convert(tmp_path / "ours", tmp_path / "back.safetensors", "--overwrite") == 0


@pytest.mark.parametrize("name", ["back.safetensors", "back.pth"])
def test_parameters_in_bfloat16_become_a_release_in_float32(tmp_path, name):
    if name.endswith(".pth"):
        pytest.importorskip("torch", reason="pip install torch, for .pth files")
    fields = dataclasses.replace(QUICK, param_dtype="bfloat16")
    params = jax.tree.map(lambda leaf: np.full(leaf.shape, 0.5, leaf.dtype), parameter_shapes(build_model(fields)))
    save_model(tmp_path / "half", ModelCard(fields, tuple(map(float, range(400, 701, 50)))), params)
    assert convert(tmp_path / "half", tmp_path / name) == 0
    state_dict = read_release(tmp_path / name)
    assert {value.dtype.name for value in state_dict.values()} == {"float32"}
    assert (state_dict["conv_in.weight"] == 0.5).all()


def test_a_checkpoint_of_nothing_known_is_no_release():
    with pytest.raises(InputError, match="found keys such as a, b, expected those of M3SR, MST"):
        infer_model({"a": np.zeros(1), "b": np.zeros(1)})

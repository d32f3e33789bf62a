"""What `m3sr export` writes runs without this package and gives the model's output."""

import dataclasses
import os
import runpy
import shutil
import subprocess
import sys
from functools import partial
from types import SimpleNamespace

import jax
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from quick_compilation import QUICK, QUICK_FLAGS
from safetensors import safe_open

from m3sr_jax.checkpoint import save_model
from m3sr_jax.cli import main
from m3sr_jax.config import ModelConfig
from m3sr_jax.errors import InputError
from m3sr_jax.export import export_model, export_program
from m3sr_jax.inference.predictor import load
from m3sr_jax.io.normalization import normalise_rgb
from m3sr_jax.model_card import ModelCard
from m3sr_jax.models import build_model, create, init_params, parameter_shapes

FIELDS = ModelConfig(num_groups=2, features=4, num_bands=3)
CARD = ModelCard(FIELDS, (450.0, 550.0, 650.0), "minmax")
SIZES = ((1, 16, 24), (2, 40, 32), (1, 72, 64))
# Other scans and another order of sums, in float32; as a share of the largest value.
BAR = 1e-5


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    rng = np.random.default_rng(0)
    params = jax.tree.map(
        lambda leaf: 0.2 * rng.standard_normal(leaf.shape, np.float32), parameter_shapes(build_model(FIELDS))
    )
    root = tmp_path_factory.mktemp("models")
    save_model(root / "model", CARD, params)
    assert main(["export", "--checkpoint", str(root / "model"), "--output", str(root / "exported")]) == 0
    return root


def test_the_script_gives_the_models_output_at_three_sizes_without_this_package(folders, tmp_path):
    predictor, exported = load(folders / "model"), folders / "exported"
    assert len((exported / "run.py").read_text().splitlines()) <= 20
    rng = np.random.default_rng(1)
    program = (
        "import sys; arguments = sys.argv[1:]\n"
        "for i in range(3):\n"
        "    sys.argv = [arguments[0], f'{arguments[1]}/rgb{i}.npy', f'{arguments[1]}/cube{i}' + '.npy' * (i > 0)]\n"
        "    import runpy; runpy.run_path(arguments[0])\n"
        "sys.exit('m3sr_jax' in sys.modules or 'flax' in sys.modules)"
    )
    photos = [rng.uniform(0.1, 0.8, (*size, 3)).astype(np.float32) for size in SIZES]
    for i, photo in enumerate(photos):
        np.save(tmp_path / f"rgb{i}.npy", photo)
    # -I: no PYTHONPATH, no current folder.
    command = [sys.executable, "-I", "-c", program, str(exported / "run.py"), str(tmp_path)]
    environment = os.environ | {"XLA_FLAGS": QUICK_FLAGS}
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    for i in range(3):
        assert f"wrote {tmp_path}/cube{i}.npy from codes RGB, with bands at [450.0, 550.0, 650.0] nm" in done.stdout
    plain = dataclasses.replace(predictor.model, implementation="reference")
    run = jax.jit(lambda rgb: plain.apply({"params": predictor.params}, rgb), compiler_options=QUICK)
    for i, photo in enumerate(photos):
        found = np.load(tmp_path / f"cube{i}.npy")
        expected = run(np.stack([normalise_rgb(image, "minmax") for image in photo]))
        assert np.abs(found - expected).max() <= BAR * np.abs(expected).max()


@pytest.mark.parametrize(
    ("rgb", "told"),
    [
        (None, "usage: python run.py RGB.npy CUBE.npy: float32 (B, H, W, 3) in [0, 1]"),
        ("no array", "not a readable .npy file"),
        (np.zeros((8, 8, 3), np.float32), "found float32 (8, 8, 3), expected float32 (B, H, W, 3)"),
        (np.zeros((1, 8, 9, 3), np.float32), "with H and W multiples of 8"),
        (np.zeros((1, 8, 8, 3)), "found float64 (1, 8, 8, 3)"),
    ],
)
def test_the_script_says_what_it_takes(folders, tmp_path, monkeypatch, rgb, told):
    monkeypatch.setattr("sys.argv", ["run.py", str(tmp_path / "rgb.npy"), "cube.npy"][: 1 if rgb is None else 3])
    if isinstance(rgb, str):
        (tmp_path / "rgb.npy").write_text(rgb)
    elif rgb is not None:
        np.save(tmp_path / "rgb.npy", rgb)
    with pytest.raises(SystemExit) as left:
        runpy.run_path(str(folders / "exported" / "run.py"))
    assert told in str(left.value)
    assert "\n" not in str(left.value)


def test_overwrite_replaces_an_exported_program_alone(folders, tmp_path, monkeypatch):
    model = load(folders / "model")
    shutil.copytree(folders / "exported", tmp_path / "exported")
    monkeypatch.setattr("m3sr_jax.export.export_program", lambda *_: SimpleNamespace(serialize=lambda: b"new"))
    again = partial(export_model, tmp_path / "exported", model.model, model.params, model.card, overwrite=True)
    again()
    assert (tmp_path / "exported" / "model.jaxexport").read_bytes() == b"new"
    (tmp_path / "exported" / "notes.txt").touch()
    with pytest.raises(InputError, match="is not an exported program and nothing else"):
        again()
    assert (tmp_path / "exported" / "notes.txt").exists()


def test_parameters_and_card_are_in_one_safetensors_file(folders):
    predictor = load(folders / "model")
    with safe_open(folders / "exported" / "params.safetensors", "numpy") as file:
        assert ModelCard.from_json(file.metadata()["model.json"]) == CARD
        assert file.metadata()["encoding"] == "codes"
        kernel = file.get_tensor("conv_in/kernel")
        assert len(file.keys()) == len(jax.tree.leaves(predictor.params))
    np.testing.assert_array_equal(kernel, predictor.params["conv_in"]["kernel"])


def test_the_program_is_for_cpu_and_cuda_and_any_size(folders):
    program = jax.export.deserialize((folders / "exported" / "model.jaxexport").read_bytes())
    assert program.platforms == ("cpu", "cuda")
    assert [str(side) for side in program.in_avals[-1].shape] == ["b", "8*h", "8*w", "3"]


def test_the_shipped_model_takes_linear_rgb_and_says_so(tmp_path, capsys):
    assert main(["export", "--output", str(tmp_path / "exported")]) == 0
    assert "the program takes linear RGB in [0, 1], proportional to light" in capsys.readouterr().out
    with safe_open(tmp_path / "exported" / "params.safetensors", "numpy") as file:
        assert (file.metadata()["encoding"], file.metadata()["input"][:10]) == ("linear", "linear RGB")
        params = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    program = jax.export.deserialize((tmp_path / "exported" / "model.jaxexport").read_bytes())
    rgb = np.random.default_rng(0).random((8, 16, 3), np.float32)
    found, expected = program.call(params, rgb[None])[0], load().predict(rgb, encoding="linear")
    np.testing.assert_allclose(found, expected, atol=BAR)


def test_nothing_is_overwritten_and_nothing_half_written(folders, tmp_path, monkeypatch):
    model = load(folders / "model")
    with pytest.raises(InputError, match="already exists"):
        export_model(folders / "exported", model.model, model.params, model.card)
    monkeypatch.setattr("m3sr_jax.export.export_program", lambda *_: (_ for _ in ()).throw(InputError("no")))
    with pytest.raises(InputError, match="no"):
        export_model(tmp_path / "new", model.model, model.params, model.card)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("mst_plus_plus", {"transformers": 1}),
        ("hscnn_plus", {"dense_blocks": 2}),
        ("hrnet", {"width": 8}),
        ("gmsr", {}),
        ("hsrnet", {"stages": 2}),
        ("fmnet", {"blocks": 1, "width": 8}),
        ("essaformer", {"width": 16}),
    ],
)
def test_a_baseline_is_exported_for_every_size(name, fields):
    model = create(name, **fields)
    params = jax.tree.map(np.asarray, flatten_dict(init_params(model, jax.random.key(0)), sep="/"))
    program = export_program(model, params, "unit")
    for size in SIZES[:2]:
        rgb = np.random.default_rng(0).uniform(size=(*size, 3)).astype(np.float32)
        expected = jax.jit(model.apply, compiler_options=QUICK)({"params": unflatten_dict(params, sep="/")}, rgb)
        found = jax.jit(program.call, compiler_options=QUICK)(params, rgb)
        assert np.abs(found - expected).max() <= BAR * np.abs(expected).max()

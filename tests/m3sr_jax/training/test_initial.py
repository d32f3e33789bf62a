"""Fine-tuning: training starts from a converted release, from a training run, or from a model of other bands."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax.traverse_util import flatten_dict, unflatten_dict
from safetensors.numpy import save_file

from m3sr_jax.checkpoint import load_params, save_model, write_weights
from m3sr_jax.cli import main
from m3sr_jax.config import Config, ModelConfig, TrainConfig
from m3sr_jax.convert import params_to_release
from m3sr_jax.errors import InputError
from m3sr_jax.model_card import ModelCard
from m3sr_jax.models import build_model, init_params
from m3sr_jax.training.initial import first_params

pytestmark = pytest.mark.usefixtures("compiled_once_and_quickly")

FIELDS = ModelConfig(num_groups=1, features=6, num_bands=5, branches=("frequency",))
NM = (400.0, 450.0, 500.0, 550.0, 600.0)


def card(fields=FIELDS, nm=NM, normalization="unit", **about):
    return ModelCard(fields, nm, rgb_normalization=normalization, **about)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A model's folder and its parameters."""
    params = init_params(build_model(FIELDS), jax.random.key(7))
    folder = tmp_path_factory.mktemp("models") / "trained"
    save_model(folder, card(), params)
    return folder, params


def drawn(model):
    return init_params(model, jax.random.key(0))


def first(source, fields=FIELDS, **of_card):
    config = Config(model=fields, train=TrainConfig(init_from=str(source)))
    model = build_model(fields)
    params, notes = first_params(config, model, card(fields, **of_card), lambda: drawn(model))
    return flatten_dict(params, sep="/"), notes


def test_a_model_of_the_same_bands_is_taken_whole(trained):
    folder, params = trained
    found, notes = first(folder)
    assert notes == []
    for name, leaf in flatten_dict(params, sep="/").items():
        np.testing.assert_array_equal(found[name], leaf)


@pytest.mark.parametrize("form", ["orbax", "safetensors"])
def test_parameters_take_the_type_of_the_run(trained, tmp_path, form):
    folder, params = trained
    if form == "safetensors":
        folder = tmp_path
        write_weights(folder, card(), params, None)
    found, notes = first(folder, dataclasses.replace(FIELDS, param_dtype="bfloat16"))
    assert notes == []
    for name, leaf in flatten_dict(params, sep="/").items():
        np.testing.assert_array_equal(found[name], leaf.astype(jnp.bfloat16))
        assert found[name].dtype == jnp.bfloat16


def test_a_converted_release_is_a_start(trained, tmp_path):
    _, params = trained
    save_file(params_to_release(params, build_model(FIELDS)), tmp_path / "release.safetensors")
    given = [str(tmp_path / "release.safetensors"), str(tmp_path / "model"), "--rgb-normalization", "minmax"]
    assert main(["convert", *given, "--wavelengths", "400", "600"]) == 0
    found, notes = first(tmp_path / "model")
    assert notes == [
        f'init_from {tmp_path / "model"}: trained on photos normalised by "minmax", these are normalised by "unit"'
    ]
    for name, leaf in flatten_dict(params, sep="/").items():
        np.testing.assert_array_equal(found[name], leaf)


def test_with_other_bands_the_layers_that_depend_on_them_start_anew(trained):
    folder, params = trained
    fields = dataclasses.replace(FIELDS, num_bands=8)
    found, notes = first(folder, fields, nm=tuple(400.0 + 25 * band for band in range(8)))
    anew = flatten_dict(drawn(build_model(fields)), sep="/")
    kept = {name: leaf for name, leaf in flatten_dict(params, sep="/").items() if leaf.shape == anew[name].shape}
    assert 0 < len(kept) < len(anew)
    for name, leaf in found.items():
        np.testing.assert_array_equal(leaf, kept.get(name, anew[name]))
    (note,) = notes
    assert note.startswith(f"init_from {folder}: 5 bands there, 8 here: conv_in, conv_out, ")
    assert "start anew" in note


def test_exact_colour_is_added_to_a_model_without_it_or_left_out(tmp_path):
    plain = dataclasses.replace(FIELDS, base="root1")
    exact = dataclasses.replace(plain, exact_colour=True)
    about = {"encoding": "linear", "quantity": "reflectance"}
    params = init_params(build_model(plain), jax.random.key(7))
    save_model(tmp_path / "plain", ModelCard(plain, NM, **about), params)
    with_colours = first(tmp_path / "plain", exact, **about)
    assert with_colours[1] == []
    assert with_colours[0].keys() - flatten_dict(params, sep="/").keys() == {"colour_matrix", "colour_inverse"}
    for name, leaf in flatten_dict(params, sep="/").items():
        np.testing.assert_array_equal(with_colours[0][name], leaf)
    save_model(tmp_path / "exact", ModelCard(exact, NM, **about), unflatten_dict(with_colours[0], sep="/"))
    without, notes = first(tmp_path / "exact", plain)
    told = [note.removeprefix(f"init_from {tmp_path / 'exact'}: ") for note in notes]
    assert told == [
        'trained on photos of encoding "linear", these have encoding "codes"',
        "trained on cubes of reflectance, these hold an unstated quantity",
        "trained with model.exact_colour, this run is without it: cubes need not show the photo's colours",
    ]
    assert without.keys() == flatten_dict(params, sep="/").keys()


def test_equally_many_but_other_bands_are_noted(trained):
    _, notes = first(trained[0], nm=tuple(centre + 20 for centre in NM))
    assert notes == [f"init_from {trained[0]}: trained on bands of 400-600 nm, these are 420-620 nm"]


def test_another_network_is_refused(trained):
    branches = dataclasses.replace(FIELDS, features=8, branches=("spectral", "spatial"), normalise_exposure=True)
    with pytest.raises(InputError) as caught:
        first(trained[0], branches)
    flags = """--config.model.branches="('frequency',)" --config.model.features=6"""
    assert str(caught.value).endswith(f"pass {flags} --config.model.normalise_exposure=False")
    with pytest.raises(InputError, match=r"holds m3sr, this run trains pixel; pass --config\.model\.name=m3sr, or"):
        first(trained[0], ModelConfig(name="pixel", num_bands=5))
    other = dataclasses.replace(FIELDS, features=8, num_bands=8)
    with pytest.raises(InputError, match=r"found model\.features 6, not 8; expected the same network, of any bands"):
        first(trained[0], other, nm=tuple(400.0 + 25 * band for band in range(8)))
    with pytest.raises(InputError, match="no such directory"):
        first("nowhere")


def test_a_training_run_is_a_start(toy, finished):
    config = dataclasses.replace(toy, train=dataclasses.replace(toy.train, init_from=str(finished)))
    model = build_model(toy.model)
    params, notes = first_params(config, model, card(toy.model, tuple(float(nm) for nm in range(400, 701, 10))), dict)
    assert notes == []
    jax.tree.map(np.testing.assert_array_equal, params, load_params(finished, model))

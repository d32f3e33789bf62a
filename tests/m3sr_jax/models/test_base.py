"""A network on a base: what it adds up to, what learns, and that a fit stays as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3sr_jax.config import ModelConfig
from m3sr_jax.convert import params_to_release
from m3sr_jax.cost.count import cost_report
from m3sr_jax.errors import InputError
from m3sr_jax.export import export_program
from m3sr_jax.models import build_model, create, init_params, parameter_shapes
from m3sr_jax.models.base import INITIAL_GAIN, with_colours, with_linear_start, with_regression
from m3sr_jax.models.pixel import Pixel
from m3sr_jax.regression import Regression, terms_of

RGB = np.random.default_rng(0).random((2, 8, 16, 3), np.float32)


def random_fit(name, bands=31):
    return Regression(name, np.random.default_rng(1).standard_normal((len(terms_of(name)), bands)))


@pytest.mark.parametrize("base", ["cubic", "root2_weighted", "ratio3"])
def test_the_output_is_the_regression_and_a_tenth_of_the_network(base):
    config = ModelConfig(name="pixel", base=base)
    model, fitted = build_model(config), random_fit(base)
    params = with_regression(init_params(model, jax.random.key(0)), fitted)
    network = create("pixel").apply({"params": params["network"]}, RGB)
    output = model.apply({"params": params}, RGB)
    np.testing.assert_allclose(output, fitted.predict(RGB) + INITIAL_GAIN * network, atol=2e-5)
    assert output.dtype == jnp.float32


def test_a_pixel_head_adds_a_pixel_network_with_or_without_a_regression():
    model = build_model(ModelConfig(name="pixel", pixel_head=True))
    params = init_params(model, jax.random.key(0))
    assert set(params) == {"gain", "network", "pixel_head"}
    network, head = (Pixel().apply({"params": params[name]}, RGB) for name in ("network", "pixel_head"))
    np.testing.assert_allclose(model.apply({"params": params}, RGB), head + INITIAL_GAIN * network, atol=1e-6)
    assert set(parameter_shapes(build_model(ModelConfig(base="root1", pixel_head=True)))) == {
        "gain",
        "network",
        "pixel_head",
        "regression",
    }


@pytest.mark.parametrize("fields", [{"name": "pixel", "pixel_head": True}, {"name": "m3sr", "features": 4}])
def test_with_normalised_exposure_half_the_light_gives_half_the_cube(quick_jit, fields):
    model = build_model(ModelConfig(base="root2", normalise_exposure=True, **fields))
    params = with_regression(init_params(model, jax.random.key(0)), random_fit("root2"))
    apply = quick_jit(model.apply)
    whole, half = (apply({"params": params}, RGB * np.float32(factor)) for factor in (1, 0.5))
    np.testing.assert_allclose(half, whole / 2, atol=1e-5)
    apply = quick_jit(build_model(ModelConfig(base="root2", **fields)).apply)
    whole, half = (apply({"params": params}, RGB * np.float32(factor)) for factor in (1, 0.5))
    assert np.abs(half - whole / 2).max() > 1e-4


def test_a_black_image_stays_black_and_its_gradient_finite():
    model = build_model(ModelConfig(name="pixel", base="root2", normalise_exposure=True))
    params = with_regression(init_params(model, jax.random.key(0)), random_fit("root2"))
    black = np.zeros_like(RGB)
    assert np.abs(model.apply({"params": params}, black)).max() < 1e-3
    grads = jax.grad(lambda params: jnp.mean(model.apply({"params": params}, black)))(params)
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(grads))


def test_everything_but_the_regression_has_a_gradient():
    model = build_model(ModelConfig(name="pixel", base="root2", pixel_head=True))
    params = with_regression(init_params(model, jax.random.key(0)), random_fit("root2"))
    grads = jax.grad(lambda params: jnp.mean(jnp.abs(model.apply({"params": params}, RGB))))(params)
    assert not np.any(grads["regression"])
    assert np.all([np.any(leaf) for name in ("gain", "network", "pixel_head") for leaf in jax.tree.leaves(grads[name])])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_regression_is_computed_in_float32(dtype):
    model = build_model(ModelConfig(name="pixel", base="root2", dtype=dtype))
    fitted = random_fit("root2")
    params = with_regression(init_params(model, jax.random.key(0)), fitted)
    params["gain"] = jnp.zeros_like(params["gain"])
    np.testing.assert_allclose(model.apply({"params": params}, RGB), fitted.predict(RGB), atol=2e-5)


def test_no_base_is_the_network_itself():
    assert build_model(ModelConfig()) == create("m3sr")


def test_an_exported_program_computes_the_same():
    model = build_model(ModelConfig(name="pixel", base="cubic"))
    params = with_regression(init_params(model, jax.random.key(0)), random_fit("cubic"))
    flat = {
        "/".join(str(key.key) for key in path): np.asarray(leaf)
        for path, leaf in jax.tree_util.tree_leaves_with_path(params)
    }
    program = export_program(model, flat, "unit")
    expected = model.apply({"params": params}, RGB)
    np.testing.assert_allclose(program.call(flat, RGB), expected, atol=1e-5)


def test_a_base_is_counted_and_cannot_become_a_release():
    model = build_model(ModelConfig(name="pixel", base="root2", pixel_head=True))
    report = cost_report(model, 8, 8)
    assert report.total is not None
    assert report.total.parameters == report.parameters
    assert list(report.parts) == ["1×1 layers", "gains", "regression", "pixel head"]
    params = init_params(model, jax.random.key(0))
    with pytest.raises(InputError, match=r"model\.base"):
        params_to_release(params, model)
    with pytest.raises(InputError, match="Pixel: found no release layout"):
        params_to_release(params["network"], create("pixel"))


@pytest.mark.parametrize("name", ["m3sr", "mst_plus_plus"])
def test_a_linear_start_makes_the_first_output_the_fit(quick_jit, name):
    fields = {"transformers": 1} if name == "mst_plus_plus" else {"implementation": "xla", "branches": ("frequency",)}
    model, fitted = create(name, features=4, **fields), random_fit("root1")
    params = with_linear_start(init_params(model, jax.random.key(0)), fitted)
    output = quick_jit(lambda params: model.apply({"params": params}, RGB[:1]))(params)
    np.testing.assert_allclose(output, fitted.predict(RGB[:1]), atol=1e-5)
    shapes = jax.tree.map(lambda leaf: leaf.shape, params)
    assert shapes == jax.tree.map(lambda leaf: leaf.shape, parameter_shapes(model))
    assert params_to_release(params, model)


def test_in_exact_colour_the_cube_shows_the_photo_and_clipped_channels_may_be_brighter():
    model = build_model(ModelConfig(name="pixel", base="root2", exact_colour=True))
    plain = build_model(ModelConfig(name="pixel", base="root2"))
    colours = np.random.default_rng(2).standard_normal((31, 3))
    params = with_colours(with_regression(init_params(model, jax.random.key(0)), random_fit("root2")), colours)
    rgb = np.where(RGB > 0.8, 1, np.where(RGB < 0.2, 0, RGB)).astype(np.float32)
    cube, without = (np.asarray(each.apply({"params": params}, rgb), np.float64) for each in (model, plain))
    shown, was = cube @ colours, without @ colours
    inside = (rgb > 0) & (rgb < 1)
    np.testing.assert_allclose(shown[inside], rgb[inside], atol=1e-5)
    assert (was[rgb == 1] > 1.1).any()
    assert (was[rgb == 0] < -0.1).any()
    np.testing.assert_allclose(shown[rgb == 1], np.maximum(was[rgb == 1], 1), atol=1e-4)
    np.testing.assert_allclose(shown[rgb == 0], np.minimum(was[rgb == 0], 0), atol=1e-4)
    blacks = np.eye(31) - colours @ np.linalg.pinv(colours)
    np.testing.assert_allclose(cube @ blacks, without @ blacks, atol=1e-4)
    grads = jax.grad(lambda params: jnp.mean(jnp.abs(model.apply({"params": params}, rgb))))(params)
    assert not np.any(grads["colour_matrix"])
    assert not np.any(grads["colour_inverse"])

"""The whole network: counts, shapes, fields, types, gradients, what it refuses."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3sr_jax.models import M3SR, create, init_params

# Small, and by the plain scans, which compile fastest; the default scans are compared with the release in test_parity.
SMALL = {"features": 4, "num_bands": 5, "num_groups": 2, "implementation": "reference"}
ONE_BRANCH = {**SMALL, "branches": ("frequency",)}


def shapes_of(model):
    return jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 8, 8, 3)))["params"]


@pytest.fixture(scope="module")
def image():
    return jax.random.uniform(jax.random.key(1), (2, 9, 15, 3))


def test_default_has_the_published_network_without_its_dead_weights():
    leaves = jax.tree.leaves(shapes_of(M3SR(implementation="reference")))
    assert sum(leaf.size for leaf in leaves) == 2_786_188


@pytest.mark.parametrize(
    ("fields", "size", "bands"),
    [
        ({}, (482, 512), 31),
        ({"num_stages": 2, "num_blocks": (2, 1, 3), "num_groups": 3}, (8, 8), 31),
        ({"features": 20, "num_bands": 25, "wavelet": "db2"}, (13, 33), 25),
        ({"branches": ["spectral"], "features": 8}, (9, 200), 31),
    ],
)
def test_output_has_the_size_of_the_image_and_the_bands_asked_for(fields, size, bands):
    model = create("m3sr", implementation="reference", **fields)
    rgb = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
    output, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), rgb)
    assert (output.shape, output.dtype) == ((2, *size, bands), jnp.float32)


def test_groups_change_the_spectral_branch_alone():
    few, many = (shapes_of(M3SR(**{**SMALL, "num_groups": groups})) for groups in (2, 5))
    few, many = (tree["unet_0"]["bottleneck"]["block_0"] for tree in (few, many))
    assert few["spatial"] == many["spatial"]
    assert few["frequency"] == many["frequency"]
    assert few["spectral"]["expand"]["kernel"].shape == (16, 32)
    assert many["spectral"]["expand"]["kernel"].shape == (16, 80)


def test_remat_changes_no_gradient(quick_jit, image):
    models = [M3SR(remat=remat, **ONE_BRANCH) for remat in (False, True)]
    params = init_params(models[0], jax.random.key(0))

    def loss(params, model):
        return jnp.square(model.apply({"params": params}, image) - 0.5).mean()

    plain, saved = (quick_jit(jax.grad(loss), static_argnums=1)(params, model) for model in models)
    for a, b in zip(jax.tree.leaves(plain), jax.tree.leaves(saved), strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)


def test_bfloat16_models_keep_float32_parameters_and_output(image):
    model = M3SR(dtype=jnp.bfloat16, **SMALL)
    output, state = jax.eval_shape(model.init_with_output, jax.random.key(0), image)
    assert output.dtype == jnp.float32
    assert {leaf.dtype for leaf in jax.tree.leaves(state)} == {jnp.dtype(jnp.float32)}
    _, state = jax.eval_shape(lambda v: model.apply(v, image, capture_intermediates=True), state)
    assert state["intermediates"]["unet_0"]["__call__"][0].dtype == jnp.bfloat16


def test_one_shape_traces_once(image):
    traces = []

    @jax.jit
    def shape_of_output(rgb):
        traces.append(rgb.shape)
        model = M3SR(**ONE_BRANCH)
        return jnp.zeros(jax.eval_shape(model.init_with_output, jax.random.key(0), rgb)[0].shape)

    assert shape_of_output(image).shape == shape_of_output(image + 1).shape
    assert traces == [image.shape]


def test_init_params_equal_those_of_init(quick_jit):
    model = M3SR(**ONE_BRANCH)
    expected = quick_jit(model.init)(jax.random.key(3), jnp.zeros((1, 16, 8, 3)))["params"]
    for a, b in zip(jax.tree.leaves(init_params(model, jax.random.key(3))), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (np.zeros((1, 7, 16, 3), np.float32), "at least 8×8 pixels, got H×W = 7×16"),
        (np.zeros((1, 16, 4, 3), np.float32), "at least 8×8 pixels, got H×W = 16×4"),
        (np.zeros((1, 8, 8, 4), np.float32), r"images of shape \(B, H, W, 3\), got \(1, 8, 8, 4\)"),
        (np.zeros((1, 8, 8, 3), np.uint8), "got uint8: scale it first"),
    ],
)
def test_images_that_cannot_be_used_are_refused(image, message):
    with pytest.raises(ValueError, match=message):
        M3SR().init(jax.random.key(0), image)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"branches": ()}, "branches: found none; expected one or more of spatial, frequency, spectral"),
        ({"branches": ("spatial", "temporal")}, "branches: found spatial, temporal; expected one or more of"),
        ({"wavelet": "haar2"}, "wavelet haar2 is unknown"),
        ({"num_blocks": (1, 1)}, "num_blocks: found 1, 1; expected 3 positive counts"),
        ({"num_blocks": (1, 0, 1)}, "num_blocks: found 1, 0, 1; expected 3 positive counts"),
        ({"num_groups": 0}, "num_groups: found 0, expected 1 or more"),
        ({"num_bands": -1}, "num_bands: found -1, expected 1 or more"),
        ({"width": 12}, "model m3sr has no field width; it has branches, "),
    ],
)
def test_fields_that_make_no_network_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        create("m3sr", **fields)


def test_unknown_networks_are_refused():
    with pytest.raises(ValueError, match=r"no model is called unet: expected one of essaformer, .*m3sr"):
        create("unet")

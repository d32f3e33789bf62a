"""What the baselines promise of any image; tests/m3sr_jax/test_baseline_parity.py compares their numbers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compilation import QUICK

from m3sr_jax.models import create, init_params, parameter_shapes

SMALL = {
    "mst_plus_plus": {"transformers": 1},
    "hscnn_plus": {"dense_blocks": 2},
    "hrnet": {"width": 8},
    "gmsr": {"implementation": "reference"},
    "hsrnet": {"stages": 2},
    "fmnet": {"blocks": 1, "width": 8},
    "essaformer": {"width": 16},
}
MIN_SIZE = {"mst_plus_plus": 5, "hrnet": 5, "gmsr": 3}  # of the others 1
BANDS = {"hsrnet": 31}  # which has no other number of bands


def image(height, width, batch=1):
    return jax.random.uniform(jax.random.key(1), (batch, height, width, 3))


def run(model, params, rgb):
    return jax.jit(lambda params: model.apply({"params": params}, rgb), compiler_options=QUICK)(params)


@pytest.fixture(scope="module", params=SMALL)
def network(request):
    model = create(request.param, num_bands=BANDS.get(request.param, 7), **SMALL[request.param])
    return request.param, model, init_params(model, jax.random.key(0))


def test_any_size_and_band_count(network):
    name, model, params = network
    least = MIN_SIZE.get(name, 1)
    for size in ((least, 9), (13, least + 2)):
        cube = run(model, params, image(*size))
        assert cube.shape == (1, *size, model.num_bands)
        assert np.isfinite(cube).all()


def test_bfloat16_computes_near_float32_and_gives_float32(network):
    _, model, params = network
    rgb = image(16, 16)
    cube, narrow = (run(m, params, rgb) for m in (model, model.clone(dtype=jnp.bfloat16)))
    assert narrow.dtype == jnp.float32
    # Eight bits of mantissa through tens of layers, as a share of the largest value.
    assert 0 < np.abs(narrow - cube).max() < 0.1 * np.abs(cube).max()


@pytest.mark.parametrize("name", MIN_SIZE)
def test_an_image_too_small_is_refused(name):
    model = create(name, **SMALL[name])
    with pytest.raises(ValueError, match=f"at least {MIN_SIZE[name]}×{MIN_SIZE[name]} pixels"):
        model.init(jax.random.key(0), image(MIN_SIZE[name] - 1, 16))


@pytest.mark.parametrize("name", SMALL)
def test_integers_and_other_channel_counts_are_refused(name):
    model = create(name, **SMALL[name])
    with pytest.raises(ValueError, match="scale it first"):
        model.init(jax.random.key(0), np.zeros((1, 8, 8, 3), np.uint8))
    with pytest.raises(ValueError, match=r"\(B, H, W, 3\)"):
        model.init(jax.random.key(0), image(8, 8)[..., :2])


@pytest.mark.parametrize("name", ["mst_plus_plus", "hscnn_plus", "hrnet", "hsrnet", "fmnet", "essaformer"])
def test_remat_recomputes_every_block_from_the_same_parameters(name):
    model = create(name, num_bands=BANDS.get(name, 5), **SMALL[name])
    again = model.clone(remat=True)
    assert jax.tree.map(jnp.shape, parameter_shapes(again)) == jax.tree.map(jnp.shape, parameter_shapes(model))
    blocks = {"mst_plus_plus": 5, "hscnn_plus": 2, "hrnet": 12, "hsrnet": 2, "fmnet": 3, "essaformer": 5}[name]
    programs = (
        str(jax.make_jaxpr(lambda params, m=m: m.apply({"params": params}, image(8, 8)))(parameter_shapes(model)))
        for m in (model, again)
    )
    counts = [program.count("prevent_cse") for program in programs]  # a parameter of jax.checkpoint alone
    assert counts == [0, blocks]

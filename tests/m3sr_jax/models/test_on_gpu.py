"""A GPU gives the CPU's numbers at the default precision."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3sr_jax.models import create, parameter_shapes

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(
        jax.default_backend() != "gpu", reason="needs a GPU that JAX can use: set JAX_PLATFORMS=cuda,cpu"
    ),
]
# Sums in another order through tens of layers, as a share of the largest value; TF32 is off by 1e-3 and more.
TOLERANCE = 5e-5


@pytest.mark.parametrize("name", ["m3sr", "mst_plus_plus", "hscnn_plus"])
def test_a_network_on_a_gpu_equals_itself_on_a_cpu(name):
    model, rng = create(name), np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: 0.1 * rng.standard_normal(leaf.shape, np.float32), parameter_shapes(model))
    rgb = rng.random((1, 64, 72, 3), np.float32)
    on_gpu, on_cpu = (
        np.asarray(jax.jit(model.apply)(*jax.device_put(({"params": params}, rgb), jax.devices(backend)[0])))
        for backend in (jax.default_backend(), "cpu")
    )
    assert jnp.max(jnp.abs(on_gpu - on_cpu)) < TOLERANCE * jnp.max(jnp.abs(on_cpu))

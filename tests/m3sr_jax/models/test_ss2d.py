"""SS2D: heads, projections and the whole module against a plain loop over pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from m3sr_kernels.depthwise_conv_silu.xla import depthwise_conv3x3
from m3sr_kernels.layer_norm.reference import normed_over_channels

from m3sr_jax.models.ss2d import SS2D, ResidualSS2D, num_heads, project_directions

TOLERANCE = 1e-5


@pytest.mark.parametrize(
    ("width", "heads"), [(31, 2), (62, 4), (124, 8), (248, 16), (496, 31), (20, 2), (40, 2), (80, 5), (8, 1)]
)
def test_heads_divide_the_inner_width(width, heads):
    assert num_heads(width) == heads


def test_projections_are_one_matrix_a_direction(quick_jit):
    x, weight = (jax.random.normal(jax.random.key(i), shape) for i, shape in enumerate([(2, 3, 4, 10), (4, 18, 10)]))
    dt, b, c = quick_jit(project_directions, static_argnums=2)(x, weight, 2)
    assert (dt.shape, b.shape, c.shape) == ((2, 3, 4, 4, 2), (2, 3, 4, 4, 8), (2, 3, 4, 4, 8))
    for k in range(4):
        expected = np.asarray(x) @ np.asarray(weight[k]).T
        np.testing.assert_allclose(np.concatenate([dt, b, c], -1)[..., k, :], expected, atol=TOLERANCE)


def scan_by_loops(x, params):
    """Scans one image (H, W, I), already convolved, in four directions."""
    height, width, inner = x.shape
    weight, a, d, dt_bias = (np.asarray(params[name], np.float64) for name in ("x_proj", "a_log", "d", "dt_bias"))
    a, heads = -np.exp(a), a.shape[1]
    pixels = np.arange(height * width).reshape(height, width)
    orders = [pixels.ravel(), pixels.T.ravel()]
    orders += [order[::-1] for order in orders]
    flat, y = x.reshape(-1, heads, inner // heads), np.zeros((height * width, heads, inner // heads))
    for k, order in enumerate(orders):
        state = np.zeros((heads, inner // heads, 8))
        for t in order:
            mixed = weight[k] @ flat[t].ravel()
            dt = np.logaddexp(mixed[:heads] + dt_bias[k], 0)
            b, c = mixed[heads : heads + 8], mixed[heads + 8 :]
            state = np.exp(dt * a[k])[:, None, None] * state + (dt[:, None] * flat[t])[..., None] * b
            y[t] += state @ c + d[k] * flat[t]
    return y.reshape(x.shape)


def test_ss2d_follows_its_formula(quick_jit):
    x = jax.random.normal(jax.random.key(0), (1, 3, 5, 18))
    module = SS2D()
    shapes = jax.eval_shape(module.init, jax.random.key(0), x)["params"]
    rng = np.random.default_rng(1)
    params = jax.tree.map(lambda leaf: jnp.asarray(0.4 * rng.standard_normal(leaf.shape), jnp.float32), shapes)
    inner = jax.nn.silu(depthwise_conv3x3(x @ params["in_proj"]["kernel"], params["conv_kernel"]))
    scanned = scan_by_loops(np.asarray(inner[0], np.float64), params)
    normed = normed_over_channels(jnp.asarray(scanned[None], jnp.float32), 1e-5)
    normed = normed * params["out_norm"]["scale"][None, None, None] + params["out_norm"]["bias"][None, None, None]
    expected = normed @ params["out_proj"]["kernel"]
    np.testing.assert_allclose(quick_jit(module.apply)({"params": params}, x), expected, atol=TOLERANCE)


def test_residual_starts_as_identity_plus_little(quick_jit):
    x = jax.random.normal(jax.random.key(0), (1, 4, 4, 8))
    module = ResidualSS2D(epsilon=1e-6, implementation="reference")
    output, state = quick_jit(module.init_with_output)(jax.random.key(1), x)
    params = state["params"]
    assert not params["ss2d"]["a_log"].any()
    assert (params["ss2d"]["d"] == 1).all()
    assert 0 <= float(params["ss2d"]["dt_bias"].min()) <= float(params["ss2d"]["dt_bias"].max()) <= 0.1
    assert 0 < float(jnp.abs(output - x).mean()) < 0.2

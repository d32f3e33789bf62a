"""The spectral branch, its token mixer against a plain loop."""

import jax
import jax.numpy as jnp
import numpy as np

from m3sr_jax.models.spectral import SpectralBranch, TokenMixer

# float32 against float64 through three projections and a scan.
TOLERANCE = 2e-6


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softplus(x):
    return np.logaddexp(x, 0)


def mixer_params(width, seed=0):
    tokens = jnp.zeros((2, 3, width))
    shapes = jax.eval_shape(TokenMixer().init, jax.random.key(0), tokens)["params"]
    rng = np.random.default_rng(seed)
    return {name: 0.5 * rng.standard_normal(leaf.shape).astype(np.float32) for name, leaf in shapes.items()}


def mix_by_loops(tokens, params):
    """Computes one pixel's tokens (G, C) as Mamba defines it, step by step."""
    p = {name: value.astype(np.float64) for name, value in params.items()}
    inner, rank = p["d"].size, p["dt_proj"].shape[0]
    projected = tokens @ p["in_proj"]
    u, z = projected[:, :inner], projected[:, inner:]
    padded = np.concatenate([np.zeros((3, inner)), u])
    u = np.stack([(padded[t : t + 4] * p["conv_kernel"]).sum(0) + p["conv_bias"] for t in range(len(u))])
    u = u * sigmoid(u)
    state, rows = np.zeros((inner, 16)), []
    for u_t, z_t in zip(u, z, strict=True):
        mixed = u_t @ p["x_proj"]
        dt = softplus(mixed[:rank] @ p["dt_proj"] + p["dt_bias"])[:, None]
        b, c = mixed[rank : rank + 16], mixed[rank + 16 :]
        state = np.exp(dt * -np.exp(p["a_log"])) * state + dt * b * u_t[:, None]
        rows.append((state @ c + p["d"] * u_t) * z_t * sigmoid(z_t))
    return np.stack(rows) @ p["out_proj"]


def test_mixer_follows_its_formula_on_every_pixel(quick_jit):
    tokens = np.random.default_rng(1).standard_normal((3, 5, 18)).astype(np.float32)
    params = mixer_params(18)
    assert params["dt_proj"].shape == (2, 36)  # two ranks for 18 channels
    expected = np.stack([mix_by_loops(pixel.astype(np.float64), params) for pixel in tokens])
    got = quick_jit(TokenMixer().apply)({"params": params}, tokens)
    np.testing.assert_allclose(got, expected, atol=TOLERANCE * np.abs(expected).max())


def test_branch_narrows_what_it_widened():
    branch = SpectralBranch(num_groups=3, implementation="reference")
    shapes = jax.eval_shape(branch.init, jax.random.key(0), jnp.zeros((1, 4, 4, 5)))["params"]
    assert shapes["expand"]["kernel"].shape == (5, 15)
    assert shapes["reduce"]["kernel"].shape == (15, 5)
    assert shapes["norm"]["scale"].shape == (15,)


def test_first_states_decay_at_integer_rates(quick_jit):
    mixer = TokenMixer(implementation="reference")
    params = quick_jit(mixer.init)(jax.random.key(0), jnp.zeros((1, 2, 4)))["params"]
    np.testing.assert_allclose(jnp.exp(params["a_log"]), np.tile(np.arange(1, 17), (8, 1)), rtol=1e-6)
    assert not params["dt_bias"].any()
    assert (params["d"] == 1).all()

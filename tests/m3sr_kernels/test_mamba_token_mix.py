"""The token mixer: the fused form against its composition."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from m3sr_kernels import mamba_token_mix


def draw(M, L, C, N=16, rank=2, taps=4, *, dtype=np.float64):
    rng = np.random.default_rng(0)
    D = 2 * C
    shapes = {
        "in_proj": (C, 2 * D),
        "conv_kernel": (taps, D),
        "conv_bias": (D,),
        "x_proj": (D, rank + 2 * N),
        "dt_proj": (rank, D),
    }
    shapes |= {"dt_bias": (D,), "a_log": (D, N), "d": (D,), "out_proj": (D, C)}
    params = {name: jnp.asarray(0.5 * rng.standard_normal(shape), dtype) for name, shape in shapes.items()}
    return jnp.asarray(rng.standard_normal((M, L, C)), dtype), params


# Shorter and longer than the convolution, and past the fused scans, which share their code with `s6_scan` there.
@pytest.mark.parametrize(
    ("implementation", "L"), [*(("xla", L) for L in (2, 4, 6, 18)), ("pallas_triton", 2), ("pallas_triton", 6)]
)
def test_fused_equals_the_composition_in_value_and_gradient(implementation, L):
    with jax.enable_x64(True):
        tokens, params = draw(7, L, 5)

        def run(implementation):
            def objective(*arguments):
                mixed = mamba_token_mix(*arguments, implementation=implementation, interpret=True)
                return jnp.sum(jnp.sin(mixed))

            return jax.jit(jax.value_and_grad(objective, argnums=(0, 1)))(tokens, params)

        got, expected = run(implementation), run("reference")
    for g, e in zip(*(map(np.asarray, jax.tree.leaves(tree)) for tree in (got, expected)), strict=True):
        np.testing.assert_allclose(g, e, atol=1e-11 * max(1, np.abs(e).max()))


def test_bfloat16_tokens_give_bfloat16():
    tokens, params = draw(3, 4, 5, dtype=np.float32)
    got = mamba_token_mix(tokens.astype(jnp.bfloat16), params)
    assert got.dtype == jnp.bfloat16
    expected = mamba_token_mix(tokens, params)
    np.testing.assert_allclose(got.astype(jnp.float32), expected, atol=0.05 * float(jnp.abs(expected).max()))


def test_a_wrong_parameter_is_named(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    tokens, params = draw(3, 4, 5, dtype=np.float32)
    with pytest.raises(ValueError, match=r"mamba_token_mix: x_proj has shape \(10, 33\), expected \(10, 34\)"):
        mamba_token_mix(tokens, params | {"x_proj": params["x_proj"][:, 1:]})

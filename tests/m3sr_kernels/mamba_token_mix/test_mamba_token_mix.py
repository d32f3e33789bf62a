"""What is special about the token mixer: its dtype, its products' precision, and that it names a wrong parameter."""

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from m3sr_kernels import mamba_token_mix

from ..comparison import draw
from .cases import sizes

PRECISIONS = {"highest": "HIGHEST", "default": "DEFAULT"}


def test_bfloat16_tokens_give_bfloat16():
    arrays = draw(sizes(3, 4, 5), np.float32)
    got = mamba_token_mix(arrays["tokens"].astype(jnp.bfloat16), arrays["params"])
    assert got.dtype == jnp.bfloat16
    expected = mamba_token_mix(**arrays)
    np.testing.assert_allclose(got.astype(jnp.float32), expected, atol=0.05 * float(jnp.abs(expected).max()))


def test_a_wrong_parameter_is_named(monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    arrays = draw(sizes(3, 4, 5), np.float32)
    arrays["params"]["x_proj"] = arrays["params"]["x_proj"][:, 1:]
    with pytest.raises(ValueError, match=r"mamba_token_mix: x_proj has shape \(10, 33\), expected \(10, 34\)"):
        mamba_token_mix(**arrays)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("implementation", ["pallas_triton", "pallas_mosaic", "xla", "reference", "fallback"])
def test_every_product_on_a_gpu_has_the_precision_asked_for(monkeypatch, implementation, precision):
    """The gradient too, and the fallback of the native kernels, though JAX traces them after the call."""
    if implementation == "fallback":
        monkeypatch.setattr("m3sr_kernels.dispatch.gpu_capability", lambda: 7.5)
        implementation = None
    text = lower_gradient(implementation, precision=precision)
    products = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert len(products) >= 12
    assert all(line.count(PRECISIONS[precision]) == 2 for line in products)


def test_products_are_in_float32_by_default_and_the_context_counts_if_asked_for():
    assert "precision = [HIGHEST, HIGHEST]" in lower_gradient("xla")
    with jax.default_matmul_precision("tensorfloat32"):
        assert "precision = [HIGHEST, HIGHEST]" in lower_gradient("xla")
        assert "precision = [HIGH, HIGH]" in lower_gradient("xla", precision=None)


def lower_gradient(implementation, **options) -> str:
    def objective(arrays):
        return jnp.sum(mamba_token_mix(**arrays, implementation=implementation, **options))

    gradient = jax.value_and_grad(jax.jit(objective))
    arrays = draw(sizes(3, 4, 5), np.float32)
    return jax.jit(gradient).trace(arrays).lower(lowering_platforms=("cuda",)).as_text()

"""What is special about the token mixer: it computes in the dtype of the tokens, and names a wrong parameter."""

import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest
from m3sr_kernels import mamba_token_mix

from ..comparison import draw
from .cases import sizes


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

"""What is special about the S6 scan: its memory, and its optional arguments."""

import jax
import jax.numpy as jnp
import numpy as np
from m3sr_kernels import s6_scan
from m3sr_kernels.s6_scan.shapes import Shape

from ..comparison import draw


def test_no_state_is_kept_in_memory():
    """One array of states is 16 times x. A plain gradient holds several of them; ours works in the space of two."""
    inputs = draw(Shape(4096, 4, 62).arguments, np.float32)
    states = 16 * inputs["x"].nbytes
    objective = lambda inputs: jnp.sum(s6_scan(**inputs, implementation="xla"))  # noqa: E731
    forward = jax.jit(lambda inputs: s6_scan(**inputs, implementation="xla")).lower(inputs).compile()
    gradient = jax.jit(jax.grad(objective)).lower(inputs).compile()
    assert forward.memory_analysis().temp_size_in_bytes < states / 2
    assert gradient.memory_analysis().temp_size_in_bytes < 2 * states


def test_gate_skip_and_bias_are_optional():
    inputs = draw(Shape(2, 4, 3).arguments, np.float32)
    bare = {name: inputs[name] for name in ("x", "dt", "a", "b", "c")}
    zeros = {"d": jnp.zeros(3), "dt_bias": jnp.zeros(3)}
    np.testing.assert_allclose(s6_scan(**bare), s6_scan(**bare, **zeros), rtol=1e-6)
    gated = s6_scan(**bare, z=inputs["z"])
    np.testing.assert_allclose(gated, s6_scan(**bare) * jax.nn.silu(inputs["z"]), rtol=1e-6)

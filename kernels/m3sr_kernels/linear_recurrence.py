"""The recurrence h_t = decay_t·h_{t−1} + input_t, in logarithmic depth."""

from __future__ import annotations

import jax


def linear_recurrence(decay: jax.Array, inputs: jax.Array, *, axis: int) -> jax.Array:
    """All states of h_t = decay_t·h_{t−1} + inputs_t, starting from zero; decay broadcasts against inputs."""

    def combine(left, right):
        decay_left, state_left = left
        decay_right, state_right = right
        return decay_left * decay_right, decay_right * state_left + state_right

    return jax.lax.associative_scan(combine, (decay, inputs), axis=axis)[1]

"""States passed between chunks, by XLA and by the Triton kernel, against a plain loop in float64."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from m3sr_kernels.ssd_scan import triton_between_chunks
from m3sr_kernels.ssd_scan.chunk_states import states_on_entry
from m3sr_kernels.ssd_scan.triton_geometry import Geometry


def draw(C, *, K=2, decay=1.0, seed=0):
    rng = np.random.default_rng(seed)
    added = rng.standard_normal((2, C, K, 2, 3, 2))
    log_decay = -decay * np.abs(rng.standard_normal((2, C, K, 3)))
    return added, log_decay, rng.standard_normal((2, K, 2, 3, 2))


def by_loop(added, log_decay, backwards, initial):
    entering, last = np.zeros_like(added), np.zeros_like(initial)
    for k, back in enumerate(backwards):
        state = initial[:, k]
        for chunk in range(added.shape[1])[:: -1 if back else 1]:
            entering[:, chunk, k] = state
            state = np.exp(log_decay[:, chunk, k])[:, None, :, None] * state + added[:, chunk, k]
        last[:, k] = state
    return entering, last


# One chunk, full groups, the last group short, and a photo of 482×512 in chunks of 128. The decays from one that
# float32 hardly resolves (every state reaches every chunk) to some that underflow.
@pytest.mark.parametrize("chunks", [1, 16, 23, 1928])
@pytest.mark.parametrize("decay", [1e-8, 1e-2, 1.0, 500.0])
def test_both_levels_equal_the_loop(chunks, decay):
    arrays = draw(chunks, decay=decay)
    added, log_decay, initial = (array.astype(np.float32) for array in arrays)
    got = jax.jit(states_on_entry, static_argnums=2)(added, log_decay, (False, True), initial)
    wide = (array.astype(np.float64) for array in (added, log_decay, initial))
    added, log_decay, initial = wide
    expected = by_loop(added, log_decay, (False, True), initial)
    for result, reference in zip(got, expected, strict=True):
        assert np.abs(result - reference).max() < 2e-6 * np.abs(reference).max()


# One group, two of which the last is not full, and 32; a sequence with two groups of heads, and an image.
@pytest.mark.parametrize("chunks", [1, 9, 1928])
@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("adjoint", [False, True])
def test_the_kernel_equals_the_loop(chunks, passes, adjoint):
    geometry = Geometry(
        batch=2,
        height=4 * chunks,
        width=8,
        heads=3,
        head_width=2,
        states=2,
        units=2,
        passes=passes,
        dtype=jnp.float32,
        chunk=32,
        head_block=2,
        unroll=1,
        snapshot=16,
        rebuild=2,
        num_warps=1,
        num_stages=1,
        interpret=True,
    )
    backwards = [(k >= 2) != adjoint for k in range(geometry.slots)]
    run = jax.jit(functools.partial(triton_between_chunks.states_on_entry, geometry, adjoint=adjoint))
    for decay in (1e-8, 1e-2, 1.0, 500.0):
        arrays = draw(chunks, K=geometry.slots, decay=decay)
        added, log_decay, initial = (array.astype(np.float32) for array in arrays)
        entering, last = run(added.reshape(2, -1), log_decay, initial=initial)
        wide = (array.astype(np.float64) for array in (added, log_decay))
        expected, expected_last = by_loop(*wide, backwards, initial.astype(np.float64))
        entering = entering.reshape(geometry.states_shape)
        for result, reference in ((entering, expected), (last, expected_last)):
            assert np.abs(result - reference).max() < 2e-6 * np.abs(reference).max()

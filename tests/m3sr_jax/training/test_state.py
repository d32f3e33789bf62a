"""The schedule and the optimiser against their formulas, written out in float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3sr_jax.config import OptimConfig
from m3sr_jax.models import build_model, init_params
from m3sr_jax.training.optimizer import learning_rate_schedule, make_optimizer
from m3sr_jax.training.state import create_train_state

STEPS = 12
CONFIG = OptimConfig(learning_rate=4e-4, final_learning_rate=1e-6)
# One float32 rounding of 1 + cos near its zero, relative to the rate there.
RATE_TOLERANCE = 1e-5


def rates(config: OptimConfig) -> np.ndarray:
    low, high = config.final_learning_rate, config.learning_rate
    return low + (high - low) * (1 + np.cos(np.pi * np.arange(STEPS + 1) / STEPS)) / 2


def test_the_schedule_is_one_cosine_over_the_run_and_stays_at_its_end():
    schedule = learning_rate_schedule(CONFIG, STEPS)
    np.testing.assert_allclose([float(schedule(i)) for i in range(STEPS + 1)], rates(CONFIG), rtol=RATE_TOLERANCE)
    assert float(schedule(STEPS + 5)) == pytest.approx(1e-6)
    traced = jax.jit(schedule)(jnp.array(3))
    assert float(traced) == pytest.approx(rates(CONFIG)[3], rel=RATE_TOLERANCE)


@pytest.mark.parametrize("clip", [None, 0.5])
def test_updates_are_adams(clip):
    config = OptimConfig(final_learning_rate=1e-6, grad_clip=clip)
    optimizer = make_optimizer(config, STEPS)
    generator = np.random.default_rng(0)
    params = {"w": jnp.asarray(generator.standard_normal((3, 2)), jnp.float32)}
    state = optimizer.init(params)
    mean = square = np.zeros((3, 2))
    for i, rate in enumerate(rates(config)[:STEPS]):
        grad = generator.standard_normal((3, 2)).astype(np.float32)
        updates, state = jax.jit(optimizer.update)({"w": jnp.asarray(grad)}, state, params)
        grad = grad * min(1.0, clip / np.linalg.norm(grad)) if clip else grad
        mean, square = 0.9 * mean + 0.1 * grad, 0.999 * square + 0.001 * grad**2
        expected = -rate * (mean / (1 - 0.9 ** (i + 1))) / (np.sqrt(square / (1 - 0.999 ** (i + 1))) + 1e-8)
        np.testing.assert_allclose(updates["w"], expected, rtol=2e-5, atol=1e-6 * rate)


def test_a_state_starts_at_zero_from_the_given_parameters(toy):
    params = init_params(build_model(toy.model), jax.random.key(0))
    state = create_train_state(make_optimizer(CONFIG, STEPS), params)
    assert int(state.step) == 0
    assert state.params is params
    moments = jax.tree.leaves(state.opt_state)
    assert sum(leaf.size for leaf in moments) > 2 * sum(leaf.size for leaf in jax.tree.leaves(params))
    assert not any(np.any(leaf) for leaf in moments)

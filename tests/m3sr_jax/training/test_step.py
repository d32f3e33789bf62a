"""One step: the loss and gradient it reports, and what it does to the state."""

from functools import partial

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compilation import QUICK

from m3sr_jax.config import OptimConfig
from m3sr_jax.models import M3SR, build_model, init_params, parameter_shapes
from m3sr_jax.models.mpf import MPFBlock
from m3sr_jax.training.optimizer import make_optimizer
from m3sr_jax.training.state import create_train_state
from m3sr_jax.training.step import eval_step, jit_train_step, train_step

SUM_BAR = 1e-5  # a mean of 16,000 float32 numbers, summed in two orders
LOSSES_BAR = 1e-5  # relative, over 20 steps


@pytest.fixture
def made(toy):
    model, optimizer = build_model(toy.model), make_optimizer(OptimConfig(), 10)
    generator = np.random.default_rng(0)
    shapes = {"rgb": (2, 16, 16, 3), "cube": (2, 16, 16, 31)}
    batch = {name: jnp.asarray(generator.uniform(size=shape), jnp.float32) for name, shape in shapes.items()}
    return model, optimizer, create_train_state(optimizer, init_params(model, jax.random.key(0))), batch


def test_it_reports_the_loss_before_the_update_and_lowers_it(made):
    model, optimizer, state, batch = made
    prediction = eval_step(model, state.params, batch["rgb"])
    after, metrics = train_step(model, optimizer, state, batch)
    assert float(metrics["loss"]) == pytest.approx(float(np.abs(prediction - batch["cube"]).mean()), rel=SUM_BAR)
    assert int(after.step) == 1
    assert float(train_step(model, optimizer, after, batch)[1]["loss"]) < float(metrics["loss"])


def test_the_gradient_norm_is_that_of_the_loss(made):
    model, optimizer, state, batch = made

    def loss(params):
        return jnp.mean(jnp.abs(model.apply({"params": params}, batch["rgb"]) - batch["cube"]))

    squares = [float(jnp.sum(leaf**2)) for leaf in jax.tree.leaves(jax.grad(loss)(state.params))]
    assert float(train_step(model, optimizer, state, batch)[1]["grad_norm"]) == pytest.approx(
        sum(squares) ** 0.5, rel=1e-5
    )


def test_compiled_it_takes_over_the_memory_and_is_compiled_once(made):
    model, optimizer, state, batch = made
    step = jit_train_step(model, optimizer)
    held = jax.tree.leaves(state.params)[0]
    for _ in range(3):
        state, _ = step(state, batch)
    assert held.is_deleted()
    assert step._cache_size() == 1


def test_evaluation_is_float32_whatever_computes(toy, made):
    _, _, state, batch = made
    half = jax.tree.map(lambda leaf: leaf.astype(jnp.bfloat16), state.params)
    assert eval_step(build_model(toy.model), half, batch["rgb"].astype(jnp.bfloat16)).dtype == jnp.float32


def test_parts_in_turn_give_the_step_of_the_whole_batch(made):
    model, optimizer, state, batch = made
    batch = {name: jnp.concatenate([values, 0.5 * values]) for name, values in batch.items()}
    (whole, expected), (parts, found) = (
        jax.jit(partial(train_step, model, optimizer, accumulate_steps=count))(state, batch) for count in (1, 4)
    )
    for name in expected:
        assert float(found[name]) == pytest.approx(float(expected[name]), rel=1e-6)
    # Of the moments, since Adam's first update is the gradient's sign alone.
    for ours, theirs in zip(jax.tree.leaves(parts.opt_state), jax.tree.leaves(whole.opt_state), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-8)


def test_the_running_mean_follows_the_parameters(made):
    model, optimizer, state, batch = made
    state = create_train_state(optimizer, state.params, ema=True)
    expected = jax.tree.leaves(state.params)
    for step in range(1, 4):
        state, _ = train_step(model, optimizer, state, batch, ema_decay=0.3)
        decay = min(0.3, (1 + step) / (10 + step))
        expected = [decay * m + (1 - decay) * p for m, p in zip(expected, jax.tree.leaves(state.params), strict=True)]
    assert state.scored is state.ema
    for ours, theirs in zip(jax.tree.leaves(state.ema), expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)


def test_in_bfloat16_state_loss_and_updates_are_float32(made):
    _, optimizer, _, batch = made
    model = M3SR(features=4, num_groups=2, dtype=jnp.bfloat16, implementation="reference")
    state = jax.eval_shape(partial(create_train_state, optimizer, ema=True), parameter_shapes(model))
    after, metrics = jax.eval_shape(partial(train_step, model, optimizer, ema_decay=0.9), state, batch)
    assert {leaf.dtype for leaf in jax.tree.leaves((after, metrics))} == {jnp.dtype("float32"), jnp.dtype("int32")}
    assert jax.tree.map(lambda leaf: leaf.dtype, after) == jax.tree.map(lambda leaf: leaf.dtype, state)
    assert metrics["loss"].dtype == jnp.float32


class Dropping(nn.Module):
    """Keeps or drops each example at random."""

    @nn.compact
    def __call__(self, rgb):
        kept = jax.random.bernoulli(self.make_rng("dropout"), 0.5, (len(rgb), 1, 1, 1))
        return self.param("scale", nn.initializers.ones, ()) * jnp.where(kept, rgb, 0)


WIDTH = 8


def draws(seed=0, step=0, groups=1, **options):
    """Which of `WIDTH` examples a step keeps, in each of several devices or parts of a batch."""
    optimizer = make_optimizer(OptimConfig(), 10)
    state = create_train_state(optimizer, {"scale": jnp.ones(())}).replace(step=jnp.array(step))
    # Codes of one bit, of which the loss sums those that are kept.
    codes = jnp.zeros((groups * WIDTH, 1, 1, 3)).at[:, 0, 0, 0].set(2.0 ** np.arange(groups * WIDTH, dtype=np.float32))
    batch = {"rgb": codes, "cube": jnp.zeros_like(codes)}
    take = partial(train_step, Dropping(), optimizer, loss_fn=lambda kept, _: kept.sum(), seed=seed, **options)
    if options.get("axis"):
        batch = jax.tree.map(lambda values: values.reshape(groups, WIDTH, 1, 1, 3), batch)
        take = jax.vmap(take, in_axes=(None, 0), axis_name=options["axis"])
    code = round(groups * float(take(state, batch)[1]["loss"].ravel()[0]))
    return [tuple(code >> (group * WIDTH + i) & 1 for i in range(WIDTH)) for group in range(groups)]


def test_random_draws_depend_on_seed_and_step_alone():
    assert draws(seed=1, step=3) == draws(seed=1, step=3)
    assert len({draws(seed, step)[0] for seed in range(2) for step in range(2)}) == 4


@pytest.mark.parametrize("options", [{"accumulate_steps": 2}, {"axis": "batch"}])
def test_each_part_of_a_batch_and_each_device_draws_its_own(options):
    first, second = draws(groups=2, **options)
    assert first != second


class OneBlock(nn.Module):
    """M3SR without its U-Net, to compile it in a fifth of the time."""

    implementation: str

    @nn.compact
    def __call__(self, rgb):
        x = nn.Dense(16, name="widen")(rgb)
        return nn.Dense(31, name="out")(MPFBlock(num_groups=2, implementation=self.implementation, name="block")(x))


def test_native_kernels_train_as_xla_code_does():
    def losses(implementation):
        model, optimizer = OneBlock(implementation), make_optimizer(OptimConfig(), 20)
        rng = np.random.default_rng(0)
        params = jax.tree.map(lambda leaf: 0.1 * rng.standard_normal(leaf.shape, np.float32), parameter_shapes(model))
        state = create_train_state(optimizer, jax.tree.map(jnp.asarray, params))
        step, found = None, []
        for _ in range(20):
            shapes = {"rgb": (2, 16, 16, 3), "cube": (2, 16, 16, 31)}
            batch = {name: jnp.asarray(rng.random(shape, np.float32)) for name, shape in shapes.items()}
            if step is None:  # it runs for a second
                step = jit_train_step(model, optimizer).lower(state, batch).compile(QUICK)
            state, metrics = step(state, batch)
            found.append(float(metrics["loss"]))
        return found

    np.testing.assert_allclose(losses("native"), losses("xla"), rtol=LOSSES_BAR)

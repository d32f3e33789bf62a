"""One training step and one evaluation step, as pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jax.sharding import Mesh
from jax.sharding import PartitionSpec as P
from jaxtyping import Array, Float

from m3sr_jax.training.devices import BATCH_AXIS
from m3sr_jax.training.losses import Loss, mae
from m3sr_jax.training.state import TrainState, running_mean

Batch = dict[str, Any]
Metrics = dict[str, Float[Array, ""]]


def train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    state: TrainState,
    batch: Batch,
    loss_fn: Loss = mae,
    *,
    accumulate_steps: int = 1,
    ema_decay: float | None = None,
    axis: str | None = None,
) -> tuple[TrainState, Metrics]:
    """One update.

    Args:
        model: Linen module, (B, H, W, 3) → (B, H, W, S).
        optimizer: as given to `create_train_state`.
        state: parameters and optimiser state before the update.
        batch: "rgb" (B, H, W, 3) and "cube" (B, H, W, S), float32 in [0, 1].
        loss_fn: what is made small, a mean over the batch; by default the paper's mean absolute error.
        accumulate_steps: equal parts of the batch that are computed one after the other; it divides B.
        ema_decay: of the running mean in the state, see `running_mean`.
        axis: mapped axis over which the batch is cut; loss and gradient become means over it, the only place where
            devices meet.

    Returns:
        The state after the update, and "loss" and "grad_norm" (global L2 norm), both taken before it.

    Source: paper section "Implementation details" (MAE, Adam).
    """
    # For networks that drop paths at random; a key of the step alone, so that a resumed run draws the same.
    dropout = jax.random.fold_in(jax.random.key(0), state.step)

    def loss_of(params: Any, part: Batch, place: tuple[int, Any] | None = None) -> Float[Array, ""]:
        return loss_fn(_predict(model, params, part["rgb"], {"dropout": dropout}, place), part["cube"])

    gradient = jax.value_and_grad(loss_of)
    if accumulate_steps == 1 and axis is None:
        loss, grads = gradient(state.params, batch)
    else:
        loss, grads = _mean_gradient(gradient, state.params, batch, accumulate_steps, axis)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema if ema_decay is None else running_mean(state.ema, params, state.step + 1, ema_decay)
    metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads)}
    return TrainState(step=state.step + 1, params=params, opt_state=opt_state, ema=ema), metrics


def _mean_gradient(
    gradient: Callable[..., Any], params: Any, batch: Batch, parts: int, axis: str | None
) -> tuple[Float[Array, ""], Any]:
    """Returns loss and gradient of the whole batch: the mean over its equal parts, in turn here and over all devices.

    Each part is told its place among the examples of the whole batch, so that it draws what they would draw there.
    """
    here = len(batch["rgb"])
    shards, shard = (1, 0) if axis is None else (jax.lax.axis_size(axis), jax.lax.axis_index(axis))

    def part_gradient(part: Batch, index: Any) -> Any:
        return gradient(params, part, (here * shards, shard * here + index * (here // parts)))

    if parts == 1:
        total = part_gradient(batch, 0)
    else:
        stacked = jax.tree.map(lambda values: values.reshape(parts, -1, *values.shape[1:]), batch)
        zeros = jax.eval_shape(lambda: part_gradient(jax.tree.map(lambda values: values[0], stacked), 0))
        start = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), zeros)

        def add(total: Any, part: Any) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, total, part_gradient(*part)), None

        total, _ = jax.lax.scan(add, start, (stacked, jnp.arange(parts)))
        total = jax.tree.map(lambda leaf: leaf / parts, total)
    return total if axis is None else jax.lax.pmean(total, axis)


def eval_step(model: nn.Module, params: Any, rgb: Float[Array, "B H W 3"]) -> Float[Array, "B H W S"]:
    """Reconstructs cubes in float32, not clamped, from RGB in [0, 1]."""
    return _predict(model, params, rgb).astype(jnp.float32)


def jit_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    loss_fn: Loss = mae,
    *,
    accumulate_steps: int = 1,
    ema_decay: float | None = None,
    mesh: Mesh | None = None,
) -> Callable[..., Any]:
    """Returns `train_step` compiled for one model and loss; it takes over the memory of the state it is given.

    Args:
        model: see `train_step`, as the others that it shares.
        optimizer: see there.
        loss_fn: see there.
        accumulate_steps: parts of each device's share of the batch.
        ema_decay: see there.
        mesh: devices, along `BATCH_AXIS`, over which batches are cut and the state is replicated. A batch then also has
            "stop", a number for each device, and the metrics have the largest of them. The step runs under `shard_map`,
            since the scans' GPU kernels cannot be partitioned by the compiler.
    """

    def step(state: TrainState, batch: Batch, axis: str | None = None) -> tuple[TrainState, Metrics]:
        options: dict[str, Any] = {"accumulate_steps": accumulate_steps, "ema_decay": ema_decay, "axis": axis}
        return train_step(model, optimizer, state, batch, loss_fn, **options)

    def sharded(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        examples = {key: value for key, value in batch.items() if key != "stop"}
        state, metrics = step(state, examples, BATCH_AXIS)
        return state, metrics | {"stop": jax.lax.pmax(batch["stop"][0], BATCH_AXIS)}

    if mesh is None:
        return jax.jit(step, donate_argnums=0)
    # check_vma=True would reduce the gradient a second time by itself, and does not know the kernels.
    mapped = jax.shard_map(sharded, mesh=mesh, in_specs=(P(), P(BATCH_AXIS)), out_specs=P(), check_vma=False)
    return jax.jit(mapped, donate_argnums=0)


def _predict(
    model: nn.Module,
    params: Any,
    rgb: Float[Array, "B H W 3"],
    rngs: dict[str, jax.Array] | None = None,
    place: tuple[int, Any] | None = None,
) -> Float[Array, "B H W S"]:
    """Applies the model; `place` is (examples of the whole batch, index there of the first one here)."""
    variables = {"params": params} if place is None else {"params": params, "examples": {"place": place}}
    cube = model.apply(variables, rgb, rngs=rngs)
    assert isinstance(cube, jax.Array)  # no mutable collections, so no second value
    return cube

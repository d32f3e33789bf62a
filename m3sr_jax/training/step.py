"""One training step and one evaluation step, as pure functions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
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
    seed: int = 0,
    accumulate_steps: int = 1,
    ema_decay: float | None = None,
    axis: str | None = None,
) -> tuple[TrainState, Metrics]:
    """One update.

    Args:
        model: Linen module, (B, H, W, 3) → (B, H, W, S).
        optimizer: the one given to `create_train_state`.
        state: parameters and optimiser state before the update.
        batch: "rgb" (B, H, W, 3) and "cube" (B, H, W, S), float32 in [0, 1]; with augmentation also "clipped"
            (B, H, W), pixels that count as reconstructed.
        loss_fn: the objective to minimise, a mean over the batch; by default the paper's mean absolute error.
        seed: of the random draws in the network, such as dropped paths, 0 ≤ seed < 2³². They depend on seed and step
            alone, so that a resumed run repeats them; each device and each part of a batch has its own.
        accumulate_steps: number of equal parts of the batch that are computed one after the other; it divides B.
        ema_decay: decay of the running mean in the state, see `running_mean`.
        axis: mapped axis along which the batch is sharded. Loss and gradient are averaged over it, which is the only
            communication between devices.

    Returns:
        The state after the update, and "loss" and "grad_norm" (global L2 norm), both taken before it.

    Source: paper section "Implementation details" (MAE, Adam).
    """
    key = jax.random.fold_in(jax.random.key(seed), state.step)
    if axis is not None:
        key = jax.random.fold_in(key, jax.lax.axis_index(axis))

    def loss_of(params: Any, part: Batch, dropout: Array) -> Float[Array, ""]:
        cube = _predict(model, params, part["rgb"], {"dropout": dropout})
        if "clipped" in part:  # where the prediction is the truth, every loss and its gradient are zero
            cube = jnp.where(part["clipped"][..., None], part["cube"].astype(cube.dtype), cube)
        return loss_fn(cube, part["cube"])

    loss, grads = _mean_gradient(jax.value_and_grad(loss_of), state.params, batch, key, accumulate_steps)
    if axis is not None:
        loss, grads = jax.lax.pmean((loss, grads), axis)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    ema = state.ema if ema_decay is None else running_mean(state.ema, params, state.step + 1, ema_decay)
    metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads)}
    return TrainState(step=state.step + 1, params=params, opt_state=opt_state, ema=ema), metrics


def _mean_gradient(gradient: Callable[..., Any], params: Any, batch: Batch, key: Array, parts: int) -> tuple[Any, Any]:
    """Returns loss and gradient of a batch as the mean over `parts` equal parts, computed in turn."""
    if parts == 1:
        return gradient(params, batch, key)
    stacked = jax.tree.map(lambda values: values.reshape(parts, -1, *values.shape[1:]), batch)
    shapes = jax.eval_shape(gradient, params, jax.tree.map(lambda values: values[0], stacked), key)
    zeros = jax.tree.map(lambda leaf: jnp.zeros(leaf.shape, leaf.dtype), shapes)

    def add(total: Any, indexed_part: Any) -> tuple[Any, None]:
        index, part = indexed_part
        return jax.tree.map(jnp.add, total, gradient(params, part, jax.random.fold_in(key, index))), None

    total, _ = jax.lax.scan(add, zeros, (jnp.arange(parts), stacked))
    return jax.tree.map(lambda leaf: leaf / parts, total)


def eval_step(model: nn.Module, params: Any, rgb: Float[Array, "B H W 3"]) -> Float[Array, "B H W S"]:
    """Reconstructs cubes in float32, not clamped, from RGB in [0, 1]."""
    return _predict(model, params, rgb).astype(jnp.float32)


def jit_train_step(
    model: nn.Module,
    optimizer: optax.GradientTransformation,
    loss_fn: Loss = mae,
    *,
    mesh: Mesh | None = None,
    **options: Any,
) -> Callable[[TrainState, Batch], tuple[TrainState, Metrics]]:
    """Returns `train_step` compiled for one model and loss; it reuses the memory of the state it is given.

    Args:
        model: see `train_step`.
        optimizer: see `train_step`.
        loss_fn: see `train_step`.
        mesh: devices, along `BATCH_AXIS`, over which batches are sharded and the state is replicated. Batches then also
            contain "stop", a number for each device, and the metrics contain their maximum. The step runs under
            `shard_map`, since the compiler cannot partition the scans' GPU kernels.
        **options: `seed`, `accumulate_steps` (parts of each device's shard) and `ema_decay` of `train_step`.
    """
    step = partial(train_step, model, optimizer, loss_fn=loss_fn, **options)

    def sharded(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        examples = {key: value for key, value in batch.items() if key != "stop"}
        state, metrics = step(state, examples, axis=BATCH_AXIS)
        return state, metrics | {"stop": jax.lax.pmax(batch["stop"][0], BATCH_AXIS)}

    if mesh is None:
        return jax.jit(step, donate_argnums=0)
    # check_vma=True would reduce the gradient a second time by itself, and does not know the kernels.
    mapped = jax.shard_map(sharded, mesh=mesh, in_specs=(P(), P(BATCH_AXIS)), out_specs=P(), check_vma=False)
    return jax.jit(mapped, donate_argnums=0)


def _predict(
    model: nn.Module, params: Any, rgb: Float[Array, "B H W 3"], rngs: dict[str, Array] | None = None
) -> Float[Array, "B H W S"]:
    cube = model.apply({"params": params}, rgb, rngs=rngs)
    assert isinstance(cube, jax.Array)  # no mutable collections, so no second value
    return cube

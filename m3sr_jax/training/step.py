"""One training step and one evaluation step, as pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from m3sr_jax.losses import Loss, mae
from m3sr_jax.training.state import TrainState

Batch = dict[str, Any]
Metrics = dict[str, Float[Array, ""]]


def train_step(
    model: nn.Module, optimizer: optax.GradientTransformation, state: TrainState, batch: Batch, loss_fn: Loss = mae
) -> tuple[TrainState, Metrics]:
    """One update.

    Args:
        model: Linen module, (B, H, W, 3) → (B, H, W, S).
        optimizer: as given to `create_train_state`.
        state: parameters and optimiser state before the update.
        batch: "rgb" (B, H, W, 3) and "cube" (B, H, W, S), float32 in [0, 1].
        loss_fn: what is made small; by default the paper's mean absolute error.

    Returns:
        The state after the update, and "loss" and "grad_norm" (global L2 norm), both taken before it.

    Source: paper section "Implementation details" (MAE, Adam).
    """
    # For networks that drop paths at random; a key of the step alone, so that a resumed run draws the same.
    dropout = jax.random.fold_in(jax.random.key(0), state.step)

    def loss_of(params: Any) -> Float[Array, ""]:
        return loss_fn(_predict(model, params, batch["rgb"], {"dropout": dropout}), batch["cube"])

    loss, grads = jax.value_and_grad(loss_of)(state.params)
    updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
    params = optax.apply_updates(state.params, updates)
    metrics = {"loss": loss, "grad_norm": optax.tree.norm(grads)}
    return TrainState(step=state.step + 1, params=params, opt_state=opt_state), metrics


def eval_step(model: nn.Module, params: Any, rgb: Float[Array, "B H W 3"]) -> Float[Array, "B H W S"]:
    """Reconstructs cubes in float32, not clamped, from RGB in [0, 1]."""
    return _predict(model, params, rgb).astype(jnp.float32)


def jit_train_step(
    model: nn.Module, optimizer: optax.GradientTransformation, loss_fn: Loss = mae
) -> Callable[..., Any]:
    """Returns `train_step` compiled for one model and loss; it takes over the memory of the state it is given."""

    def step(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        return train_step(model, optimizer, state, batch, loss_fn)

    return jax.jit(step, donate_argnums=0)


def _predict(
    model: nn.Module, params: Any, rgb: Float[Array, "B H W 3"], rngs: dict[str, jax.Array] | None = None
) -> Float[Array, "B H W S"]:
    cube = model.apply({"params": params}, rgb, rngs=rngs)
    assert isinstance(cube, jax.Array)  # no mutable collections, so no second value
    return cube

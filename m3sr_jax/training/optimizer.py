"""Optimisers and the learning rate's schedule."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from m3sr_jax.config import OptimConfig
from m3sr_jax.models.base import FIXED


def learning_rate_schedule(config: OptimConfig, num_steps: int) -> Callable[[Any], Float[Array, ""]]:
    """Returns the learning rate as a function of the number of updates done.

    Update i of T uses lr_i = f + (l − f)·(1 + cos(πi/T))/2 with l = `learning_rate` and f = `final_learning_rate`;
    schedule_free uses l throughout. Over the first `warmup_steps` w the rate is also multiplied by (i + 1)/w.

    Source: paper section "Implementation details" (cosine annealing); Loshchilov & Hutter 2017, one cycle.
    """
    span = config.learning_rate - config.final_learning_rate

    def cosine(step: Any) -> Float[Array, ""]:
        progress = jnp.clip(jnp.asarray(step).astype(jnp.result_type(float)) / num_steps, 0.0, 1.0)
        return config.final_learning_rate + span * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))

    def schedule(step: Any) -> Float[Array, ""]:
        constant = config.name == "schedule_free"
        rate = jnp.asarray(config.learning_rate, jnp.result_type(float)) if constant else cosine(step)
        if not config.warmup_steps:
            return rate
        done = jnp.asarray(step).astype(jnp.result_type(float)) + 1.0
        return rate * jnp.minimum(done / config.warmup_steps, 1.0)

    return schedule


def make_optimizer(config: OptimConfig, num_steps: int) -> optax.GradientTransformation:
    """Returns the optimiser on `learning_rate_schedule`, after clipping by global norm if configured.

    adam           Adam(0.9, 0.999, ε 1e-8), the paper's
    adamw          Adam with weight decay
    muon           orthogonalised momentum for matrices, Adam for all other parameters, convolutions among them
    schedule_free  Adam whose averages take the place of a schedule; they are what is scored

    The coefficients of a fitted base are never changed.

    Source: paper section "Implementation details"; Loshchilov & Hutter 2019 (AdamW); Jordan et al. 2024 (Muon); Defazio
    et al., "The Road Less Scheduled", 2024.
    """
    rate = learning_rate_schedule(config, num_steps)
    if config.name == "schedule_free":
        # Adam without momentum, which the interpolation replaces.
        adam = optax.rmsprop(rate, decay=0.999, eps=1e-8, eps_in_sqrt=False, bias_correction=True)
        optimizer = optax.contrib.schedule_free(_clipped(config, adam), rate, b1=0.9)
    elif config.name == "muon":
        optimizer = _clipped(config, optax.contrib.muon(rate, weight_decay=config.weight_decay))
    elif config.name == "adamw":
        optimizer = _clipped(config, optax.adamw(rate, b1=0.9, b2=0.999, eps=1e-8, weight_decay=config.weight_decay))
    else:
        optimizer = _clipped(config, optax.adam(rate, b1=0.9, b2=0.999, eps=1e-8))

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        # optax raises Python floats to its integer counts, and its Muon multiplies matrices.
        with jax.numpy_dtype_promotion("standard"), jax.default_matmul_precision("highest"):
            changes, state = optimizer.update(updates, state, params)
        return jax.tree_util.tree_map_with_path(_unless_fitted, changes), state

    return optax.GradientTransformation(optimizer.init, update)


def _clipped(config: OptimConfig, optimizer: optax.GradientTransformation) -> optax.GradientTransformation:
    if config.grad_clip is None:
        return optimizer
    return optax.chain(optax.clip_by_global_norm(config.grad_clip), optimizer)


def _unless_fitted(path: Any, change: Any) -> Any:
    # Weight decay and rounding would change these, though their gradient is zero.
    return jnp.zeros_like(change) if path and getattr(path[0], "key", None) in FIXED else change

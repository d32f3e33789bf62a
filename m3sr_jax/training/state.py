"""What training carries from one step to the next: parameters, optimiser state, step counter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from m3sr_jax.config import OptimConfig


@flax.struct.dataclass
class TrainState:
    """A pytree of arrays, or, as a template, of their shapes.

    Attributes:
        step: number of updates done, int32.
        params: the model's parameters.
        opt_state: the optimiser's state.
        ema: running mean of the parameters, float32; None if the run keeps none.
    """

    step: Any
    params: Any
    opt_state: Any
    ema: Any = None

    @property
    def scored(self) -> Any:
        """The parameters to evaluate and to keep as the best: the running mean if there is one."""
        return self.params if self.ema is None else self.ema


def learning_rate_schedule(config: OptimConfig, num_steps: int) -> Callable[[Any], Float[Array, ""]]:
    """Returns the cosine schedule over the whole run, as a function of the number of updates done.

    Update i of T uses lr_i = f + (l − f)·(1 + cos(πi/T))/2 with l = `learning_rate` and f = `final_learning_rate`.

    Source: paper section "Implementation details" (cosine annealing); Loshchilov & Hutter 2017, one cycle.
    """
    span = config.learning_rate - config.final_learning_rate

    def schedule(step: Any) -> Float[Array, ""]:
        progress = jnp.clip(jnp.asarray(step).astype(jnp.result_type(float)) / num_steps, 0.0, 1.0)
        return config.final_learning_rate + span * 0.5 * (1.0 + jnp.cos(jnp.pi * progress))

    return schedule


def make_optimizer(config: OptimConfig, num_steps: int) -> optax.GradientTransformation:
    """Returns Adam(0.9, 0.999, ε 1e-8) on `learning_rate_schedule`, after clipping by global norm if configured.

    Source: paper section "Implementation details".
    """
    optimizer = optax.adam(learning_rate_schedule(config, num_steps), b1=0.9, b2=0.999, eps=1e-8)
    if config.grad_clip is not None:
        optimizer = optax.chain(optax.clip_by_global_norm(config.grad_clip), optimizer)

    def update(updates: Any, state: Any, params: Any = None) -> Any:
        with jax.numpy_dtype_promotion("standard"):  # optax raises Python floats to its integer counts
            return optimizer.update(updates, state, params)

    return optax.GradientTransformation(optimizer.init, update)


def create_train_state(optimizer: optax.GradientTransformation, params: Any, *, ema: bool = False) -> TrainState:
    """Returns the state before the first update.

    Args:
        optimizer: creates the optimiser state.
        params: the parameters to start from, such as `models.init_params` of a model.
        ema: also keep a running mean of the parameters.
    """
    mean = jax.tree.map(lambda leaf: jnp.array(leaf, jnp.float32), params) if ema else None
    return TrainState(step=jnp.zeros((), jnp.int32), params=params, opt_state=optimizer.init(params), ema=mean)


def running_mean(mean: Any, params: Any, step: Any, decay: float) -> Any:
    """Returns m ← d·m + (1 − d)·θ with d = min(decay, (1 + t)/(10 + t)): the ramp soon forgets the initial values.

    Args:
        mean: m, float32.
        params: θ after update t.
        step: t, from 1.
        decay: upper limit of d, below 1.

    Source: the ramp is that of tf.train.ExponentialMovingAverage.
    """
    count = jnp.asarray(step).astype(jnp.float32)
    kept = jnp.minimum(jnp.asarray(decay, jnp.float32), (1.0 + count) / (10.0 + count))
    return jax.tree.map(lambda m, theta: kept * m + (1.0 - kept) * theta.astype(m.dtype), mean, params)

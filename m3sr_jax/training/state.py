"""What training carries from one step to the next: parameters, optimiser state, step counter."""

from __future__ import annotations

from typing import Any

import flax.struct
import jax
import jax.numpy as jnp
import optax


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
        """The parameters to evaluate and to keep as the best: a running mean, of the run or its optimiser, if any."""
        if self.ema is not None or not isinstance(self.opt_state, optax.contrib.ScheduleFreeState):
            return self.params if self.ema is None else self.ema
        with jax.numpy_dtype_promotion("standard"):
            return optax.contrib.schedule_free_eval_params(self.opt_state, self.params)


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

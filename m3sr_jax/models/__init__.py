"""The networks, by name."""

from __future__ import annotations

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from m3sr_jax.config import ModelConfig
from m3sr_jax.errors import InputError
from m3sr_jax.models.baselines import GMSR, ESSAformer, FMNet, HRNet, HSCNNPlus, HSRNet, MSTPlusPlus
from m3sr_jax.models.m3sr import M3SR

__all__ = ["M3SR", "build_model", "create", "init_params", "model_fields", "parameter_shapes"]

_MODELS: dict[str, type[nn.Module]] = {
    "m3sr": M3SR,
    "mst_plus_plus": MSTPlusPlus,
    "hscnn_plus": HSCNNPlus,
    "hrnet": HRNet,
    "gmsr": GMSR,
    "hsrnet": HSRNet,
    "fmnet": FMNet,
    "essaformer": ESSAformer,
}
_SMALL_IMAGE = (1, 8, 8, 3)


def create(name: str, **fields) -> nn.Module:
    """Builds a network.

    Args:
      name: "m3sr", "mst_plus_plus", "hscnn_plus", "hrnet", "gmsr", "hsrnet", "fmnet" or "essaformer".
      **fields: the fields of its class, see `M3SR` and `m3sr_jax.models.baselines`.

    Returns:
      A Linen module: `init(key, rgb)["params"]`, `apply({"params": params}, rgb)`.

    Raises:
      ValueError: no such network, or a field it does not take or cannot use.
    """
    known = model_fields(name)
    if unknown := sorted(set(fields) - known):
        raise ValueError(f"model {name!r} has no field {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    return _MODELS[name](**fields)


def build_model(config: ModelConfig) -> nn.Module:
    """Returns the Linen module that a configuration describes.

    Args:
      config: which network, and its fields.

    Raises:
      InputError: the model refuses a field (an unknown network or wavelet, say).
    """
    try:
        taken = model_fields(config.name)
        fields = {f.name: getattr(config, f.name) for f in dataclasses.fields(config) if f.name != "name"}
        changed = {f.name for f in dataclasses.fields(config) if getattr(config, f.name) != f.default}
        fields = {name: value for name, value in fields.items() if name in taken or name in changed}
        for name in {"dtype", "param_dtype"} & set(fields):
            fields[name] = jnp.dtype(fields[name])
        return create(config.name, **fields)
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"config group model: {error}") from error


def model_fields(name: str) -> set[str]:
    """Names the fields that a network takes.

    Raises:
      ValueError: no such network.
    """
    if name not in _MODELS:
        raise ValueError(f"no model is called {name!r}: expected one of {', '.join(sorted(_MODELS))}")
    return set(_MODELS[name].__dataclass_fields__) - {"parent", "name"}


def init_params(model: nn.Module, key: jax.Array) -> dict:
    """Draws the parameters a network starts training from.

    The same numbers as `model.init(key, rgb)["params"]`, and far sooner: nothing but the draws is run, and those are
    compiled without the optimisations that a single use cannot repay.

    Args:
      model: a network that takes RGB images.
      key: a key of `jax.random.key`.

    Returns:
      Nested dict of arrays of the model's `param_dtype`.
    """
    draw = jax.jit(_by_plain_scans(model).init, compiler_options={"xla_backend_optimization_level": 0})
    return draw(key, jnp.zeros(_SMALL_IMAGE))["params"]


def parameter_shapes(model: nn.Module) -> dict:
    """Gives the parameter tree of a network that takes RGB images with a `jax.ShapeDtypeStruct` for each array."""
    image = jax.ShapeDtypeStruct(_SMALL_IMAGE, jnp.float32)
    tree: Any = jax.eval_shape(_by_plain_scans(model).init, jax.random.key(0), image)
    return tree["params"]


def _by_plain_scans(model: nn.Module) -> nn.Module:
    # The parameters are the same whichever kernels scan, and the plain loop is traced in a tenth of the time.
    return model.clone(implementation="reference") if hasattr(model, "implementation") else model

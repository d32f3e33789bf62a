"""Networks by name, with their fields and parameters."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from m3sr_kernels import Implementation

from m3sr_jax.config import ModelConfig
from m3sr_jax.config.names import BASE_FIELDS
from m3sr_jax.errors import InputError, shortened
from m3sr_jax.models.base import WithBase
from m3sr_jax.models.m3sr import M3SR
from m3sr_jax.networks import NETWORKS, Network, load

__all__ = ["M3SR", "build_model", "create", "init_params", "parameter_shapes", "with_scans"]

_SMALL_IMAGE = (1, 8, 8, 3)


def create(name: str, **fields) -> nn.Module:
    """Builds a network.

    Args:
      name: a name of `m3sr_jax.networks.NETWORKS`, such as "m3sr".
      **fields: the fields of its class, see `M3SR` and `m3sr_jax.models.baselines`.

    Returns:
      A Linen module: `init(key, rgb)["params"]`, `apply({"params": params}, rgb)`.

    Raises:
      ValueError: there is no such network, or it does not take a field or its value.
    """
    known = _entry(name).fields
    if unknown := sorted(set(fields) - known):
        raise ValueError(f"model {name} has no field {', '.join(unknown)}; it has {', '.join(sorted(known))}")
    return load(_entry(name).model)(**fields)


def build_model(config: ModelConfig) -> nn.Module:
    """Returns the Linen module that a configuration describes, on a base if it names one.

    Args:
      config: the network's name and fields; a field that the network does not take must keep its default.

    Raises:
      InputError: the network is unknown, or it does not take a field or its value (an unknown wavelet, say); or the
        number of bands is unset, which only training data can tell.
    """
    if config.num_bands is None:
        raise InputError(
            "config field model.num_bands: unset, and there are no data to take it from; set it, to 31, say"
        )
    try:
        changed = {f.name for f in dataclasses.fields(config) if getattr(config, f.name) != f.default}
        own = _entry(config.name).fields
        with_base = own.isdisjoint(BASE_FIELDS) and not changed.isdisjoint(BASE_FIELDS)
        given = (own | changed) - {"name", *(BASE_FIELDS if with_base else ())}
        fields = {name: value for name, value in dataclasses.asdict(config).items() if name in given}
        for name in fields.keys() & {"dtype", "param_dtype"}:
            fields[name] = jnp.dtype(fields[name])
        network = create(config.name, **fields)
        if not with_base:
            return network
        types: Any = {name: jnp.dtype(getattr(config, name)) for name in ("dtype", "param_dtype")}
        base = {name: getattr(config, name) for name in (*BASE_FIELDS, "matmul_precision")}
        return WithBase(network, num_bands=config.num_bands, **base, **types)
    except (TypeError, ValueError, KeyError) as error:
        raise InputError(f"config group model: {error}") from error


def _entry(name: str) -> Network:
    if name not in NETWORKS:
        raise ValueError(f"no model is called {name}: expected one of {', '.join(sorted(NETWORKS))}")
    return NETWORKS[name]


def init_params(model: nn.Module, key: jax.Array) -> dict:
    """Draws the parameters from which training starts.

    Returns the same numbers as `model.init(key, rgb)["params"]`, but much sooner: it runs the draws alone, compiled
    without optimisations that a single use cannot repay.

    Args:
      model: a network that takes RGB images.
      key: a key of `jax.random.key`.

    Returns:
      Nested dict of arrays of the model's `param_dtype`.
    """
    draw = jax.jit(with_scans(model, "reference").init, compiler_options={"xla_backend_optimization_level": 0})
    return draw(key, jnp.zeros(_SMALL_IMAGE))["params"]


def parameter_shapes(model: nn.Module) -> dict:
    """Returns the parameter tree of a network that takes RGB images, with a `jax.ShapeDtypeStruct` for each array."""
    image = jax.ShapeDtypeStruct(_SMALL_IMAGE, jnp.float32)
    tree: Any = jax.eval_shape(with_scans(model, "reference").init, jax.random.key(0), image)
    return tree["params"]


def shapes_of(tree: Any) -> dict[str, tuple[int, ...]]:
    """Returns "unet_0/…/kernel" → shape for the arrays of a nested dict, or for what describes them."""
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {"/".join(str(key.key) for key in keys): tuple(leaf.shape) for keys, leaf in leaves}


def check_shapes(
    what: str,
    found: Mapping[str, tuple[int, ...]],
    wanted: Mapping[str, tuple[int, ...]],
    remedy: str = "check the model's name and fields",
) -> None:
    """Raises InputError, which lists what differs, unless names and shapes are exactly those wanted."""
    shared = [name for name in wanted if name in found]
    faults = {
        "missing": [name for name in wanted if name not in found],
        "unknown": [name for name in found if name not in wanted],
        "of another shape": [f"{n} {found[n]} instead of {wanted[n]}" for n in shared if found[n] != wanted[n]],
    }
    if listed := "; ".join(f"{len(keys)} {fault}: {shortened(keys)}" for fault, keys in faults.items() if keys):
        raise InputError(f"{what} do not fit the model ({listed}); {remedy}")


def with_scans(model: nn.Module, implementation: Implementation) -> nn.Module:
    """Returns the network with another implementation of its scans, or as it is if it has none.

    The parameters do not depend on the implementation, and JAX traces the plain loop ("reference") in a tenth of the
    time.
    """
    if isinstance(model, WithBase):
        return model.clone(network=with_scans(model.network, implementation))
    return model.clone(implementation=implementation) if hasattr(model, "implementation") else model

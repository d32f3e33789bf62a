"""Converts parameters between a release's layout (channels first) and ours, strictly, in both directions."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util

from m3sr_jax.config.names import BASE_FIELDS
from m3sr_jax.convert.layout import Tensor
from m3sr_jax.convert.m3sr import m3sr_modules
from m3sr_jax.errors import InputError, shortened
from m3sr_jax.models import M3SR, check_shapes, parameter_shapes, shapes_of
from m3sr_jax.models.base import WithBase
from m3sr_jax.networks import load, network_of


def params_from_release(state_dict: Mapping[str, np.ndarray], model: nn.Module) -> dict:
    """Converts a release state dict to a model's parameter tree.

    Args:
      state_dict: key → array in the release's layout (channels first), as `read_release` returns it.
      model: the network that the weights belong to.

    Returns:
      Nested dict of numpy arrays in the arrays' own float type, ready for `model.apply({"params": params}, rgb)`.

    Raises:
      InputError: keys are missing, unknown or of the wrong shape, or values are not floats that float32 can hold; the
        message lists them.
    """
    shapes = shapes_of(parameter_shapes(model))
    tensors = list(_layout(model))
    expected = {t.key: t.shape if t.path is None else t.axes.release_shape(shapes["/".join(t.path)]) for t in tensors}
    found = {key: np.shape(value) for key, value in state_dict.items()}
    check_shapes("the release's tensors", found, expected, f"expected those of {_described(model)}")
    if wrong := [key for key in expected if np.asarray(state_dict[key]).dtype.kind != "f"]:
        raise InputError(f"the release's state dict holds values that are not floats: {shortened(wrong)}")
    with np.errstate(over="ignore"):  # numbers beyond float32 become infinite
        wrong = [key for key in expected if not np.isfinite(np.asarray(state_dict[key], np.float32)).all()]
    if wrong:
        raise InputError(
            "the release's state dict holds NaN, infinity or numbers beyond float32; choose another checkpoint: "
            f"{shortened(wrong)}"
        )
    flat = {t.path: t.axes.from_release(np.asarray(state_dict[t.key])) for t in tensors if t.path is not None}
    return traverse_util.unflatten_dict(flat)


def params_to_release(params: Mapping[str, Any], model: nn.Module) -> dict[str, np.ndarray]:
    """Converts a parameter tree to a release state dict.

    Args:
      params: the model's parameters.
      model: the network they belong to.

    Returns:
      Key → array in the release's layout and order; the release's code loads it strictly. Tensors that the release
      never uses (M3SR's `mlp.fc1`, `mlp.fc2`) are zeros. Keys of branches that are switched off are left out.

    Raises:
      InputError: parameters are missing, unknown or of the wrong shape.
    """
    flat = {path: np.asarray(value) for path, value in traverse_util.flatten_dict(params).items()}
    found = {"/".join(path): value.shape for path, value in flat.items()}
    check_shapes("the parameters", found, shapes_of(parameter_shapes(model)))
    dtype = next(iter(flat.values())).dtype
    return {
        t.key: np.zeros(t.shape, dtype) if t.path is None else t.axes.to_release(flat[t.path]) for t in _layout(model)
    }


def release_activations(model: M3SR, intermediates: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Renames a model's activations as the release names its modules.

    Example:
      output, state = model.apply({"params": params}, rgb, capture_intermediates=True)
      activations = release_activations(model, state["intermediates"])
      activations["body.0.bottleneck"]  # (B, H, W, C)

    Args:
      model: the M3SR that ran.
      intermediates: the activations that `capture_intermediates=True` collected.

    Returns:
      Release module name → its output, channels last, padded to multiples of 8 as inside the model.
    """
    flat: Any = traverse_util.flatten_dict(intermediates)
    return {key: flat[(*path, "__call__")][0] for key, path, _ in m3sr_modules(model)}


def _described(model: nn.Module) -> str:
    """Returns a network's title and size, such as "HSCNN+ with num_bands 31, dense_blocks 38"."""
    network = network_of(model)
    assert network is not None  # `_layout` refuses others
    fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)}
    sizes = [f"{name} {value}" for name, value in fields.items() if type(value) is int]
    return f"{network.title} with {', '.join(sizes)}"


def _layout(model: nn.Module) -> Iterator[Tensor]:
    if isinstance(model, WithBase):
        fields = ", ".join(f"model.{name}" for name in BASE_FIELDS)
        raise InputError(f"config fields {fields}: releases have none of them; use the network alone")
    network = network_of(model)
    if network is None or network.layout is None:
        raise InputError(f"{type(model).__name__}: found no release layout for it, expected a network with a release")
    return load(network.layout)(model)

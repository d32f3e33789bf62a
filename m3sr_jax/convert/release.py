"""Parameters of the authors' release to ours and back, strictly. The only place that knows channels-first."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from flax import traverse_util

from m3sr_jax.convert.baselines import (
    essaformer_layout,
    fmnet_layout,
    gmsr_layout,
    hrnet_layout,
    hscnn_plus_layout,
    hsrnet_layout,
    mst_plus_plus_layout,
)
from m3sr_jax.convert.layout import Tensor, m3sr_layout, m3sr_modules
from m3sr_jax.errors import InputError
from m3sr_jax.models import M3SR, parameter_shapes
from m3sr_jax.models.baselines import GMSR, ESSAformer, FMNet, HRNet, HSCNNPlus, HSRNet, MSTPlusPlus

_LAYOUTS: dict[type[nn.Module], Callable[[Any], Iterator[Tensor]]] = {
    M3SR: m3sr_layout,
    MSTPlusPlus: mst_plus_plus_layout,
    HSCNNPlus: hscnn_plus_layout,
    HRNet: hrnet_layout,
    GMSR: gmsr_layout,
    HSRNet: hsrnet_layout,
    FMNet: fmnet_layout,
    ESSAformer: essaformer_layout,
}


def params_from_release(state_dict: Mapping[str, np.ndarray], model: nn.Module) -> dict:
    """Brings a release state dict into a model's parameter tree.

    Args:
      state_dict: key → array in the release's layout (channels first), as `read_release` gives it.
      model: the network the weights are for.

    Returns:
      Nested dict of numpy arrays in the arrays' own float type, ready for `model.apply({"params": params}, rgb)`.

    Raises:
      InputError: keys are missing, unknown or misshapen, or their values are no floats; the message lists them.
    """
    shapes = _shapes(model)
    tensors = list(_layout(model))
    _check_state_dict(state_dict, {tensor.key: _release_shape(tensor, shapes) for tensor in tensors})
    flat = {t.path: t.axes.from_release(np.asarray(state_dict[t.key])) for t in tensors if t.path is not None}
    return traverse_util.unflatten_dict(flat)


def params_to_release(params: Mapping[str, Any], model: nn.Module) -> dict[str, np.ndarray]:
    """Writes a parameter tree as a release state dict.

    Args:
      params: the model's parameters.
      model: the network they belong to.

    Returns:
      Key → array in the release's layout and order, which the release loads strictly. Tensors that the release has and
      never uses (M3SR's `mlp.fc1`, `mlp.fc2`) are zeros. The keys of a branch that is switched off are left out.

    Raises:
      InputError: parameters are missing, unknown or misshapen.
    """
    shapes = _shapes(model)
    flat = {path: np.asarray(value) for path, value in traverse_util.flatten_dict(params).items()}
    named = {"/".join(path): value for path, value in flat.items()}
    _check_arrays("the parameter tree", named, {"/".join(path): shape for path, shape in shapes.items()})
    dtype = next(iter(flat.values())).dtype
    return {
        t.key: np.zeros(t.shape, dtype) if t.path is None else t.axes.to_release(flat[t.path]) for t in _layout(model)
    }


def release_activations(model: M3SR, intermediates: Mapping[str, Any]) -> dict[str, jax.Array]:
    """Names a model's activations as the release names its modules.

    Use:
      output, state = model.apply({"params": params}, rgb, capture_intermediates=True)
      activations = release_activations(model, state["intermediates"])
      activations["body.0.bottleneck"]  # (B, H, W, C)

    Args:
      model: the M3SR that ran.
      intermediates: what `capture_intermediates=True` collected.

    Returns:
      Release module name → its output, channels last, padded to multiples of 8 as inside the model.
    """
    flat: Any = traverse_util.flatten_dict(intermediates)
    return {key: flat[(*path, "__call__")][0] for key, path, _ in m3sr_modules(model)}


def _layout(model: nn.Module) -> Iterator[Tensor]:
    if type(model) not in _LAYOUTS:
        raise InputError(f"no release layout is known for {type(model).__name__}")
    return _LAYOUTS[type(model)](model)


def _shapes(model: nn.Module) -> dict[tuple[str, ...], tuple[int, ...]]:
    flat: Any = traverse_util.flatten_dict(parameter_shapes(model))
    return {path: leaf.shape for path, leaf in flat.items()}


def _release_shape(tensor: Tensor, shapes: Mapping[tuple[str, ...], tuple[int, ...]]) -> tuple[int, ...]:
    return tensor.shape if tensor.path is None else tensor.axes.release_shape(shapes[tensor.path])


def _check_state_dict(state_dict: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]]) -> None:
    _check_arrays("the release's state dict", state_dict, expected)
    wrong = [key for key in expected if np.asarray(state_dict[key]).dtype.kind != "f"]
    if wrong:
        raise InputError(f"the release's state dict holds values that are no floats: {_some(wrong)}")


def _check_arrays(what: str, arrays: Mapping[str, Any], expected: Mapping[str, tuple[int, ...]]) -> None:
    """Raises unless names and shapes are exactly as expected."""
    missing = [key for key in expected if key not in arrays]
    unknown = [key for key in arrays if key not in expected]
    shared = [key for key in expected if key in arrays]
    misshapen = [
        f"{key} {tuple(np.shape(arrays[key]))} instead of {expected[key]}"
        for key in shared
        if tuple(np.shape(arrays[key])) != expected[key]
    ]
    faults = {"missing": missing, "unknown": unknown, "misshapen": misshapen}
    found = "; ".join(f"{len(keys)} {fault}: {_some(keys)}" for fault, keys in faults.items() if keys)
    if found:
        raise InputError(f"{what} does not fit this model ({found}); check the model's name and fields")


def _some(keys: list[str], most: int = 10) -> str:
    """Joins keys, the first few of them where they are many."""
    rest = f", and {len(keys) - most} more" if len(keys) > most else ""
    return ", ".join(keys[:most]) + rest

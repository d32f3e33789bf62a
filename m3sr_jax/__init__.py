"""M3SR in JAX and Flax: RGB in, a 31-band hyperspectral cube out."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from m3sr_jax.checkpoint import load_model as load_model
    from m3sr_jax.checkpoint import save_model as save_model
    from m3sr_jax.config import Config as Config
    from m3sr_jax.errors import InputError as InputError
    from m3sr_jax.inference.predictor import REGRESSION as REGRESSION
    from m3sr_jax.inference.predictor import Predictor as Predictor
    from m3sr_jax.inference.predictor import load as load
    from m3sr_jax.model_card import ModelCard as ModelCard
    from m3sr_jax.models import M3SR as M3SR
    from m3sr_jax.models import create as create

    __version__: str

# Public name → its module, imported on first use, since JAX and Flax take a second to import.
_MODULES = {
    "Config": "config",
    "InputError": "errors",
    "M3SR": "models",
    "ModelCard": "model_card",
    "Predictor": "inference.predictor",
    "REGRESSION": "inference.predictor",
    "create": "models",
    "load": "inference.predictor",
    "load_model": "checkpoint",
    "save_model": "checkpoint",
}
__all__ = ["M3SR", "REGRESSION", "Config", "InputError", "ModelCard", "Predictor", "create", "load"]
__all__ += ["__version__", "load_model", "save_model"]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        return importlib.import_module("importlib.metadata").version("m3sr-jax")
    if name in _MODULES:
        return getattr(importlib.import_module(f"m3sr_jax.{_MODULES[name]}"), name)
    raise AttributeError(f"module 'm3sr_jax' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES, "__version__"])

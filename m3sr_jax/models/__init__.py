"""The networks, by name."""

from __future__ import annotations

from flax import linen as nn

from m3sr_jax.models.m3sr import M3SR

__all__ = ["M3SR", "create"]

_MODELS: dict[str, type[nn.Module]] = {"m3sr": M3SR}


def create(name: str, **fields) -> nn.Module:
    """Builds a network.

    Args:
      name: which one; "m3sr" is the only one so far.
      **fields: the fields of its class, see `M3SR`.

    Returns:
      A Linen module: `init(key, rgb)["params"]`, `apply({"params": params}, rgb)`.

    Raises:
      ValueError: no such network, or a field it does not take or cannot use.
    """
    if name not in _MODELS:
        raise ValueError(f"no model is called {name!r}: expected one of {sorted(_MODELS)}")
    known = set(_MODELS[name].__dataclass_fields__) - {"parent", "name"}
    if unknown := sorted(set(fields) - known):
        raise ValueError(
            f"model {name!r} takes no field {', '.join(unknown)}: expected some of {', '.join(sorted(known))}"
        )
    return _MODELS[name](**fields)

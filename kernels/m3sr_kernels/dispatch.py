"""Choice of an implementation: by name, or the best that the platform runs."""

from __future__ import annotations

from collections.abc import Callable, Mapping

NAMES = ("pallas_triton", "pallas_mosaic", "xla", "associative", "reference")


def choose(op: str, implementations: Mapping[str, Callable], implementation: str | None) -> Callable:
    """Returns the function that implements `op`.

    Args:
      op: name of the op, for messages.
      implementations: what the op has, best first.
      implementation: a name of `NAMES`, or None for the best.

    Raises:
      ValueError: the name is none of `NAMES`.
      NotImplementedError: the op has no such implementation; an explicit request never falls back silently.
    """
    if implementation is None:
        return next(iter(implementations.values()))
    if implementation not in NAMES:
        raise ValueError(f"{op}: unknown implementation {implementation!r}; expected None or one of {', '.join(NAMES)}")
    if implementation not in implementations:
        raise NotImplementedError(f"{op} has no {implementation!r} implementation; it has {', '.join(implementations)}")
    return implementations[implementation]

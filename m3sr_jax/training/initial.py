"""The parameters of another model that training starts from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
from flax.traverse_util import flatten_dict, unflatten_dict

from m3sr_jax.checkpoint import load_params
from m3sr_jax.config import Config
from m3sr_jax.config.fields import spelled
from m3sr_jax.errors import InputError
from m3sr_jax.io.wavelengths import same_bands, span
from m3sr_jax.model_card import ModelCard, read_card
from m3sr_jax.models import build_model, parameter_shapes
from m3sr_jax.models.base import COLOURS

OWN = ("num_bands", "exact_colour")  # fields in which a run may differ from the model that it starts from
BRANCH_FIELDS = {"frequency": "wavelet", "spectral": "num_groups"}  # without the branch, the field means nothing
ARITHMETIC = ("dtype", "param_dtype", "matmul_precision")  # any will do: parameters are converted


def first_params(config: Config, model: nn.Module, card: ModelCard, draw: Callable[[], Any]) -> tuple[Any, list[str]]:
    """Returns the parameters of `train.init_from`, a converted release or a training run, and notes for the user.

    If that model has another number of bands and is otherwise the same, the layers whose shape depends on the bands
    start anew. `model.exact_colour` may differ, too.

    Args:
        config: of the run.
        model: the network to train.
        card: describes it and its data.
        draw: returns parameters to start anew from.

    Raises:
        InputError: `train.init_from` is no model, or one of another architecture.
    """
    source = config.train.init_from
    theirs = read_card(Path(source))
    _check_same_network(source, theirs, card)
    notes = [f"init_from {source}: {difference}" for difference in _other_data(theirs, card)]
    if all(getattr(theirs.model, name) == getattr(card.model, name) for name in OWN):
        shapes = parameter_shapes(model)
        return jax.tree.map(lambda p, ours: jnp.array(p, ours.dtype), load_params(source, model), shapes), notes
    given: dict[str, Any] = flatten_dict(load_params(source, build_model(theirs.model)), sep="/")
    start: dict[str, Any] = {}
    fresh = []
    ours: dict[str, Any] = flatten_dict(draw(), sep="/")
    for name, leaf in ours.items():
        kept = name in given and given[name].shape == leaf.shape
        start[name] = jnp.array(given[name], leaf.dtype) if kept else leaf
        fresh += [] if kept or name in COLOURS else [name]
    if not fresh:
        return unflatten_dict(start, sep="/"), notes
    layers = sorted({name.rpartition("/")[0] for name in fresh})
    count, total = (sum(math.prod(start[name].shape) for name in names) for names in (fresh, start))
    bands = f"{theirs.model.num_bands} bands there, {card.model.num_bands} here"
    notes.append(f"init_from {source}: {bands}: {', '.join(layers)} start anew, {count:,} of {total:,} parameters")
    return unflatten_dict(start, sep="/"), notes


def _other_data(theirs: ModelCard, ours: ModelCard) -> list[str]:
    """Describes how the data and cubes of two models differ, where neither shape nor type would tell."""
    found = []
    if theirs.encoding != ours.encoding:
        found.append(f'trained on photos of encoding "{theirs.encoding}", these have encoding "{ours.encoding}"')
    if theirs.rgb_normalization != ours.rgb_normalization:
        found.append(
            f'trained on photos normalised by "{theirs.rgb_normalization}", these are normalised by '
            f'"{ours.rgb_normalization}"'
        )
    if theirs.quantity != ours.quantity:
        stated = [card.quantity or "an unstated quantity" for card in (theirs, ours)]
        found.append(f"trained on cubes of {stated[0]}, these hold {stated[1]}")
    if theirs.model.exact_colour and not ours.model.exact_colour:
        found.append("trained with model.exact_colour, this run is without it: cubes need not show the photo's colours")
    nm, our_nm = np.asarray(theirs.wavelengths), np.asarray(ours.wavelengths)
    if len(nm) == len(our_nm) and not same_bands(nm, our_nm):
        found.append(f"trained on bands of {span(nm)}, these are {span(our_nm)}")
    return found


def _check_same_network(source: str, theirs: ModelCard, ours: ModelCard) -> None:
    """Raises InputError, with the flags that make this run's network that of `source`, unless it is."""
    wanted, found = theirs.model, ours.model
    if wanted.name != found.name:
        raise InputError(
            f"train.init_from {source}: holds {wanted.name}, this run trains {found.name}; pass "
            f"--config.model.name={wanted.name}, or start from a model of {found.name}"
        )
    free = {*OWN, *ARITHMETIC, *(field for branch, field in BRANCH_FIELDS.items() if branch not in wanted.branches)}
    fields = [field.name for field in dataclasses.fields(wanted) if field.name not in free]
    differing = [name for name in fields if getattr(wanted, name) != getattr(found, name)]
    if differing:
        listed = ", ".join(
            f"{name} {spelled(getattr(wanted, name))}, not {spelled(getattr(found, name))}" for name in differing
        )
        raise InputError(
            f"train.init_from {source}: found model.{listed}; expected the same network, of any bands: pass "
            + " ".join(_flag(name, getattr(wanted, name)) for name in differing)
        )


def _flag(name: str, value: Any) -> str:
    """Returns the flag of train.py that sets a field of the network, as a shell takes it; lists are Python tuples."""
    if isinstance(value, tuple):
        return f'--config.model.{name}="{value}"'
    return f"--config.model.{name}={value}"

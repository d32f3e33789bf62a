"""The typed groups of a configuration: each field with its default, its type and its range."""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import operator
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from m3sr_jax.config.names import BRANCHES, DATASETS, MatmulPrecision
from m3sr_jax.errors import InputError
from m3sr_jax.io.normalization import RGB_NORMALIZATIONS
from m3sr_jax.networks import NETWORKS
from m3sr_jax.regression import REGRESSIONS

# Sanity limits, far beyond any use: a larger value is a typo, or a file that would exhaust time and memory.
MAX_CHANNELS, MAX_BLOCKS, MAX_PIXELS, MAX_STEPS = 4096, 64, 2**16, 2**31 - 1
DTYPES = ("float32", "bfloat16")
OPTIMIZERS = ("adam", "adamw", "muon", "schedule_free")
MAX_STOPS = 8
_TYPE_NAMES = {int: "a whole number", float: "a number", str: "text", bool: "true or false"}


# Rule of a field → the comparison that must hold, and what was expected.
_BOUNDS = {"low": (operator.ge, "{} or more"), "above": (operator.gt, "more than {}")}
_BOUNDS |= {"high": (operator.le, "{} or less"), "below": (operator.lt, "less than {}")}


def _option(default: Any, **rules: Any) -> Any:
    """Declares a field with bounds (see `_BOUNDS`) or `choices`; a `free` one may change when a run is resumed."""
    return dataclasses.field(default=default, metadata=rules)


def bad_value(name: str, value: Any, expected: str) -> InputError:
    return InputError(f"config field {name}: found {spelled(value)}, expected {expected}")


def spelled(value: Any) -> str:
    """Spells a value for a message, as JSON does."""
    return "unset" if value is None else json.dumps(value, ensure_ascii=False, default=str, skipkeys=True)


def typed(name: str, value: Any, hint: Any) -> Any:
    """Returns `value` with the type of `hint` (a list becomes a tuple, an integer a float) or raises InputError."""
    if isinstance(hint, types.UnionType):
        return None if value is None else typed(name, value, typing.get_args(hint)[0])
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, Iterable) or isinstance(value, str | Mapping):
            raise bad_value(name, value, "a list of values")
        return tuple(typed(name, item, typing.get_args(hint)[0]) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1023:
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise bad_value(name, value, "a finite number")
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise bad_value(name, value, _TYPE_NAMES[hint])
    return value


@dataclasses.dataclass(frozen=True)
class _Section:
    """A group of fields that checks its own ranges."""

    GROUP: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            name, value = f"{self.GROUP}.{field.name}", getattr(self, field.name)
            choices = field.metadata.get("choices")
            if choices is not None and value not in choices:
                raise bad_value(name, value, f"one of {', '.join(choices)}")
            for rule, (holds, words) in _BOUNDS.items():
                bound = field.metadata.get(rule)
                if bound is not None and value is not None and not holds(value, bound):
                    raise bad_value(name, value, words.format(bound))


@dataclasses.dataclass(frozen=True)
class ModelConfig(_Section):
    """The network and its fields, as in `m3sr_jax.models.M3SR`, with types by name.

    A field that another network does not take must keep its default.
    """

    GROUP: ClassVar[str] = "model"

    name: str = _option("m3sr", choices=NETWORKS)
    num_groups: int = _option(4, low=1, high=MAX_CHANNELS)
    num_stages: int = _option(1, low=1, high=MAX_BLOCKS)
    num_blocks: tuple[int, ...] = (1, 1, 1)
    branches: tuple[str, ...] = BRANCHES
    wavelet: str = "haar"
    num_bands: int | None = _option(31, low=1, high=MAX_CHANNELS)  # unset: as many as the training data have
    features: int = _option(31, low=1, high=MAX_CHANNELS)
    # What the network builds on: a regression fitted on the training scenes, a pixel network (models/base.py).
    base: str = _option("none", choices=("none", *REGRESSIONS))
    pixel_head: bool = False
    normalise_exposure: bool = False  # the network sees each image divided by its brightness
    exact_colour: bool = False  # the cube under D65 is the photo; for reflectance from linear photos
    dtype: str = _option("float32", choices=DTYPES)
    param_dtype: str = _option("float32", choices=DTYPES)
    matmul_precision: str = _option("float32", choices=typing.get_args(MatmulPrecision))
    remat: bool = _option(False, free=True)
    implementation: str | None = _option(None, free=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.num_blocks) != 3 or min(self.num_blocks) < 1 or max(self.num_blocks) > MAX_BLOCKS:
            raise bad_value("model.num_blocks", self.num_blocks, f"three numbers from 1 to {MAX_BLOCKS}")
        if not self.branches or len(set(self.branches)) < len(self.branches) or set(self.branches) - set(BRANCHES):
            raise bad_value("model.branches", self.branches, f"one or more of {', '.join(BRANCHES)}, each once")
        if self.implementation is not None:
            from m3sr_kernels.dispatch import NAMES  # only here, because it imports JAX

            if self.implementation not in NAMES:
                raise bad_value("model.implementation", self.implementation, f"unset or one of {', '.join(NAMES)}")


@dataclasses.dataclass(frozen=True)
class DataConfig(_Section):
    """Where the scenes come from and how they become batches."""

    GROUP: ClassVar[str] = "data"

    name: str = _option("synthetic", choices=DATASETS)
    root: str = _option("", free=True)  # free: a resumed run compares fingerprints of the data instead
    split_file: str = _option("", free=True)
    camera: str = ""  # "": the photos of the data set, or cie1964 if it has none
    batch_size: int = _option(32, low=1, high=2**20)
    crop_size: int = _option(128, low=8, high=MAX_PIXELS)
    # Each image is a mosaic of crops of this side, from different scenes; unset: it is one crop.
    patch_size: int | None = _option(None, low=1, high=MAX_PIXELS)
    num_workers: int = _option(0, low=0, high=1024, free=True)
    on_bad_scene: str = _option("stop", choices=("stop", "skip"), free=True)
    num_train_scenes: int = _option(24, low=1, high=10**6, made=True)  # of synthetic scenes and photos
    num_valid_scenes: int = _option(6, low=1, high=10**6, made=True)
    scene_size: int = _option(256, low=8, high=MAX_PIXELS, made=True)
    # Of name = "folder" alone, see `m3sr_jax.data.folder`.
    photos: str = _option("", free=True, folder=True)  # folder or pattern under root; "": photos/, or anywhere
    cubes: str = _option("", free=True, folder=True)  # the same for the cubes
    key: str = _option("", folder=True)  # the array that holds the cube
    wavelengths: str = _option("", folder=True)  # 400:700:10, a list or a file, in place of the files' own
    white: float | None = _option(None, folder=True, above=0)  # the stored number that becomes 1
    rgb_normalization: str = _option("unit", folder=True, choices=RGB_NORMALIZATIONS)
    valid_fraction: float = _option(0.2, folder=True, above=0, high=1)  # held out, without a split file
    split_seed: int = _option(0, folder=True, low=0)
    # Augmentation of photos (data/augmentation.py); each is off by default and applied to a crop with this probability.
    augment_probability: float = _option(0.5, above=0, high=1)
    exposure: tuple[float, ...] = ()  # range of the exponent of 2, such as (-2.0, 1.0)
    noise: float = _option(0.0, low=0, high=1)  # largest standard deviation, as a share of white
    jpeg_quality: tuple[int, ...] = ()  # range, such as (50, 95)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name != "folder" and (own := self.changed("folder")):
            expected = f'{spelled(own[0].default)} unless data.name is "folder"'
            raise bad_value(f"data.{own[0].name}", getattr(self, own[0].name), expected)
        for name in {"synthetic": ("split_file",), "photo": ("split_file", "camera")}.get(self.name, ()):
            if getattr(self, name):
                raise bad_value(f"data.{name}", getattr(self, name), f'"" with data.name {self.name}')
        if self.name in ("synthetic", "photo") and self.crop_size > self.scene_size:
            raise bad_value("data.crop_size", self.crop_size, f"at most data.scene_size = {self.scene_size}")
        if self.patch_size is not None and self.crop_size % self.patch_size:
            raise bad_value("data.patch_size", self.patch_size, f"a divisor of data.crop_size = {self.crop_size}")
        for name, low, high in (("exposure", -MAX_STOPS, MAX_STOPS), ("jpeg_quality", 1, 95)):
            ends = getattr(self, name)
            if ends and not (len(ends) == 2 and low <= ends[0] <= ends[1] <= high):
                raise bad_value(f"data.{name}", ends, f"unset, or two numbers from {low} to {high}, rising")

    def changed(self, group: str) -> list[dataclasses.Field[Any]]:
        """Returns the fields of data sets that are "made", or of "folder", alone that differ from their defaults."""
        own = (field for field in dataclasses.fields(self) if field.metadata.get(group))
        return [field for field in own if getattr(self, field.name) != field.default]


@dataclasses.dataclass(frozen=True)
class OptimConfig(_Section):
    """The optimiser and its schedule, see `m3sr_jax.training.optimizer`; by default Adam with the paper's cosine."""

    GROUP: ClassVar[str] = "optim"

    name: str = _option("adam", choices=OPTIMIZERS)
    learning_rate: float = _option(4e-4, above=0)
    final_learning_rate: float = _option(0.0, low=0)
    warmup_steps: int = _option(0, low=0, high=MAX_STEPS)  # the rate rises linearly over them
    weight_decay: float = _option(0.0, low=0)  # of adamw and muon
    grad_clip: float | None = _option(None, above=0)  # unset: no clipping
    # Parts into which a batch is split, computed in turn: less memory, the same gradient.
    accumulate_steps: int = _option(1, low=1, free=True)
    ema_decay: float | None = _option(None, above=0, below=1)  # unset: no moving average of the parameters

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.weight_decay and self.name not in ("adamw", "muon"):
            raise bad_value("optim.weight_decay", self.weight_decay, "0 unless optim.name is adamw or muon")
        if self.name == "schedule_free" and (self.ema_decay is not None or self.final_learning_rate):
            given = "ema_decay" if self.ema_decay is not None else "final_learning_rate"
            expected = "it unset: schedule_free averages the parameters itself, at a constant rate"
            raise bad_value(f"optim.{given}", getattr(self, given), expected)


@dataclasses.dataclass(frozen=True)
class LossConfig(_Section):
    """Weights of `m3sr_jax.training.losses` in the objective, a weighted sum; by default the paper's MAE alone."""

    GROUP: ClassVar[str] = "loss"

    mae: float = _option(1.0, low=0)
    mrae: float = _option(0.0, low=0)
    spectral_angle: float = _option(0.0, low=0)
    wavelet: float = _option(0.0, low=0)
    mrae_floor: float = _option(1e-3, low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mae + self.mrae + self.spectral_angle + self.wavelet > 0:
            raise InputError("config group loss: all weights are 0, expected at least one above 0")
        if self.mrae and not self.mrae_floor:
            raise bad_value("loss.mrae_floor", self.mrae_floor, "more than 0")


@dataclasses.dataclass(frozen=True)
class TrainConfig(_Section):
    """How long to train and how often to report; `num_steps`, if set, overrides `num_epochs`."""

    GROUP: ClassVar[str] = "train"

    num_steps: int | None = _option(None, low=1, high=MAX_STEPS)
    num_epochs: int | None = _option(100, low=1, high=MAX_STEPS)
    log_every_steps: int = _option(20, low=1, free=True)
    eval_every_steps: int = _option(500, low=1, free=True)
    checkpoint_every_steps: int = _option(500, low=1, free=True)
    init_from: str = ""
    start: str = _option("random", choices=("random", "least_squares"))  # M3SR, MST++: the output is a linear fit
    tensorboard: bool = _option(False, free=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_steps is None and self.num_epochs is None:
            raise InputError("config fields train.num_steps and train.num_epochs: both are unset; set one of them")

    def total_steps(self, steps_per_epoch: int) -> int:
        """Returns the number of updates in the whole run."""
        return self.num_steps or (self.num_epochs or 0) * steps_per_epoch


_GROUPS = (ModelConfig, DataConfig, OptimConfig, LossConfig, TrainConfig)
SECTIONS: dict[str, type[_Section]] = {section.GROUP: section for section in _GROUPS}


def default_config() -> Any:
    """Returns a ConfigDict with every field at its default; a config file changes it and flags override it."""
    from ml_collections import ConfigDict, config_dict

    config = ConfigDict({"seed": 0})
    for name, section in SECTIONS.items():
        group = ConfigDict()
        hints = typing.get_type_hints(section)
        for field in dataclasses.fields(section):
            hint = hints[field.name]
            if isinstance(hint, types.UnionType):  # a placeholder gives flags the type of an unset field
                group[field.name] = config_dict.placeholder(typing.get_args(hint)[0])
            if field.default is not None:
                group[field.name] = field.default
        config[name] = group
    return config


def field_names() -> list[str]:
    """Returns the name of every field, as "seed" and "train.num_steps"."""
    return ["seed", *(f"{g}.{field.name}" for g, section in SECTIONS.items() for field in dataclasses.fields(section))]


def check_field_name(name: str) -> None:
    """Raises InputError, suggesting the nearest name, unless `name` ("seed", "train", "train.num_steps") exists."""
    known = [*SECTIONS, *field_names()]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "known groups: " + ", ".join(SECTIONS)
        raise InputError(f"config field {name}: no such field; {hint}")

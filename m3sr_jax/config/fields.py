"""The typed groups of a configuration: each field with its default, its type and its range."""

from __future__ import annotations

import dataclasses
import difflib
import math
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

from m3sr_jax.config.names import BRANCHES, DATASETS, IMPLEMENTATIONS
from m3sr_jax.errors import InputError

# Far beyond any use: what is larger is a slip of the hand, or a file that wants to take all time and memory.
MOST_CHANNELS, MOST_BLOCKS, MOST_PIXELS, MOST_STEPS = 4096, 64, 2**16, 2**31 - 1


def _option(
    default: Any, *, low: int | None = None, high: int | None = None, choices: tuple | None = None, free: bool = False
) -> Any:
    """A field with its range or its choices; a `free` one may differ when a run is resumed."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "choices": choices, "free": free})


def bad_value(name: str, value: Any, expected: str) -> InputError:
    return InputError(f"config field {name}: found {value!r}, expected {expected}")


def typed(name: str, value: Any, hint: Any) -> Any:
    """Returns `value` as `hint` asks (lists become tuples, whole numbers floats) or raises InputError."""
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
        raise bad_value(name, value, f"a value of type {hint.__name__}")
    return value


@dataclasses.dataclass(frozen=True)
class _Section:
    """A group of fields that checks its own ranges."""

    GROUP: ClassVar[str] = ""

    def __post_init__(self) -> None:
        for field in dataclasses.fields(self):
            name, value = f"{self.GROUP}.{field.name}", getattr(self, field.name)
            low, high, choices = (field.metadata.get(key) for key in ("low", "high", "choices"))
            if choices is not None and value not in choices:
                raise bad_value(name, value, "one of " + ", ".join(map(repr, choices)))
            if low is not None and value is not None and not value >= low:
                raise bad_value(name, value, f"{low} or more")
            if high is not None and value is not None and not value <= high:
                raise bad_value(name, value, f"{high} or less")


@dataclasses.dataclass(frozen=True)
class ModelConfig(_Section):
    """Which network, and its fields as in `m3sr_jax.models.M3SR`; dtypes are spelled as strings.

    A field that another network does not have must keep its default there.
    """

    GROUP: ClassVar[str] = "model"

    name: str = "m3sr"
    num_groups: int = _option(4, low=1, high=MOST_CHANNELS)
    num_stages: int = _option(1, low=1, high=MOST_BLOCKS)
    num_blocks: tuple[int, ...] = (1, 1, 1)
    branches: tuple[str, ...] = BRANCHES
    wavelet: str = "haar"
    num_bands: int = _option(31, low=1, high=MOST_CHANNELS)
    features: int = _option(31, low=1, high=MOST_CHANNELS)
    dtype: str = _option("float32", choices=("float32", "bfloat16"))
    param_dtype: str = _option("float32", choices=("float32", "bfloat16"))
    remat: bool = _option(False, free=True)
    implementation: str | None = _option(None, choices=(None, *IMPLEMENTATIONS), free=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.num_blocks) != 3 or min(self.num_blocks) < 1 or max(self.num_blocks) > MOST_BLOCKS:
            expected = f"three numbers of 1 or more, {MOST_BLOCKS} at most"
            raise bad_value("model.num_blocks", self.num_blocks, expected)
        if not self.branches or len(set(self.branches)) < len(self.branches) or set(self.branches) - set(BRANCHES):
            raise bad_value("model.branches", self.branches, "one or more of " + ", ".join(BRANCHES) + ", each once")


@dataclasses.dataclass(frozen=True)
class DataConfig(_Section):
    """Where the scenes come from and how they become batches."""

    GROUP: ClassVar[str] = "data"

    name: str = _option("synthetic", choices=DATASETS)
    root: str = _option("", free=True)  # free: a resumed run compares the data themselves, by fingerprint
    split_file: str = _option("", free=True)
    camera: str = ""  # "": the photos of the data set, or cie1964 where it has none
    batch_size: int = _option(32, low=1, high=2**20)
    crop_size: int = _option(128, low=8, high=MOST_PIXELS)
    num_workers: int = _option(0, low=0, high=1024, free=True)
    on_bad_scene: str = _option("stop", choices=("stop", "skip"), free=True)
    num_train_scenes: int = _option(24, low=1, high=10**6)
    num_valid_scenes: int = _option(6, low=1, high=10**6)
    scene_size: int = _option(256, low=8, high=MOST_PIXELS)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.name == "synthetic" and self.crop_size > self.scene_size:
            raise bad_value("data.crop_size", self.crop_size, f"at most data.scene_size = {self.scene_size}")


@dataclasses.dataclass(frozen=True)
class OptimConfig(_Section):
    """Adam with a cosine schedule from `learning_rate` to `final_learning_rate` over the whole run."""

    GROUP: ClassVar[str] = "optim"

    learning_rate: float = _option(4e-4, low=0)
    final_learning_rate: float = _option(0.0, low=0)
    grad_clip: float | None = _option(None, low=0)
    # Parts of a batch that are computed one after the other: less memory, the same gradient.
    accumulate_steps: int = _option(1, low=1, free=True)
    ema_decay: float | None = _option(None, low=0)  # unset: no running mean of the parameters

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ema_decay is not None and not 0 < self.ema_decay < 1:
            raise bad_value("optim.ema_decay", self.ema_decay, "more than 0 and less than 1, or unset")
        if self.learning_rate <= 0:
            raise bad_value("optim.learning_rate", self.learning_rate, "more than 0")
        if self.grad_clip == 0:
            raise bad_value("optim.grad_clip", self.grad_clip, "more than 0, or unset for no clipping")


@dataclasses.dataclass(frozen=True)
class LossConfig(_Section):
    """Weights of `m3sr_jax.training.losses`, whose weighted sum is trained on; by default the paper's MAE alone."""

    GROUP: ClassVar[str] = "loss"

    mae: float = _option(1.0, low=0)
    mrae: float = _option(0.0, low=0)
    spectral_angle: float = _option(0.0, low=0)
    wavelet: float = _option(0.0, low=0)
    mrae_floor: float = _option(1e-3, low=0)

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.mae + self.mrae + self.spectral_angle + self.wavelet > 0:
            raise InputError("config group loss: all weights are 0, expected one above 0")
        if self.mrae and not self.mrae_floor:
            raise bad_value("loss.mrae_floor", self.mrae_floor, "more than 0")


@dataclasses.dataclass(frozen=True)
class TrainConfig(_Section):
    """How long to train and how often to report; a set `num_steps` wins over `num_epochs`."""

    GROUP: ClassVar[str] = "train"

    num_steps: int | None = _option(None, low=1, high=MOST_STEPS)
    num_epochs: int | None = _option(100, low=1, high=MOST_STEPS)
    log_every_steps: int = _option(20, low=1, free=True)
    eval_every_steps: int = _option(500, low=1, free=True)
    checkpoint_every_steps: int = _option(500, low=1, free=True)
    init_from: str = ""
    tensorboard: bool = _option(False, free=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.num_steps is None and self.num_epochs is None:
            raise InputError("config fields train.num_steps and train.num_epochs: both unset, expected one of them")

    def total_steps(self, steps_per_epoch: int) -> int:
        """Returns the number of updates of the whole run."""
        return self.num_steps or (self.num_epochs or 0) * steps_per_epoch


_GROUPS = (ModelConfig, DataConfig, OptimConfig, LossConfig, TrainConfig)
SECTIONS: dict[str, type[_Section]] = {section.GROUP: section for section in _GROUPS}


def default_config() -> Any:
    """Returns a ConfigDict with every field at its default, for a config file to fill in and flags to override."""
    from ml_collections import ConfigDict, config_dict

    config = ConfigDict({"seed": 0})
    for name, section in SECTIONS.items():
        group = ConfigDict()
        hints = typing.get_type_hints(section)
        for field in dataclasses.fields(section):
            hint = hints[field.name]
            if isinstance(hint, types.UnionType):  # a placeholder may stay None and still tells flags its type
                group[field.name] = config_dict.placeholder(typing.get_args(hint)[0])
            if field.default is not None:
                group[field.name] = field.default
        config[name] = group
    return config


def check_field_name(name: str) -> None:
    """Raises InputError with the nearest name unless `name` ('seed', 'train' or 'train.num_steps') exists."""
    fields = [f"{group}.{field.name}" for group, section in SECTIONS.items() for field in dataclasses.fields(section)]
    known = ["seed", *SECTIONS, *fields]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "known groups: " + ", ".join(SECTIONS)
        raise InputError(f"config field {name}: no such field; {hint}")

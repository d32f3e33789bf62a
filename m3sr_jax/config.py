"""Configuration: frozen dataclasses, and the one gate from an `ml_collections.ConfigDict` (or JSON) to typed fields.

A config file holds `get_config()`, which starts from `default_config()` and sets what it cares about.
`Config.from_config_dict` checks every name, type and range once; all code behind it works with plain typed fields.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
import os
import runpy
import types
import typing
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import reading

if TYPE_CHECKING:
    import flax.linen as nn

BRANCHES = ("spatial", "frequency", "spectral")
DATASETS = ("synthetic", "cave", "ntire2022", "ntire2020_clean", "ntire2020_real")
BASELINES = ("mst_plus_plus", "hscnn_plus", "hrnet", "gmsr")
# Far beyond any use: what is larger is a slip of the hand, or a file that wants to take all time and memory.
MOST_CHANNELS, MOST_BLOCKS, MOST_PIXELS, MOST_STEPS = 4096, 64, 2**16, 2**31 - 1
IMPLEMENTATIONS = (None, "pallas_triton", "pallas_mosaic", "xla", "associative", "reference")


def _option(
    default: Any, *, low: int | None = None, high: int | None = None, choices: tuple | None = None, free: bool = False
) -> Any:
    """A field with its range or its choices; a `free` one may differ when a run is resumed."""
    return dataclasses.field(default=default, metadata={"low": low, "high": high, "choices": choices, "free": free})


def _bad_value(name: str, value: Any, expected: str) -> InputError:
    return InputError(f"config field {name}: found {value!r}, expected {expected}")


def _typed(name: str, value: Any, hint: Any) -> Any:
    """Returns `value` as `hint` asks (lists become tuples, whole numbers floats) or raises InputError."""
    if isinstance(hint, types.UnionType):
        return None if value is None else _typed(name, value, typing.get_args(hint)[0])
    if typing.get_origin(hint) is tuple:
        if not isinstance(value, Iterable) or isinstance(value, str | Mapping):
            raise _bad_value(name, value, "a list of values")
        return tuple(_typed(name, item, typing.get_args(hint)[0]) for item in value)
    if hint is float and isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**1023:
        return float(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise _bad_value(name, value, "a finite number")
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise _bad_value(name, value, f"a value of type {hint.__name__}")
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
                raise _bad_value(name, value, "one of " + ", ".join(map(repr, choices)))
            if low is not None and value is not None and not value >= low:
                raise _bad_value(name, value, f"{low} or more")
            if high is not None and value is not None and not value <= high:
                raise _bad_value(name, value, f"{high} or less")


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
    implementation: str | None = _option(None, choices=IMPLEMENTATIONS, free=True)

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.num_blocks) != 3 or min(self.num_blocks) < 1 or max(self.num_blocks) > MOST_BLOCKS:
            expected = f"three numbers of 1 or more, {MOST_BLOCKS} at most"
            raise _bad_value("model.num_blocks", self.num_blocks, expected)
        if not self.branches or len(set(self.branches)) < len(self.branches) or set(self.branches) - set(BRANCHES):
            raise _bad_value("model.branches", self.branches, "one or more of " + ", ".join(BRANCHES) + ", each once")

    def build(self) -> nn.Module:
        """Returns the Linen module these fields describe.

        Raises:
            InputError: the model refuses a field (an unknown network or wavelet, say).
        """
        import jax.numpy as jnp

        from m3sr_jax.models import create, model_fields

        try:
            taken = model_fields(self.name)
            fields = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "name"}
            changed = {f.name for f in dataclasses.fields(self) if getattr(self, f.name) != f.default}
            fields = {name: value for name, value in fields.items() if name in taken or name in changed}
            for name in {"dtype", "param_dtype"} & set(fields):
                fields[name] = jnp.dtype(fields[name])
            return create(self.name, **fields)
        except (TypeError, ValueError, KeyError) as error:
            raise InputError(f"config group model: {error}") from error


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
            raise _bad_value("data.crop_size", self.crop_size, f"at most data.scene_size = {self.scene_size}")


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
            raise _bad_value("optim.ema_decay", self.ema_decay, "more than 0 and less than 1, or unset")
        if self.learning_rate <= 0:
            raise _bad_value("optim.learning_rate", self.learning_rate, "more than 0")
        if self.grad_clip == 0:
            raise _bad_value("optim.grad_clip", self.grad_clip, "more than 0, or unset for no clipping")


@dataclasses.dataclass(frozen=True)
class LossConfig(_Section):
    """Weights of the losses in `m3sr_jax.losses`, whose sum is trained on; by default the paper's MAE alone."""

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
            raise _bad_value("loss.mrae_floor", self.mrae_floor, "more than 0")


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


@dataclasses.dataclass(frozen=True)
class Config:
    """Everything a run depends on."""

    model: ModelConfig = ModelConfig()
    data: DataConfig = DataConfig()
    optim: OptimConfig = OptimConfig()
    loss: LossConfig = LossConfig()
    train: TrainConfig = TrainConfig()
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise _bad_value("seed", self.seed, "0 or more, below 2^32")

    @classmethod
    def from_config_dict(cls, values: Any) -> Config:
        """Builds the typed configuration; fields left out keep their defaults.

        Args:
            values: a ConfigDict (locked or not) or a plain mapping, group → field → value.

        Raises:
            InputError: a field is unknown (the nearest name is given), of the wrong type, or out of range.
        """
        if not isinstance(values, Mapping):
            to_dict = getattr(values, "to_dict", None)
            if to_dict is None:
                raise InputError(f"config: found a {type(values).__name__}, expected a ConfigDict from get_config()")
            values = typing.cast(Mapping, to_dict())
        parts: dict[str, Any] = {}
        for name, value in values.items():
            check_field_name(name)
            section = SECTIONS.get(name)
            if section is None:
                parts[name] = _typed(name, value, int)
                continue
            if not isinstance(value, Mapping):
                raise _bad_value(name, value, "a group of fields")
            for field in value:
                check_field_name(f"{name}.{field}")
            hints = typing.get_type_hints(section)
            parts[name] = section(**{f: _typed(f"{name}.{f}", v, hints[f]) for f, v in value.items()})
        return cls(**parts)

    def to_json(self) -> str:
        """Returns the configuration as indented JSON; `from_json` reads it back."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Reads what `to_json` wrote.

        Raises:
            InputError: the text is no JSON object, or a field does not pass `from_config_dict`.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"config: found no valid JSON ({error})") from error
        return cls.from_config_dict(values)

    def conflicts(self, earlier: Config) -> list[str]:
        """Returns 'field: earlier → now' for each field that must not change when a run is resumed."""
        now, before = dataclasses.asdict(self), dataclasses.asdict(earlier)
        rows = [] if self.seed == earlier.seed else [f"seed: {earlier.seed!r} → {self.seed!r}"]
        for group, section in SECTIONS.items():
            for field in dataclasses.fields(section):
                old, new = before[group][field.name], now[group][field.name]
                if old != new and not field.metadata.get("free"):
                    rows.append(f"{group}.{field.name}: {old!r} → {new!r}")
        return rows


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


# What a part of FILE.py:VARIANT changes: field → value.
VARIANTS: dict[str, dict[str, Any]] = {
    **{f"no_{off}": {"model.branches": tuple(b for b in BRANCHES if b != off)} for off in BRANCHES},
    **{f"groups{count}": {"model.num_groups": count} for count in (2, 4, 8, 16)},
    **{name: {"model.name": name} for name in BASELINES},
    "mstpp_recipe": {
        "loss.mae": 0.0,
        "loss.mrae": 1.0,
        "optim.learning_rate": 4e-4,
        "optim.final_learning_rate": 1e-6,
        "data.batch_size": 20,
        "data.crop_size": 128,
        "train.num_steps": 300_000,
        "train.eval_every_steps": 1000,
        "train.checkpoint_every_steps": 1000,
    },
}


def apply_variant(config: Any, variant: str) -> None:
    """Changes a configuration as the part behind the colon of `--config FILE.py:VARIANT` says.

    no_spatial, no_frequency, no_spectral: without that branch (the paper's V1, V2, V3). groups2, groups4, groups8,
    groups16: that many spectral groups. mst_plus_plus, hscnn_plus, hrnet, gmsr: that network in M3SR's place.
    mstpp_recipe: training as in the MST++ toolbox, MRAE, batches of 20, 300 × 1000 updates, 4e-4 down to 1e-6.

    Args:
        config: a ConfigDict from `default_config`.
        variant: "", a name, or several that are joined by commas and change different fields.

    Raises:
        InputError: an unknown name, or two that set the same field.
    """
    changed: dict[str, str] = {}
    for name in filter(None, variant.split(",")):
        if name not in VARIANTS:
            raise InputError(f"config variant {name}: no such variant; expected one of {', '.join(VARIANTS)}")
        for field, value in VARIANTS[name].items():
            if field in changed:
                raise InputError(f"config variants {changed[field]} and {name} both set {field}; give one of them")
            changed[field] = name
            group, _, key = field.partition(".")
            config[group][key] = value


def check_field_name(name: str) -> None:
    """Raises InputError with the nearest name unless `name` ('seed', 'train' or 'train.num_steps') exists."""
    fields = [f"{group}.{field.name}" for group, section in SECTIONS.items() for field in dataclasses.fields(section)]
    known = ["seed", *SECTIONS, *fields]
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "known groups: " + ", ".join(SECTIONS)
        raise InputError(f"config field {name}: no such field; {hint}")


def load_config(path: str | os.PathLike[str]) -> Config:
    """Reads a config file as `train.py --config` does, FILE.py or FILE.py:VARIANT, or a run's config.json.

    Raises:
        InputError: no such file, it cannot be run, or it fails `Config.from_config_dict`.
    """
    name, colon, variant = str(path).rpartition(":")
    path, arguments = (Path(name), (variant,)) if colon and name.endswith(".py") else (Path(path), ())
    if not path.is_file():
        raise InputError(f"{path}: no such config file")
    if path.suffix == ".json":
        with reading(path, "a run's config.json"):
            text = path.read_text(encoding="utf-8")
        try:
            return Config.from_json(text)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
    try:
        values = runpy.run_path(str(path))["get_config"](*arguments)
    except InputError:
        raise
    except KeyError as error:
        raise InputError(f"{path}: no {error}; expected a Python file with get_config()") from error
    except Exception as error:  # a config file is the user's own code
        raise InputError(f"{path}: {type(error).__name__} in the config file: {error}") from error
    return Config.from_config_dict(values)

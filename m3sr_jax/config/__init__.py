"""Configuration: frozen dataclasses, and the only conversion from a `ConfigDict` or JSON to them.

A config file defines `get_config()`, which starts from `default_config()` or `paper_recipe()` and sets its own fields.
`Config.from_config_dict` checks every name, type and range once; all other code works with plain typed fields.
"""

from __future__ import annotations

import dataclasses
import json
import os
import runpy
import typing
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from m3sr_jax.config.fields import (
    SECTIONS,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    TrainConfig,
    bad_value,
    check_field_name,
    default_config,
    spelled,
    typed,
)
from m3sr_jax.config.names import BASE_FIELDS
from m3sr_jax.config.recipes import paper_recipe
from m3sr_jax.errors import InputError
from m3sr_jax.io.files import reading

__all__ = [
    "Config",
    "DataConfig",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "TrainConfig",
    "check_field_name",
    "default_config",
    "load_config",
    "paper_recipe",
]


@dataclasses.dataclass(frozen=True)
class Config:
    """All settings of a run."""

    model: ModelConfig = dataclasses.field(default_factory=ModelConfig)
    data: DataConfig = dataclasses.field(default_factory=DataConfig)
    optim: OptimConfig = dataclasses.field(default_factory=OptimConfig)
    loss: LossConfig = dataclasses.field(default_factory=LossConfig)
    train: TrainConfig = dataclasses.field(default_factory=TrainConfig)
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**32:
            raise bad_value("seed", self.seed, "0 or more, below 2^32")
        if self.train.start == "least_squares":
            self._check_linear_start()

    def _check_linear_start(self) -> None:
        model = self.model
        plain = all(getattr(model, name) == getattr(ModelConfig, name) for name in BASE_FIELDS)
        if model.name not in ("m3sr", "mst_plus_plus") or not plain:
            found = ", ".join(f"model.{name} {spelled(getattr(model, name))}" for name in ("name", *BASE_FIELDS))
            raise InputError(
                f"config field train.start: least_squares sets the parameters of m3sr or mst_plus_plus without a base, "
                f"found {found}; unset train.start"
            )
        if self.train.init_from:
            raise InputError("config fields train.start and train.init_from: both are set; unset one of them")

    @classmethod
    def from_config_dict(cls, values: Any) -> Config:
        """Builds the typed configuration; missing fields keep their defaults.

        Args:
            values: a ConfigDict (locked or not) or a plain mapping, group → field → value.

        Raises:
            InputError: a field is unknown, of the wrong type, or out of range.
        """
        if not isinstance(values, Mapping):
            to_dict = getattr(values, "to_dict", None)
            if to_dict is None:
                found = type(values).__name__
                raise InputError(f"config: found a value of type {found}, expected a ConfigDict from get_config()")
            values = typing.cast(Mapping, to_dict())
        parts: dict[str, Any] = {}
        for name, value in values.items():
            check_field_name(name)
            section = SECTIONS.get(name)
            if section is None:
                parts[name] = typed(name, value, int)
                continue
            if not isinstance(value, Mapping):
                raise bad_value(name, value, "a group of fields")
            for field in value:
                check_field_name(f"{name}.{field}")
            hints = typing.get_type_hints(section)
            parts[name] = section(**{f: typed(f"{name}.{f}", v, hints[f]) for f, v in value.items()})
        return cls(**parts)

    def to_json(self) -> str:
        """Returns the configuration as indented JSON; `from_json` reads it back."""
        return json.dumps(dataclasses.asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Config:
        """Reads the text that `to_json` returns.

        Raises:
            InputError: the text is not a JSON object, or `from_config_dict` refuses a field.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(f"config: not valid JSON ({error})") from error
        return cls.from_config_dict(values)

    def conflicts(self, earlier: Config) -> list[str]:
        """Returns "field: earlier → now" for each changed field that a resumed run must keep."""
        now, before = dataclasses.asdict(self), dataclasses.asdict(earlier)
        rows = [] if self.seed == earlier.seed else [f"seed: {earlier.seed} → {self.seed}"]
        for group, section in SECTIONS.items():
            for field in dataclasses.fields(section):
                old, new = before[group][field.name], now[group][field.name]
                if old != new and not field.metadata.get("free"):
                    rows.append(f"{group}.{field.name}: {spelled(old)} → {spelled(new)}")
        return rows


def load_config(path: str | os.PathLike[str]) -> Config:
    """Reads a config file as `train.py --config` does (FILE.py or FILE.py:VARIANT), or a run's config.json.

    Raises:
        InputError: the file does not exist or cannot be run, or `Config.from_config_dict` refuses its values.
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
        namespace = runpy.run_path(str(path))
        if "get_config" not in namespace:
            raise InputError(f"{path}: found no get_config, expected a Python file that defines get_config()")
        values = namespace["get_config"](*arguments)
    except InputError:
        raise
    except Exception as error:  # a config file is the user's own code
        raise InputError(f"{path}: {type(error).__name__} in the config file: {error}") from error
    return Config.from_config_dict(values)

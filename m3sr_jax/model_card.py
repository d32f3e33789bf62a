"""`model.json`: what a user of a model's parameters has to know."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any

from m3sr_jax.config import Config, ModelConfig
from m3sr_jax.errors import InputError
from m3sr_jax.io.files import reading

MODEL_FILE = "model.json"
RGB_NORMALIZATIONS = ("unit", "minmax")


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What a user of the parameters has to know.

    Attributes:
        model: fields of the network.
        wavelengths: band centres in nm, one a band, in the order of the output's last axis.
        rgb_normalization: "unit", values divided by the format's largest, or "minmax", (x − min)/(max − min)
            over the image.
        camera: the response that made the RGB of the training data; "" where unknown.
        provenance: where the parameters come from, free of form.
    """

    model: ModelConfig
    wavelengths: tuple[float, ...]
    rgb_normalization: str = "unit"
    camera: str = ""
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        if len(self.wavelengths) != self.model.num_bands:
            found, expected = len(self.wavelengths), self.model.num_bands
            raise InputError(f"model card: found {found} wavelengths, expected one for each of {expected} bands")
        if not all(0 < centre < math.inf for centre in self.wavelengths):
            raise InputError(f"model card: found wavelengths {self.wavelengths}, expected numbers above 0, in nm")
        if not isinstance(self.camera, str) or not isinstance(self.provenance, dict):
            raise InputError("model card: expected text as camera and an object as provenance")
        if self.rgb_normalization not in RGB_NORMALIZATIONS:
            found, expected = repr(self.rgb_normalization), " or ".join(RGB_NORMALIZATIONS)
            raise InputError(f"model card: found rgb_normalization {found}, expected {expected}")
        # How a run computes (scans, memory) is not what the model is: the next machine chooses anew.
        object.__setattr__(self, "model", dataclasses.replace(self.model, implementation=None, remat=False))

    def to_json(self) -> str:
        """Returns the card as indented JSON; `from_json` reads it back."""
        values = dataclasses.asdict(self)
        del values["model"]["implementation"], values["model"]["remat"]
        return json.dumps(values, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Reads what `to_json` wrote.

        Raises:
            InputError: the text is no such card.
        """
        try:
            values = json.loads(text)
            model = Config.from_config_dict({"model": values.pop("model")}).model
            wavelengths = values.pop("wavelengths")
            if not isinstance(wavelengths, list):
                raise TypeError(f"found wavelengths {wavelengths!r}, no list")
            return cls(model=model, wavelengths=tuple(map(float, wavelengths)), **values)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise InputError(f"model card: not readable ({error}); expected what m3sr or train.py wrote") from error


def read_card(directory: Path) -> ModelCard:
    """Reads DIR/model.json.

    Raises:
        InputError: no such directory, or no readable model.json in it.
    """
    path = directory / MODEL_FILE
    if not directory.is_dir():
        raise InputError(f"{directory}: no such directory, expected a training workdir or what m3sr convert wrote")
    if not path.is_file():
        raise InputError(f"{directory}: no {MODEL_FILE}, expected a training workdir or what m3sr convert wrote")
    with reading(path, "a model card"):
        text = path.read_text(encoding="utf-8")
    try:
        return ModelCard.from_json(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error

"""`model.json`: what the user of a model's parameters needs to know."""

from __future__ import annotations

import dataclasses
import json
import math
from pathlib import Path
from typing import Any, Literal

from m3sr_jax.config import Config, ModelConfig
from m3sr_jax.errors import InputError
from m3sr_jax.io.encoding import ENCODINGS, Encoding
from m3sr_jax.io.files import reading, write_text
from m3sr_jax.io.normalization import RGB_NORMALIZATIONS

MODEL_FILE = "model.json"
PROGRAM_FILE = "model.jaxexport"  # of `m3sr export`
RELEASE_SUFFIXES = (".pth", ".safetensors")
QUANTITIES = ("", "reflectance", "radiance")


@dataclasses.dataclass(frozen=True)
class ModelCard:
    """What the user of a model's parameters needs to know.

    Attributes:
        model: fields of the network.
        wavelengths: band centres in nm, in the order of the output's last axis.
        rgb_normalization: "unit", values divided by the format's maximum, or "minmax", (x − min)/(max − min) over the
            image.
        camera: the camera response behind the RGB of the training data; "" if unknown.
        provenance: where the parameters come from, free-form.
        encoding: of the RGB that the network takes, see `m3sr_jax.io.encoding`: "codes" as a benchmark stores them,
            "linear", proportional to light in sRGB's primaries, or "srgb". Prediction converts photos.
        quantity: what the cube holds: "reflectance", "radiance", or "" if that is not stated.
        scale: which light is 1 in the cube, such as "white of the photo"; "" if that is not stated.
        uncertainty: of the intervals that lie in the file of weights, {"coverage": share of true values inside, …}, and
            what they were calibrated on, free-form; None if there are none.
    """

    model: ModelConfig
    wavelengths: tuple[float, ...]
    rgb_normalization: str = "unit"
    camera: str = ""
    provenance: dict[str, Any] = dataclasses.field(default_factory=dict)
    encoding: Encoding = "codes"
    quantity: Literal["", "reflectance", "radiance"] = ""
    scale: str = ""
    uncertainty: dict[str, Any] | None = None

    def __post_init__(self) -> None:
        if len(self.wavelengths) != self.model.num_bands:
            found, expected = len(self.wavelengths), self.model.num_bands
            raise InputError(f"model card: found {found} wavelengths, expected one for each of {expected} bands")
        if not all(0 < centre < math.inf for centre in self.wavelengths):
            raise InputError(f"model card: found wavelengths {self.wavelengths}, expected numbers above 0, in nm")
        if not isinstance(self.camera, str) or not isinstance(self.provenance, dict):
            raise InputError("model card: expected camera to be text and provenance to be an object")
        if self.rgb_normalization not in RGB_NORMALIZATIONS:
            expected = " or ".join(RGB_NORMALIZATIONS)
            raise InputError(f'model card: found rgb_normalization "{self.rgb_normalization}", expected {expected}')
        self._check_quantities()
        # Choices of scans and memory belong to a machine, not to the model.
        object.__setattr__(self, "model", dataclasses.replace(self.model, implementation=None, remat=False))

    def _check_quantities(self) -> None:
        choices = {"encoding": ENCODINGS, "quantity": QUANTITIES}
        for name, allowed in choices.items():
            if (found := getattr(self, name)) not in allowed:
                expected = ", ".join(choice or "nothing" for choice in allowed)
                raise InputError(f'model card: found {name} "{found}", expected one of {expected}')
        if not isinstance(self.scale, str):
            raise InputError("model card: expected scale to be text")
        if self.uncertainty is not None:
            coverage = self.uncertainty.get("coverage") if isinstance(self.uncertainty, dict) else None
            if not (isinstance(coverage, float) and 0 < coverage < 1):
                raise InputError("model card: expected uncertainty to state a coverage between 0 and 1")
            if self.encoding == "codes" or self.quantity != "reflectance":
                found = f'encoding "{self.encoding}" and quantity "{self.quantity}"'
                raise InputError(f'model card: found uncertainty with {found}, expected "linear" and "reflectance"')
        if self.model.exact_colour and (self.encoding, self.quantity) != ("linear", "reflectance"):
            raise InputError(
                f'model.exact_colour: found encoding "{self.encoding}" and quantity "{self.quantity}" of the data, '
                'expected "linear" and "reflectance", as data.name photo has them; unset it'
            )
        if self.encoding != "codes" and self.rgb_normalization != "unit":
            found = f'rgb_normalization "{self.rgb_normalization}" with encoding "{self.encoding}"'
            raise InputError(f'model card: found {found}, expected "unit": other normalisations need encoding "codes"')

    def to_json(self) -> str:
        """Returns the card as indented JSON; `from_json` reads it back."""
        values = dataclasses.asdict(self)
        del values["model"]["implementation"], values["model"]["remat"]
        # Cards of earlier versions, and the fingerprints of their models, stay as they are.
        for name in ("matmul_precision", "normalise_exposure", "exact_colour"):
            if getattr(self.model, name) == getattr(ModelConfig, name):
                del values["model"][name]
        if self.uncertainty is None:
            del values["uncertainty"]
        return json.dumps(values, indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str) -> ModelCard:
        """Reads what `to_json` wrote.

        Raises:
            InputError: the text is not a model card.
        """
        try:
            values = json.loads(text)
            model = Config.from_config_dict({"model": values.pop("model")}).model
            wavelengths = values.pop("wavelengths")
            if not isinstance(wavelengths, list):
                raise TypeError(f"found wavelengths {wavelengths}, expected a list")
            return cls(model=model, wavelengths=tuple(map(float, wavelengths)), **values)
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise InputError(f"model card: not readable ({error}); expected one that m3sr or train.py wrote") from error


def write_card(card: ModelCard, directory: Path) -> None:
    """Writes DIR/model.json, whole or not at all.

    Raises:
        OSError: the file cannot be written.
    """
    write_text(directory / MODEL_FILE, card.to_json())


def _no_model(path: Path) -> str:
    """Says what a path without a model.json is, and what to do about it."""
    if path.is_file() and (path.parent / MODEL_FILE).is_file():
        return f"is a file; pass its folder {path.parent}"
    if path.is_file() and path.suffix in RELEASE_SUFFIXES:
        return f"is a file; m3sr convert {path} DIR makes a model folder of it"
    if (path / PROGRAM_FILE).is_file():
        return "is an exported program; run its run.py"
    fault = "is a file" if path.is_file() else f"no {MODEL_FILE}" if path.is_dir() else "no such directory"
    return f"{fault}; expected a training workdir or a folder that m3sr convert wrote"


def read_card(directory: Path) -> ModelCard:
    """Reads DIR/model.json.

    Raises:
        InputError: there is no such directory, or no readable model.json in it.
    """
    path = directory / MODEL_FILE
    if not path.is_file():
        raise InputError(f"{directory}: {_no_model(directory)}")
    with reading(path, "a model card"):
        text = path.read_text(encoding="utf-8")
    try:
        return ModelCard.from_json(text)
    except InputError as error:
        raise InputError(f"{path}: {error}") from error

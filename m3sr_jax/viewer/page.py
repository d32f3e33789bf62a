"""A cube as one self-contained web page: its colours, its bands, the spectrum at any pixel, and its errors."""

from __future__ import annotations

import base64
import html
import importlib.util
import io
import json
import os
import re
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8

from m3sr_jax.errors import InputError
from m3sr_jax.evaluation.figures import distinct_pixels, wavelength_colour
from m3sr_jax.io.files import written_whole
from m3sr_jax.viewer.colorimetry import render
from m3sr_jax.viewer.comparison import Comparison, compare
from m3sr_jax.viewer.packing import PackedCubes, pack_cubes

PICTURE_SIDE = 1200  # pixels of the longer side at most: what a panel can show
FLAT = 1.45  # as wide to high as this, pictures lie better above than beside each other
VISIBLE_NM, UNSEEN = (380.0, 760.0), "#8d95a3"
FIRST_PINS, PINS_SIDE = 3, 256
PARTS = ("page.html", "page.css", "data.js", "page.js")


def write_page(
    path: str | os.PathLike[str],
    cube: Float32[np.ndarray, "H W S"],
    wavelengths: Float[np.ndarray, " S"],
    *,
    photo: Float32[np.ndarray, "h w 3"] | None = None,
    truth: Float32[np.ndarray, "H W S"] | None = None,
    title: str = "cube",
) -> None:
    """Writes a page that shows a cube in any browser of 2023 or later, without a network.

    Its numbers are the cube's, rounded to a step that the page states: 1/65534 of the range of values, or as fine as
    fits into 25 MB. Cubes of more than 16 million values are thinned to every n-th row and column, which the page
    states too; errors are those of the whole cube.

    Args:
        path: where to; an earlier page is replaced whole.
        cube: (H, W, S); what is not finite is shown as missing.
        wavelengths: band centres in nm, rising.
        photo: the photo that the cube is of, in [0, 1], of the cube's proportions.
        truth: what the cube should be, of its shape.
        title: the page's heading.

    Raises:
        InputError: Bokeh is not installed, or the place cannot be written.
        ValueError: wavelengths, photo or truth do not fit the cube.
    """
    require_bokeh()
    from bokeh.embed import components
    from bokeh.resources import Resources

    from m3sr_jax.viewer.plots import page_figures

    _check(cube, wavelengths, photo, truth)
    comparison = None if truth is None else compare(cube, truth)
    packed = pack_cubes([cube] if truth is None else [cube, truth])
    rendering = render(cube, wavelengths)
    pictures = {"rendered": _png(rendering.rgba)}
    if photo is not None:
        pictures["photo"] = _png(np.rint(np.clip(photo, 0, 1) * 255).astype(np.uint8))
    facts = _facts(cube, wavelengths, packed, comparison) | {"title": title, "rendering": rendering.how}
    facts["pictures"] = pictures
    covered = (packed.height * packed.factor, packed.width * packed.factor)
    sizes = {"colour": cube.shape[:2], "band": covered} | ({} if truth is None else {"error": covered})
    script, places = components(page_figures(wavelengths, sizes))
    library = Resources(mode="inline", components=["bokeh"]).render()
    page = _fill(facts, packed.texts, dict(places), library + script)
    path = Path(path)
    with written_whole(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def require_bokeh() -> None:
    """Says what to do where Bokeh is not installed.

    Raises:
        InputError: it is not.
    """
    if importlib.util.find_spec("bokeh") is None:
        raise InputError("Bokeh, which draws the page, is not installed; run `pip install 'm3sr-jax[viewer]'`")


def _check(cube: np.ndarray, wavelengths: np.ndarray, photo: np.ndarray | None, truth: np.ndarray | None) -> None:
    if np.shape(wavelengths) != cube.shape[2:]:
        raise ValueError(f"cube {cube.shape} and wavelengths {np.shape(wavelengths)} do not belong together")
    if truth is not None and truth.shape != cube.shape:
        raise ValueError(f"cube {cube.shape} and truth {truth.shape} differ in shape")
    if photo is not None and not same_proportions(photo.shape, cube.shape):
        raise ValueError(f"cube {cube.shape} and photo {photo.shape} differ in proportions")


def same_proportions(photo: tuple[int, ...], cube: tuple[int, ...]) -> bool:
    """Whether a photo can be of a cube: as high to wide, but for rounding to whole pixels."""
    return abs(photo[1] * cube[0] - photo[0] * cube[1]) <= max(photo[0] + photo[1], cube[0] + cube[1]) / 2


def _facts(
    cube: np.ndarray, wavelengths: np.ndarray, packed: PackedCubes, comparison: Comparison | None
) -> dict[str, Any]:
    """Everything that page.js wants to know, in JSON's types."""
    from bokeh.palettes import Magma256

    facts: dict[str, Any] = {
        "size": cube.shape[:2],
        "kept": [packed.height, packed.width],
        "factor": packed.factor,
        "offset": packed.scale.offset,
        "step": packed.scale.step,
        "levels": packed.scale.levels,
        "missing": packed.missing,
        "wavelengths": [float(nm) for nm in wavelengths],
        "colours": [_band_colour(float(nm)) for nm in wavelengths],
        "pins": _first_pins(cube, packed.factor),
        "errorPalette": list(Magma256),
        "comparison": None,
    }
    if comparison is not None:
        facts["comparison"] = {
            "rmse": _number(comparison.rmse),
            "psnr": _number(comparison.psnr),
            "sam": _number(comparison.sam),
            "bandRmse": [_number(value) for value in comparison.band_rmse],
        }
    return facts


def _number(value: float) -> float | None:
    return float(value) if np.isfinite(value) else None


def _band_colour(nm: float) -> str:
    if not VISIBLE_NM[0] <= nm <= VISIBLE_NM[1]:
        return UNSEEN
    return "#" + "".join(f"{round(255 * part):02x}" for part in wavelength_colour(nm))


def _png(picture: UInt8[np.ndarray, "H W C"]) -> str:
    """A picture of at most PICTURE_SIDE pixels a side, as base64."""
    from PIL import Image

    image, file = Image.fromarray(picture), io.BytesIO()
    image.thumbnail((PICTURE_SIDE, PICTURE_SIDE), Image.Resampling.BOX)
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _first_pins(cube: np.ndarray, factor: int) -> list[list[int]]:
    """A few pixels of different colour, (row, column), so that the page opens with spectra to look at."""
    stride = factor * max(1, max(cube.shape[:2]) // (factor * PINS_SIDE))
    thin = np.nan_to_num(cube[::stride, ::stride], nan=0.0, posinf=0.0, neginf=0.0)
    if min(thin.shape[:2]) < PINS_SIDE // 16:
        return [[cube.shape[0] // 2, cube.shape[1] // 2]]
    return [[row * stride, column * stride] for row, column in distinct_pixels(thin, FIRST_PINS)]


def _fill(facts: Mapping[str, Any], texts: Sequence[str], places: Mapping[str, str], head: str) -> str:
    """Puts everything into page.html, whose blanks are {{name}}."""
    parts = resources.files("m3sr_jax.viewer").joinpath("static")
    read = {name: parts.joinpath(name).read_text(encoding="utf-8") for name in PARTS}
    coded = zip(("cube", "truth"), texts, strict=False)
    height, width = facts["size"]
    blanks = {f"{name}_figure": places.get(name, "") for name in ("colour", "band", "error", "spectra", "bands")}
    blanks |= {
        "title": html.escape(str(facts["title"])),
        "kind": ("alone" if facts["comparison"] is None else "compared") + (" flat" if width > FLAT * height else ""),
        "style": read["page.css"],
        "script": read["data.js"] + read["page.js"],
        "bokeh": head,
        "facts": json.dumps(facts, allow_nan=False).replace("<", "\\u003c"),
        "codes": "\n".join(f'<script type="text/plain" id="codes-{name}">{text}</script>' for name, text in coded),
    }
    pieces = re.split(r"\{\{(\w+)\}\}", read["page.html"])
    return "".join(blanks[piece] if i % 2 else piece for i, piece in enumerate(pieces))

"""The self-contained web page of a cube: its colours, its bands, the spectrum of any pixel, and its errors."""

from __future__ import annotations

import base64
import html
import importlib.util
import io
import json
import os
import re
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, UInt8

from m3sr_jax.errors import InputError
from m3sr_jax.evaluation.figures import distinct_pixels, wavelength_colour
from m3sr_jax.io.files import unicode, written_whole
from m3sr_jax.io.strips import strips
from m3sr_jax.viewer.colorimetry import DIFFERENCE_CODES, difference_picture, render
from m3sr_jax.viewer.comparison import Comparison, compare
from m3sr_jax.viewer.packing import PackedCubes, pack_cubes

MAX_PICTURE_SIDE = 1200  # pixels that a panel can show
FLAT_ASPECT = 1.45  # pictures wider than this are stacked, not placed side by side
VISIBLE_NM, INVISIBLE_COLOUR = (380.0, 760.0), "#8d95a3"
INITIAL_PINS, PIN_SEARCH_SIDE = 3, 256
STATIC_FILES = ("page.html", "page.css", "data.js", "page.js")


def write_page(
    path: str | os.PathLike[str],
    cube: Float32[np.ndarray, "H W S"],
    wavelengths: Float[np.ndarray, " S"] | None,
    *,
    photo: Float32[np.ndarray, "h w 3"] | None = None,
    truth: Float32[np.ndarray, "H W S"] | None = None,
    interval: Float32[np.ndarray, "h w S"] | None = None,
    check: bool = False,
    title: str = "cube",
) -> None:
    """Writes a page that shows a cube in any browser from 2023 or later, without a network.

    The page rounds values to a step that it states: 1/65534 of their range, or the finest that fits in 25 MB. It shows
    only every n-th row and column of cubes of more than 16 million values, and says so; scores and the errors of bands
    are those of the whole cube.

    Args:
        path: the page; an existing one is replaced.
        cube: (H, W, S); values that are not finite are shown as missing.
        wavelengths: band centres in nm, ascending; None numbers the bands from 1.
        photo: the photo of the same scene, in [0, 1], with the cube's proportions.
        truth: the true cube, of the same shape.
        interval: half-widths of the cube's intervals, for the pixels that the page keeps: see `pack_cubes`.
        check: the cube holds reflectances of the photo, of the same height and width: also show where the colours of
            the two differ.
        title: the page's heading.

    Raises:
        InputError: Bokeh is not installed, or the page cannot be written.
        ValueError: wavelengths, photo or truth do not fit the cube.
    """
    require_bokeh()
    from bokeh.embed import components
    from bokeh.resources import Resources

    from m3sr_jax.viewer.plots import page_figures

    _check(cube, wavelengths, photo, truth)
    comparison = None if truth is None else compare(cube, truth)
    packed = pack_cubes([cube] if truth is None else [cube, truth], interval)
    rendering = render(cube, wavelengths)
    pictures = {"rendered": _png(rendering.rgba)}
    if photo is not None:
        codes = [np.rint(np.clip(photo[rows], 0, 1) * 255).astype(np.uint8) for rows in strips(photo.shape)]
        pictures["photo"] = _png(np.concatenate(codes))
    if check and photo is not None and wavelengths is not None:
        pictures["difference"] = _png(difference_picture(cube, wavelengths, photo))
    facts = _facts(cube, wavelengths, packed, comparison)
    facts |= {"title": unicode(title), "rendering": rendering.description}
    facts["difference"] = f"cube against photo, 0 to {DIFFERENCE_CODES}/255"
    facts["pictures"] = pictures
    names = ["cube", *(["truth"] if truth is not None else []), *(["interval"] if interval is not None else [])]
    texts = dict(zip(names, packed.texts, strict=True))
    covered = (packed.height * packed.factor, packed.width * packed.factor)
    sizes = {"colour": cube.shape[:2], "band": covered} | ({} if truth is None else {"error": covered})
    unit = "band" if wavelengths is None else "nm"
    script, places = components(page_figures(_positions(cube, wavelengths), sizes, unit, interval is not None))
    library = Resources(mode="inline", components=["bokeh"]).render()
    page = _fill(facts, texts, dict(places), library + script)
    path = Path(path)
    with written_whole(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def require_bokeh() -> None:
    """Raises an InputError that says how to install Bokeh, if it is not installed."""
    if importlib.util.find_spec("bokeh") is None:
        raise InputError("Bokeh, which draws the page, is not installed; run pip install bokeh")


def _check(
    cube: np.ndarray, wavelengths: np.ndarray | None, photo: np.ndarray | None, truth: np.ndarray | None
) -> None:
    if wavelengths is not None and np.shape(wavelengths) != cube.shape[2:]:
        raise ValueError(f"cube {cube.shape} and wavelengths {np.shape(wavelengths)} do not belong together")
    if truth is not None and truth.shape != cube.shape:
        raise ValueError(f"cube {cube.shape} and truth {truth.shape} differ in shape")
    if photo is not None and not same_proportions(photo.shape, cube.shape):
        raise ValueError(f"cube {cube.shape} and photo {photo.shape} differ in proportions")


def same_proportions(photo: tuple[int, ...], cube: tuple[int, ...]) -> bool:
    """Whether a photo and a cube have the same proportions, up to rounding to whole pixels."""
    return abs(photo[1] * cube[0] - photo[0] * cube[1]) <= max(photo[0] + photo[1], cube[0] + cube[1]) / 2


def _positions(cube: np.ndarray, wavelengths: np.ndarray | None) -> np.ndarray:
    """Returns the bands' places on the axis of the plots: wavelengths in nm, or numbers from 1."""
    return np.arange(1.0, cube.shape[2] + 1) if wavelengths is None else wavelengths


def _facts(
    cube: np.ndarray, wavelengths: np.ndarray | None, packed: PackedCubes, comparison: Comparison | None
) -> dict[str, Any]:
    """Returns everything that page.js needs besides the cubes, in JSON types."""
    from bokeh.palettes import Magma256

    facts: dict[str, Any] = {
        "size": cube.shape[:2],
        "kept": [packed.height, packed.width],
        "factor": packed.factor,
        "offset": packed.scale.offset,
        "step": packed.scale.step,
        "levels": packed.scale.levels,
        "missing": packed.missing,
        "unit": "band" if wavelengths is None else "nm",
        "wavelengths": [float(position) for position in _positions(cube, wavelengths)],
        "colours": [INVISIBLE_COLOUR] * cube.shape[2]
        if wavelengths is None
        else [_band_colour(float(nm)) for nm in wavelengths],
        "pins": _initial_pins(cube, packed.factor),
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
        return INVISIBLE_COLOUR
    return "#" + "".join(f"{round(255 * part):02x}" for part in wavelength_colour(nm))


def _png(picture: UInt8[np.ndarray, "H W C"]) -> str:
    """Encodes a picture, shrunk to at most MAX_PICTURE_SIDE pixels a side, as base64."""
    from PIL import Image

    image, file = Image.fromarray(picture), io.BytesIO()
    image.thumbnail((MAX_PICTURE_SIDE, MAX_PICTURE_SIDE), Image.Resampling.BOX)
    image.save(file, "PNG", optimize=True)
    return base64.b64encode(file.getvalue()).decode("ascii")


def _initial_pins(cube: np.ndarray, factor: int) -> list[list[int]]:
    """Chooses a few pixels (row, column) of different colours, so that the page opens with spectra to look at."""
    stride = factor * max(1, max(cube.shape[:2]) // (factor * PIN_SEARCH_SIDE))
    thin = np.nan_to_num(cube[::stride, ::stride], nan=0.0, posinf=0.0, neginf=0.0)
    if min(thin.shape[:2]) < PIN_SEARCH_SIDE // 16:
        return [[cube.shape[0] // 2, cube.shape[1] // 2]]
    return [[row * stride, column * stride] for row, column in distinct_pixels(thin, INITIAL_PINS)]


def _fill(facts: Mapping[str, Any], texts: Mapping[str, str], places: Mapping[str, str], head: str) -> str:
    """Fills in page.html, whose placeholders are {{name}}."""
    folder = resources.files("m3sr_jax.viewer").joinpath("static")
    read = {name: folder.joinpath(name).read_text(encoding="utf-8") for name in STATIC_FILES}
    height, width = facts["size"]
    layout = "alone" if facts["comparison"] is None else "compared"
    if width > FLAT_ASPECT * height:
        layout += " flat"
    blanks = {f"{name}_figure": places.get(name, "") for name in ("colour", "band", "error", "spectra", "bands")}
    blanks |= {
        "title": html.escape(str(facts["title"])),
        "layout": layout,
        "style": read["page.css"],
        "script": read["data.js"] + read["page.js"],
        "bokeh": head,
        "facts": json.dumps(facts, allow_nan=False).replace("<", "\\u003c"),
        "codes": "\n".join(
            f'<script type="text/plain" id="codes-{name}">{text}</script>' for name, text in texts.items()
        ),
    }
    pieces = re.split(r"\{\{(\w+)\}\}", read["page.html"])
    return "".join(blanks[piece] if i % 2 else piece for i, piece in enumerate(pieces))

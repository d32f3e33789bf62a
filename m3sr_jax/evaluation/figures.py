"""The picture of a reconstruction: photo, error map, three bands beside the truth, and spectra at four pixels."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Float, Float32

from m3sr_jax.data.scenes import Scene
from m3sr_jax.errors import InputError
from m3sr_jax.evaluation.metrics import sam
from m3sr_jax.io.files import unicode, written_whole

# Positions of the three bands in the range: 450, 550 and 650 nm of 400-700.
BAND_POSITIONS = (1 / 6, 1 / 2, 5 / 6)
MARKS = "ABCD"
INK, ACCENT, FAINT = "#22252b", "#d6336c", "#8a8f98"
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 10,
    "text.color": INK,
    "text.parse_math": False,  # $ in a label is no formula
    "axes.edgecolor": FAINT,
    "axes.labelcolor": INK,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "xtick.color": INK,
    "ytick.color": INK,
    "xtick.labelsize": 9,
    "ytick.labelsize": 9,
    "savefig.facecolor": "white",
}
RAINBOW = {
    380: (0.18, 0.00, 0.28),
    430: (0.32, 0.12, 0.75),
    465: (0.10, 0.35, 0.95),
    495: (0.00, 0.70, 0.80),
    530: (0.15, 0.75, 0.25),
    575: (0.98, 0.85, 0.15),
    605: (0.98, 0.55, 0.10),
    645: (0.88, 0.12, 0.12),
    720: (0.35, 0.00, 0.03),
}
# Inches; the width of a picture sets the scale of everything else.
WIDTH, LEFT, PICTURE, GAP, TOP, SPECTRA, BOTTOM = 10.0, 0.62, 1.9, 0.07, 0.8, 1.55, 0.82
MAX_SQUARED = 1e15  # sums of its square stay in float32; files may have 1e20 or -3.4e38 where values are missing
MAX_ASPECT = 4  # pictures longer than this leave part of their place empty


@dataclass(frozen=True)
class Estimate:
    """A predicted cube (H, W, S) and its label."""

    label: str
    cube: Float32[np.ndarray, "H W S"]


class _Page:
    """A figure whose axes are placed in inches from the top left corner."""

    def __init__(self, aspect: float) -> None:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        self.picture_height = PICTURE * min(max(aspect, 1 / MAX_ASPECT), MAX_ASPECT)
        self.height = TOP + 2 * self.picture_height + GAP + 0.72 + SPECTRA + BOTTOM
        self.figure = Figure(figsize=(WIDTH, self.height))
        FigureCanvasAgg(self.figure)

    def axes(self, x: float, y: float, width: float, height: float) -> Any:
        return self.figure.add_axes((x / WIDTH, 1 - (y + height) / self.height, width / WIDTH, height / self.height))

    def picture(self, x: float, y: float, image: np.ndarray, **options: Any) -> tuple[Any, Any]:
        axes = self.axes(x, y, PICTURE, self.picture_height)
        axes.axis("off")
        return axes, axes.imshow(image, aspect="equal", **options)

    def scale(self, image: Any, x: float, y: float, height: float) -> None:
        from matplotlib.ticker import MaxNLocator

        axes = self.axes(x, y, 0.09, height)
        bar = self.figure.colorbar(image, cax=axes, ticks=MaxNLocator(3), extend="max")
        bar.outline.set_visible(False)
        axes.tick_params(length=0)

    def text(self, x: float, y: float, text: str, **options: Any) -> None:
        self.figure.text(x / WIDTH, 1 - y / self.height, text, **options)


def reconstruction_figure(
    scene: Scene,
    estimate: Estimate,
    path: str | os.PathLike[str],
    *,
    baseline: Estimate | None = None,
    title: str = "",
    photo: str = "RGB input",
    pixels: Sequence[tuple[int, int]] = (),
) -> None:
    """Draws a reconstruction and writes it to an image file.

    Top: the photo (brightened by a gamma of 2.2 for display) with four marked pixels, and three bands of the truth.
    Middle: the root-mean-square error over all bands, and the same bands of the reconstruction on the same grey scale.
    Bottom: the spectra at the marked pixels, with the spectral angle to the truth, and the error of each band.

    Args:
        scene: photo, true cube and wavelengths.
        estimate: the reconstruction.
        path: the image; its suffix sets the format (.png, .pdf, .svg). An existing file is replaced.
        baseline: a second reconstruction, drawn as a thin dotted line in the spectra.
        title: one line above the pictures.
        photo: what the photo is.
        pixels: (row, column) of up to four whose spectra to show; by default four of different colours.

    Raises:
        InputError: a pixel lies outside the scene, or the file cannot be written.
    """
    from matplotlib import rc_context

    for row, column in pixels:
        if not (0 <= row < scene.cube.shape[0] and 0 <= column < scene.cube.shape[1]):
            size = f"{scene.cube.shape[0]}×{scene.cube.shape[1]}"
            raise InputError(f"scene {scene.name}: pixel {row},{column} lies outside its {size} pixels")
    pixels = list(pixels) or distinct_pixels(scene.cube, len(MARKS))
    estimate = replace(estimate, label=unicode(estimate.label))
    with rc_context(STYLE):
        page = _Page(scene.cube.shape[0] / scene.cube.shape[1])
        page.text(LEFT, 0.34, unicode(title), fontsize=12, fontweight="bold")
        _draw_photo_and_error(page, scene, estimate, photo, pixels)
        _draw_bands(page, scene, estimate)
        _draw_spectra(page, scene, estimate, baseline, pixels)
        with written_whole(Path(path)) as unfinished:
            page.figure.savefig(unfinished, dpi=200)


def _draw_photo_and_error(
    page: _Page, scene: Scene, estimate: Estimate, label: str, pixels: Sequence[tuple[int, int]]
) -> None:
    from matplotlib.patheffects import withStroke

    photo, _ = page.picture(LEFT, TOP, np.clip(scene.rgb, 0, 1) ** (1 / 2.2))
    page.text(LEFT, TOP - 0.08, f"{label} (shown at γ 2.2)")
    ring = {"ms": 7, "mfc": "none", "mec": "white", "mew": 1.6}
    letter = {"textcoords": "offset points", "color": "white", "weight": "bold"}
    outline = {"path_effects": [withStroke(linewidth=3, foreground=INK)]}
    for (row, column), mark in zip(pixels, MARKS, strict=False):
        photo.plot(column, row, "o", **ring, **outline)
        away = (8 if column < 0.85 * scene.rgb.shape[1] else -16, 6 if row > 0.15 * scene.rgb.shape[0] else -12)
        photo.annotate(mark, (column, row), away, **letter, **outline)
    error = np.sqrt(np.mean((estimate.cube - scene.cube) ** 2, axis=-1))
    y = TOP + page.picture_height + GAP
    _, image = page.picture(LEFT, y, error, cmap="magma", vmin=0, vmax=_top(error, 99.5))
    page.scale(image, LEFT + PICTURE + 0.06, y + 0.1, page.picture_height - 0.2)
    page.text(LEFT, y + page.picture_height + 0.17, "error (RMS over all bands)")


def _draw_bands(page: _Page, scene: Scene, estimate: Estimate) -> None:
    from matplotlib.colors import PowerNorm

    low, high = scene.wavelengths[0], scene.wavelengths[-1]
    bands = [int(np.abs(scene.wavelengths - low - part * (high - low)).argmin()) for part in BAND_POSITIONS]
    # A square-root scale: on a linear one, highlights leave everything else black.
    norm = PowerNorm(0.5, 0, _top(scene.cube[..., bands], 99.8))
    start = LEFT + PICTURE + 0.98
    for row, (label, cube) in enumerate([("truth", scene.cube), (estimate.label, estimate.cube)]):
        y = TOP + row * (page.picture_height + GAP)
        page.text(start - 0.08, y + page.picture_height / 2, label, rotation=90, ha="right", va="center")
        for i, band in enumerate(bands):
            x = start + i * (PICTURE + GAP)
            _, image = page.picture(x, y, np.clip(cube[..., band], 0, 1), cmap="gray", norm=norm)
            if row == 0:
                wavelength = float(scene.wavelengths[band])
                page.text(x, TOP - 0.08, "■", color=wavelength_colour(wavelength))
                page.text(x + 0.17, TOP - 0.08, f"{wavelength:g} nm")
    page.scale(image, start + 3 * PICTURE + 2.8 * GAP, TOP, 2 * page.picture_height + GAP)


def _draw_spectra(
    page: _Page, scene: Scene, estimate: Estimate, baseline: Estimate | None, pixels: Sequence[tuple[int, int]]
) -> None:
    """Draws one panel per pixel, then one with the error of each band."""
    nm, y, gap = scene.wavelengths, page.height - BOTTOM - SPECTRA, 0.42
    panels = len(pixels) + 1
    width = (WIDTH - LEFT - 0.24 - (panels - 1) * gap) / panels
    curves = [(estimate, {"color": ACCENT, "lw": 2, "dashes": (3, 1.4)})]
    if baseline is not None:
        curves.append((baseline, {"color": FAINT, "lw": 1.4, "ls": ":"}))
    for i, (pixel, mark) in enumerate(zip(pixels, MARKS, strict=False)):
        x = LEFT + i * (width + gap)
        axes = page.axes(x, y, width, SPECTRA)
        axes.plot(nm, scene.cube[pixel], color=INK, lw=2, label="truth")
        for method, style in curves:
            axes.plot(nm, method.cube[pixel], label=method.label, **style)
        _finish_panel(page, axes, x, width, nm)
        angle = float(sam(estimate.cube[pixel][None, None, None], scene.cube[pixel][None, None, None])[0])
        page.text(x, y - 0.1, mark, weight="bold", fontsize=11)
        page.text(x + width, y - 0.1, f"SAM {angle:.1f}°", ha="right", fontsize=9, color=ACCENT)
    lines = axes.get_legend_handles_labels()
    x = LEFT + len(pixels) * (width + gap)
    axes = page.axes(x, y, width, SPECTRA)
    for method, style in curves:
        axes.plot(nm, np.sqrt(np.square(method.cube - scene.cube).mean(axis=(0, 1))), **style)
    _finish_panel(page, axes, x, width, nm)
    page.text(x, y - 0.1, "RMSE by band", fontsize=9)
    page.text(LEFT - 0.48, y + SPECTRA / 2, "intensity", rotation=90, ha="center", va="center")
    page.text(LEFT, page.height - 0.18, "wavelength (nm)")
    corner = (1 - 0.24 / WIDTH, 0.06 / page.height)
    page.figure.legend(*lines, loc="lower right", ncols=3, frameon=False, borderaxespad=0, bbox_to_anchor=corner)


def _finish_panel(page: _Page, axes: Any, x: float, width: float, nm: np.ndarray) -> None:
    """Sets limits and ticks, and draws a strip of the wavelengths' colours below."""
    from matplotlib.ticker import MaxNLocator

    margin = 0 if len(nm) > 1 else 1
    axes.set_xlim(nm[0] - margin, nm[-1] + margin)
    axes.set_ylim(min(0, axes.get_ylim()[0]), 1.06 * axes.get_ylim()[1])
    axes.yaxis.set_major_locator(MaxNLocator(3, min_n_ticks=3))
    axes.locator_params(axis="x", nbins=3)
    axes.tick_params(axis="x", pad=8)
    strip = np.array([[wavelength_colour(float(wavelength)) for wavelength in np.linspace(nm[0], nm[-1], 256)]])
    rainbow = page.axes(x, page.height - BOTTOM + 0.01, width, 0.07)
    rainbow.imshow(strip, aspect="auto")
    rainbow.axis("off")


def _top(values: np.ndarray, percentile: float) -> float:
    """Returns the upper end of a scale: below a few highlights, and above zero even if all is black."""
    return max(float(np.percentile(values, percentile)), 1e-6)


def wavelength_colour(wavelength: float) -> tuple[float, float, float]:
    """Returns an sRGB colour in [0, 1] to represent a wavelength in nm: a legend, not colorimetry."""
    channels = zip(*RAINBOW.values(), strict=True)
    red, green, blue = (float(np.interp(wavelength, [*RAINBOW], channel)) for channel in channels)
    return red, green, blue


def distinct_pixels(cube: Float[np.ndarray, "H W S"], count: int) -> list[tuple[int, int]]:
    """Chooses pixels of clearly different colours in smooth, not too dark places; deterministic.

    Args:
        cube: (H, W, S).
        count: how many to choose.

    Returns:
        (row, column) of each, from left to right.
    """
    from scipy.ndimage import uniform_filter

    height, width, _ = cube.shape
    cube = np.clip(cube, -MAX_SQUARED, MAX_SQUARED)
    blur = partial(uniform_filter, size=max(5, min(height, width) // 20), axes=(0, 1))
    mean = blur(cube)
    level = np.linalg.norm(mean, axis=-1)
    roughness = (blur(cube**2) - mean**2).sum(-1) / np.maximum(level, 1e-6) ** 2
    rows, columns = np.mgrid[:height, :width]
    inside = (np.abs(rows / height - 0.5) < 0.44) & (np.abs(columns / width - 0.5) < 0.44)
    peak = np.percentile(level, 99.5)
    bright = inside & (level > 0.15 * peak) & (level < 0.7 * peak)
    if bright.sum() < count:
        bright = inside
    smooth = bright & (roughness <= np.percentile(roughness[bright], 25))
    places = np.argwhere(smooth)[:: max(1, int(smooth.sum()) // 4000)]
    colours = mean[tuple(places.T)] / np.maximum(level[tuple(places.T)], 1e-6)[:, None]
    where = places / (height, width)
    # Farthest-point sampling in colour, at some distance in the image, so that the marks do not overlap.
    chosen = [int(np.linalg.norm(colours - colours.mean(0), axis=1).argmax())]
    while len(chosen) < count:
        contrast = np.min([np.linalg.norm(colours - colours[i], axis=1) for i in chosen], axis=0)
        apart = np.min([np.linalg.norm(where - where[i], axis=1) for i in chosen], axis=0)
        chosen.append(int((contrast * np.minimum(apart / 0.15, 1) ** 2 + 1e-3 * apart).argmax()))
    picked = sorted((int(column), int(row)) for row, column in places[chosen])
    return [(row, column) for column, row in picked]

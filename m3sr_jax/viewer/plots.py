"""The Bokeh figures of a cube's page: empty, with named data sources that `static/page.js` fills.

The page's style sheet sets all colours, light and dark.
"""

# Bokeh derives the arguments of its models from their properties at run time, which a type checker cannot see.
# pyright: reportCallIssue=false, reportArgumentType=false, reportAttributeAccessIssue=false

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from bokeh.events import Press, Tap
from bokeh.models import (
    ColumnDataSource,
    CustomJS,
    HoverTool,
    LinearColorMapper,
    Model,
    PanTool,
    Range1d,
    Span,
    WheelZoomTool,
)
from bokeh.plotting import figure
from jaxtyping import Float

PLAIN: dict[str, Any] = {
    "toolbar_location": None,
    "sizing_mode": "stretch_both",
    "background_fill_color": None,
    "border_fill_color": None,
    "outline_line_color": None,
}
# With more bands, points on the spectra are invisible and serve the tooltip only.
MAX_MARKED_BANDS = 64
POSITION_TIPS = {"nm": ("wavelength", "@nm{0.##} nm"), "band": ("band", "@nm{0}")}
AXIS_LABELS = {"nm": "wavelength (nm)", "band": "band"}


def page_figures(
    positions: Float[np.ndarray, " S"], sizes: Mapping[str, tuple[int, int]], unit: str = "nm", interval: bool = False
) -> dict[str, Model]:
    """Creates one figure per picture, on shared axes, `spectra`, and `bands` if there is an `error` picture.

    Args:
        positions: band centres, or numbers of bands, ascending.
        sizes: name → height and width in pixels that the picture covers: "colour", "band" and optionally "error".
        unit: of `positions`: "nm", or "band" for numbers.
        interval: whether the spectra have intervals.
    """
    height, width = sizes["colour"]
    x_range, y_range = Range1d(0, width), Range1d(height, 0)
    pins = ColumnDataSource({"x": [], "y": [], "colour": [], "letter": []}, name="pins")
    cursor = ColumnDataSource({"x": [], "y": []}, name="cursor")
    figures: dict[str, Model] = {
        name: _picture(name, size, (x_range, y_range), (pins, cursor)) for name, size in sizes.items()
    }
    x_range = _band_range(positions)
    figures["spectra"] = _spectra(x_range, len(positions), unit, interval)
    if "error" in sizes:
        figures["bands"] = _band_errors(x_range, positions, unit)
    return figures


def _picture(
    name: str,
    size: tuple[int, int],
    ranges: tuple[Range1d, Range1d],
    marks: tuple[ColumnDataSource, ColumnDataSource],
) -> figure:
    height, width = size
    tools = [PanTool(), WheelZoomTool()]
    picture = figure(name=name, tools=tools, x_range=ranges[0], y_range=ranges[1], min_border=0, **PLAIN)
    picture.toolbar.active_scroll = tools[1]
    picture.axis.visible, picture.grid.visible = False, False
    # One pixel, to set the array's type; the page fills in whole images.
    kind = np.uint32 if name == "colour" else np.float32
    source = ColumnDataSource({"image": [np.zeros((1, 1), kind)]}, name=f"{name}_image")
    place: dict[str, Any] = {"x": 0, "y": 0, "dw": width, "dh": height}
    if name == "colour":
        picture.image_rgba("image", source=source, **place)
    else:
        mapper = LinearColorMapper(palette=["#000000", "#ffffff"], low=0, high=1, name=f"{name}_mapper")
        mapper.nan_color = "rgba(0, 0, 0, 0)"
        picture.image("image", source=source, color_mapper=mapper, **place)
    pins, cursor = marks
    picture.scatter("x", "y", source=cursor, marker="cross", size=16, line_color="black", line_width=3.5)
    picture.scatter("x", "y", source=cursor, marker="cross", size=15, line_color="white", line_width=1.5)
    picture.scatter("x", "y", source=pins, size=15, fill_color="colour", line_color="white", line_width=2)
    letter: dict[str, Any] = {"text_font_size": "10px", "text_font_style": "bold", "text_color": "white"}
    picture.text("x", "y", "letter", source=pins, text_align="center", text_baseline="middle", **letter)
    return picture


def _band_range(positions: Float[np.ndarray, " S"]) -> Range1d:
    margin = 0.5 * (positions[-1] - positions[0]) / max(len(positions) - 1, 1) or 1.0
    return Range1d(float(positions[0] - margin), float(positions[-1] + margin))


def _plot(name: str, x_range: Range1d, labels: tuple[str, str]) -> figure:
    plot = figure(name=name, tools="", x_range=x_range, y_range=Range1d(0, 1), min_border_right=14, **PLAIN)
    plot.xaxis.axis_label, plot.yaxis.axis_label = labels
    plot.axis.axis_label_text_font_style = "normal"
    plot.axis.minor_tick_line_color = None
    plot.xgrid.grid_line_color = None
    plot.add_layout(Span(dimension="height", line_width=1.5, line_dash="dotted", name=f"{name}_here"))
    for click in (Tap, Press):  # Bokeh reports a slow click as a press
        plot.js_on_event(click, CustomJS(code="window.m3sr?.chooseWavelength(cb_obj.x)"))
    return plot


def _spectra(x_range: Range1d, bands: int, unit: str, interval: bool) -> figure:
    plot = _plot("spectra", x_range, (AXIS_LABELS[unit], "value"))
    truth = ColumnDataSource({"nm": [], "value": [], "colour": []}, name="truth_lines")
    lines = ColumnDataSource({"nm": [], "value": [], "colour": []}, name="spectrum_lines")
    samples = ColumnDataSource({"nm": [], "value": [], "colour": [], "label": [], "half": []}, name="samples")
    if interval:
        areas = ColumnDataSource({"nm": [], "value": [], "colour": []}, name="interval_areas")
        plot.patches("nm", "value", source=areas, fill_color="colour", fill_alpha=0.16, line_color=None)
    plot.multi_line("nm", "value", source=truth, line_color="colour", line_width=2, line_dash=[6, 4])
    plot.multi_line("nm", "value", source=lines, line_color="colour", line_width=2.5)
    alpha = 1.0 if bands <= MAX_MARKED_BANDS else 0.0
    dots = plot.scatter("nm", "value", source=samples, size=5, color="colour", alpha=alpha, hover_alpha=1.0)
    tips = [("", "@label"), POSITION_TIPS[unit], ("value", "@value{0.000000}")]
    tips += [("interval", "±@half{0.0000}")] if interval else []
    plot.add_tools(HoverTool(renderers=[dots], tooltips=tips, point_policy="snap_to_data", mode="mouse"))
    return plot


def _band_errors(x_range: Range1d, positions: Float[np.ndarray, " S"], unit: str) -> figure:
    plot = _plot("bands", x_range, (AXIS_LABELS[unit], "RMSE"))
    source = ColumnDataSource({"nm": [], "rmse": [], "colour": []}, name="band_errors")
    step = float(np.diff(positions).min()) if len(positions) > 1 else 1.0
    bars = plot.vbar("nm", top="rmse", width=0.82 * step, source=source, color="colour", line_color=None)
    plot.add_tools(HoverTool(renderers=[bars], tooltips=[POSITION_TIPS[unit], ("RMSE", "@rmse{0.000000}")]))
    return plot

"""Rendering, against colour-science's own integration and against the renderings of CAVE's authors."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m3sr_jax.viewer.colorimetry import display_matrix, render

NM = np.arange(400.0, 701.0, 10.0)
# 10 nm bands from 400 to 700 nm, against the whole curves at 5 nm: the largest difference is 0.001 of white.
BAND_TOLERANCE = 0.002


def test_white_is_white():
    assert (render(np.ones((2, 2, 31), np.float32), NM, exposure=1.0).rgba == 255).all()
    grey = render(np.full((2, 2, 31), 0.2140, np.float32), NM, exposure=1.0).rgba
    assert (grey[..., :3] == 127).all()  # 0.2140 is what sRGB's 127 encodes


@pytest.mark.filterwarnings("ignore::colour.utilities.verbose.ColourRuntimeWarning")
def test_measured_reflectances_have_the_colours_that_colour_science_gives():
    import colour

    chart = colour.SDS_COLOURCHECKERS["BabelColor Average"]
    weights, description = display_matrix(NM)
    assert description == "CIE 1931 × D65"
    cmfs = colour.MSDS_CMFS["CIE 1931 2 Degree Standard Observer"]
    lamp = colour.SDS_ILLUMINANTS["D65"]
    to_rgb = colour.RGB_COLOURSPACES["sRGB"].matrix_XYZ_to_RGB
    for patch in chart.values():
        ours = np.interp(NM, patch.wavelengths, patch.values) @ weights
        theirs = to_rgb @ (colour.sd_to_XYZ(patch, cmfs, lamp) / 100)
        np.testing.assert_allclose(ours, theirs, atol=BAND_TOLERANCE)


def test_exposure_brightens_dim_cubes_and_is_stated():
    rendering = render(np.full((4, 4, 31), 0.05, np.float32), NM)
    assert (rendering.rgba[..., :3] >= 254).all()
    assert rendering.description == "CIE 1931 × D65, exposure × 20"


@pytest.mark.parametrize("nm", [np.linspace(900, 1700, 12), np.array([550.0]), np.array([500.0, 600.0])])
def test_false_colour_where_there_is_no_visible_range(nm):
    cube = np.zeros((2, 2, len(nm)), np.float32)
    cube[0, 0, -1] = 1
    rendering = render(cube, nm, exposure=1.0)
    assert rendering.description.startswith(f"false colour {nm[-1]:.0f} / ")
    assert rendering.rgba[0, 0, 0] == 255
    assert (rendering.rgba[1, 1, :3] == 0).all()


def test_bands_without_any_value_are_left_out():
    cube = np.full((3, 3, 31), 0.5, np.float32)
    cube[..., :4] = np.nan
    np.testing.assert_array_equal(render(cube, NM).rgba, render(cube[..., 4:].copy(), NM[4:]).rgba)
    assert render(cube, None).description.startswith("false colour bands 31 / ")


def test_missing_values_are_transparent_and_do_not_set_the_exposure():
    cube = np.full((3, 3, 31), 0.5, np.float32)
    cube[1, 1, 4] = np.nan
    cube[0, 0] = np.inf
    rgba = render(cube, NM).rgba
    assert [rgba[1, 1, 3], rgba[0, 0, 3], rgba[2, 2, 3]] == [0, 0, 255]
    assert (rgba[2, 2] >= 254).all()
    assert (render(np.full_like(cube, np.nan), NM).rgba == 0).all()


@pytest.mark.skipif("M3SR_DATA_DIR" not in os.environ, reason="M3SR_DATA_DIR is not set: no real cubes here")
def test_cave_looks_as_its_authors_rendered_it():
    folder = Path(os.environ["M3SR_DATA_DIR"], "cave_raw", "balloons_ms")
    bands = [np.asarray(Image.open(path)) for path in sorted(folder.glob("balloons_ms_*.png"))]
    cube = np.stack(bands, -1).astype(np.float32) / 65535
    rgb = render(cube, NM, exposure=1.0).rgba[..., :3].astype(np.float64)
    theirs = np.asarray(Image.open(folder / "balloons_RGB.bmp").convert("RGB"), np.float64)
    psnr = 10 * np.log10(255**2 / np.mean((rgb - theirs) ** 2))
    # The lowest of all CAVE scenes under exact D65; their exposure differs slightly from scene to scene.
    assert psnr > 31

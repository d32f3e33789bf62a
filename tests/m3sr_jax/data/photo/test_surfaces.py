"""Tests for the reflectances of simulated scenes."""

import numpy as np
import pytest

from m3sr_jax.data.photo.surfaces import GREYS, Pigments, absorption, reflectance, whites
from m3sr_jax.data.spectra import reflectances, white_paint
from m3sr_jax.io.wavelengths import BANDS


def test_pigments_stay_near_measured_ones():
    measured = reflectances()
    changed = Pigments.of(measured).changed(500, np.random.default_rng(0))
    nearest = np.abs(changed[:, None] - measured[None]).mean(-1).min(1)
    assert 0.005 < np.median(nearest) < 0.05  # changed, yet close to a measured one


def test_absorption_and_reflectance_are_inverse():
    ratio = np.array([[1e-4, 0.1, 1.0, 30.0]])
    np.testing.assert_allclose(absorption(reflectance(ratio)), ratio, rtol=1e-9)
    assert reflectance(np.array([[0.5]]))[0, 0] == pytest.approx(0.381966, abs=1e-6)  # (3 − √5) / 2


def test_white_paint_has_the_edge_of_titanium_dioxide():
    white = white_paint()
    assert white[0] < 0.5 < white[1] < 0.8 < white[3]
    assert white[5:].min() > 0.88
    drawn = whites(400, np.random.default_rng(0))
    edges = [np.interp(0.5, row[:4], BANDS[:4]) for row in drawn if row[0] < 0.5]
    assert 402 < np.mean(edges) < 408
    assert np.std(edges) > 1


def test_surfaces_lie_in_the_unit_interval_and_greys_have_their_share():
    drawn = Pigments.of(reflectances()).draw(4000, np.random.default_rng(0))
    assert drawn.min() > 0
    assert drawn.max() < 1
    middle = drawn[:, 6:26]
    neutral = middle.std(1) < 0.06 * middle.mean(1)
    measured = reflectances()[:, 6:26]
    assert (measured.std(1) < 0.06 * measured.mean(1)).mean() < 0.03
    assert GREYS - 0.03 < neutral.mean() < GREYS + 0.12
    assert middle[neutral].mean(1).min() < 0.1  # from black
    assert middle[neutral].mean(1).max() > 0.85  # to white


def test_a_tint_is_lighter_than_its_pigment_and_keeps_its_hue():
    """With all of its pigment a tint is that pigment in white; with less it comes nearer to white at every band."""
    pigment = reflectances()[:20]
    white = white_paint()[None]
    full = reflectance(absorption(white) + absorption(pigment))
    pale = reflectance(absorption(white) + 0.05 * absorption(pigment))
    assert (pale >= full).all()
    assert (pale <= white + 1e-12).all()
    assert (np.argmin(pale[:, 5:], 1) == np.argmin(full[:, 5:], 1)).mean() > 0.5

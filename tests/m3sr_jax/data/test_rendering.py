import numpy as np
import pytest

from m3sr_jax.data import rendering


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.mark.parametrize(("height", "width"), [(48, 40), (33, 64)])
def test_radiance_is_exposed_to_its_brightest_percent(rng, height, width):
    reflectances = rng.uniform(0.05, 0.95, (10, 31))
    picture = rendering.radiance(rng, reflectances, np.linspace(0.2, 1, 31), height, width)
    assert picture.shape == (height, width, 31)
    assert picture.dtype == np.float32
    assert picture.min() >= 0
    assert picture.max() == 1
    assert 0.002 < (picture.max(axis=-1) == 1).mean() < 0.02


def test_radiance_has_the_colour_of_the_light_on_a_grey_world(rng):
    light = np.linspace(1, 0.3, 31)
    picture = rendering.radiance(rng, np.full((4, 31), 0.5), light, 40, 40)
    unclipped = picture[picture.max(axis=-1) < 1]
    ratio = unclipped / unclipped[:, :1]
    np.testing.assert_allclose(ratio, np.tile(light, (len(ratio), 1)), rtol=1e-4)


def test_the_picture_is_neither_flat_nor_noise(rng):
    picture = rendering.radiance(rng, rng.uniform(0.05, 0.95, (50, 31)), np.ones(31), 64, 64).mean(axis=-1)
    neighbours = np.corrcoef(picture[:, 1:].ravel(), picture[:, :-1].ravel())[0, 1]
    assert picture.std() > 0.05
    assert neighbours > 0.8


def test_radiance_stays_within_the_spectra_it_was_given(rng):
    """Without a second pigment or gloss every pixel is a mixture of the reflectances under the light."""
    reflectances = np.stack([np.linspace(0.1, 0.9, 31), np.linspace(0.9, 0.1, 31)])
    picture = rendering.radiance(rng, reflectances, np.ones(31), 40, 40).astype(float).reshape(-1, 31)
    basis = np.vstack([reflectances, np.ones(31)])
    unclipped = picture[picture.max(axis=1) < 1]
    fitted = np.linalg.lstsq(basis.T, unclipped.T, rcond=None)[0]
    np.testing.assert_allclose(basis.T @ fitted, unclipped.T, atol=1e-5)


def test_noise_field_has_the_spectrum_it_says(rng):
    power = np.mean([np.abs(np.fft.rfft2(rendering.noise_field(rng, 64, 64, 1.5))) ** 2 for _ in range(20)], axis=0)
    frequencies = np.arange(2, 28)
    slope = np.polyfit(np.log(frequencies), np.log(power[0, frequencies]), 1)[0]
    assert slope == pytest.approx(-3.0, abs=0.3)  # power falls with twice the exponent of the amplitude
    field = rendering.noise_field(rng, 30, 44, 1.0)
    assert field.mean() == pytest.approx(0, abs=1e-5)
    assert field.std() == pytest.approx(1, abs=1e-5)


def test_leaf_sizes_follow_the_power_law(rng):
    radii = np.array([leaf.radius for _ in range(20) for leaf in rendering.leaves(rng, 400, 400)]) / 400
    assert radii.min() >= rendering.SMALLEST_LEAF
    assert radii.max() <= rendering.LARGEST_LEAF
    # Density ∝ r⁻³ puts a share 1 − (1/2)² above twice the smallest radius, but for the cut at the largest.
    assert (radii > 2 * rendering.SMALLEST_LEAF).mean() == pytest.approx(0.25, abs=0.03)


def test_an_ellipse_covers_its_area():
    leaf = rendering.Leaf(50.0, 60.0, 30.0, 0.7, 0.5, 2.0)
    box, inside, across, down = leaf.pixels(100, 120)
    assert inside.sum() == pytest.approx(np.pi * 30 * 15, rel=0.02)
    assert np.hypot(across, down)[inside].max() <= 1.001
    assert np.zeros((100, 120))[box].shape == inside.shape


@pytest.mark.parametrize("place", [(-200.0, 50.0), (50.0, 500.0), (99.0, 119.0), (0.0, 0.0)])
def test_leaves_may_lie_partly_or_wholly_outside(place):
    box, inside, *_ = rendering.Leaf(*place, 20.0, 0.0, 1.0, 2.0).pixels(100, 120)
    assert np.zeros((100, 120))[box].shape == inside.shape


def test_leaves_get_labels_of_their_own(rng):
    layout = rendering.dead_leaves(rng, 120, 100)
    assert layout.labels.min() >= 0
    assert layout.labels.max() < layout.count
    assert len(np.unique(layout.labels)) > 10
    assert set(np.unique(layout.shadow)) == {np.float32(rendering.SHADOW), np.float32(1)}


def test_halved_keeps_ramps_and_steps_in_place():
    ramp = np.arange(22, dtype=np.float32)
    np.testing.assert_allclose(rendering.halved(ramp), np.arange(10) * 2 + 1.5)
    np.testing.assert_allclose(rendering.halved(np.ones((6, 3), np.float32)), np.ones((2, 3)))

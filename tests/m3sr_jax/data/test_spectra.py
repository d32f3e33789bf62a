import colour
import numpy as np
import pytest

from m3sr_jax.data.camera import load_camera
from m3sr_jax.data.spectra import (
    FAMILIES,
    SAME_PIGMENT_DEGREES,
    black_body,
    illuminant,
    reflectances,
    split_reflectances,
)
from m3sr_jax.io.wavelengths import BANDS


def angles(left, right):
    left, right = (spectra / np.linalg.norm(spectra, axis=1, keepdims=True) for spectra in (left, right))
    return np.degrees(np.arccos(np.clip(left @ right.T, -1, 1)))


def test_there_are_hundreds_of_reflectances_within_range():
    spectra = reflectances()
    assert spectra.shape[1] == 31
    assert len(spectra) > 300
    assert spectra.min() > 0
    assert spectra.max() <= 1


def test_validation_shares_no_pigment_with_training():
    train, valid = split_reflectances(0)
    assert len(train) + len(valid) == len(reflectances())
    assert len(valid) > 60
    assert angles(train, valid).min() >= SAME_PIGMENT_DEGREES


def test_the_seed_decides_the_split():
    (train, _), (again, _), (other, _) = (split_reflectances(seed) for seed in (0, 0, 1))
    np.testing.assert_array_equal(train, again)
    assert not np.array_equal(train, other)


@pytest.mark.parametrize("family", sorted(set(FAMILIES)))
def test_illuminants_are_positive_and_peak_at_one(family):
    for seed in range(5):
        name, power = illuminant(family, np.random.default_rng(seed))
        assert name
        assert power.shape == BANDS.shape
        assert power.min() > 0
        assert power.max() == 1


def test_families_have_the_colours_of_their_kind():
    matrix = load_camera("cie1964").matrix(BANDS)
    z_to_x = {}
    for family in FAMILIES:
        xyz = np.stack([illuminant(family, np.random.default_rng(seed))[1] @ matrix for seed in range(8)])
        z_to_x[family] = xyz[:, 2] / xyz[:, 0]
    assert z_to_x["tungsten"].max() < z_to_x["fluorescent"].min()  # redder
    assert z_to_x["tungsten"].max() < z_to_x["daylight"].min()


def test_a_black_body_of_2856_kelvin_is_illuminant_a():
    power = black_body(2856.0)
    reference = np.interp(BANDS, colour.SDS_ILLUMINANTS["A"].wavelengths, colour.SDS_ILLUMINANTS["A"].values)
    np.testing.assert_allclose(power / power.max(), reference / reference.max(), atol=1e-3)

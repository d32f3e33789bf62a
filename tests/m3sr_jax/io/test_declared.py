import numpy as np
import pytest

from m3sr_jax.io import strips
from m3sr_jax.io.declared import Coding


@pytest.mark.parametrize("block", [1, 7, 2**22])
@pytest.mark.parametrize("dtype", ["i2", "u2", "f4", ">f8", "i8"])
def test_decoding_in_blocks_of_any_size(monkeypatch, block, dtype):
    monkeypatch.setattr(strips, "STRIP_VALUES", block)
    stored = np.arange(60).reshape(5, 4, 3).astype(dtype)
    coding = Coding((7.0,), (2.0, 50.0), (1.0, 2.0, 3.0), (0.5,), 10.0)
    expected = (np.arange(60.0).reshape(5, 4, 3) * [1, 2, 3] + 0.5) / 10
    expected[(stored == 7) | (stored < 2) | (stored > 50)] = np.nan
    found = coding.decode(stored)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=1e-6)


def test_without_declarations_only_unsigned_integers_are_scaled():
    stored = np.array([[[0, 128, 255]]])
    np.testing.assert_allclose(Coding().decode(stored.astype("u1")), stored / 255, rtol=1e-7)
    np.testing.assert_array_equal(Coding().decode(stored.astype("i2")), stored)
    np.testing.assert_array_equal(Coding(divisor=1.0).decode(stored.astype("u1")), stored)


def test_decoding_leaves_the_stored_numbers_alone():
    stored = np.ones((2, 2, 2), np.float32)
    assert np.isnan(Coding((1.0,)).decode(stored)).all()
    assert (stored == 1).all()

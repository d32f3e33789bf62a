import numpy as np
import pytest
import scipy.io

from m3sr_jax.errors import InputError
from m3sr_jax.io.named_arrays import read_named_arrays

TYPES = ["f8", "f4", "i1", "u1", "i2", "u2", "i4", "u4", "i8", "u8"]


@pytest.mark.parametrize("compressed", [True, False])
@pytest.mark.parametrize("dtype", TYPES)
@pytest.mark.parametrize("shape", [(1, 1), (1, 2), (3, 1), (2, 3, 4), (0, 3), (5, 4, 3, 2)])
def test_agrees_with_scipy(tmp_path, compressed, dtype, shape):
    array = np.random.default_rng(0).integers(0, 100, shape).astype(dtype)
    path = tmp_path / "file.mat"
    scipy.io.savemat(path, {"a": array, "another_name": array + array.dtype.type(1)}, do_compression=compressed)
    found = read_named_arrays(path)
    assert set(found) == {"a", "another_name"}
    for name, expected in ((name, scipy.io.loadmat(path)[name]) for name in found):
        assert found[name].dtype == expected.dtype
        np.testing.assert_array_equal(found[name], expected)


def test_everything_but_real_numbers_is_skipped_and_structs_are_entered(tmp_path):
    others = {
        "text": "words",
        "cell": np.array([1, "x"], object),
        "struct": {"field": np.ones(3)},
        "complex": np.ones(2) * 1j,
    }
    scipy.io.savemat(tmp_path / "file.mat", others | {"numbers": np.arange(3.0)})
    assert list(read_named_arrays(tmp_path / "file.mat")) == ["struct.field", "numbers"]


def test_either_byte_order(tmp_path):
    """A handmade file of one variable, as a big-endian machine writes it."""

    def element(kind, data):
        return np.array([kind, len(data)], ">u4").tobytes() + data + bytes(-len(data) % 8)

    values = np.arange(6.0)
    parts = [
        (6, np.array([6, 0], ">u4")),
        (5, np.array([2, 3], ">i4")),
        (1, np.array([97], "i1")),
        (9, values.astype(">f8")),
    ]
    matrix = b"".join(element(kind, data.tobytes()) for kind, data in parts)
    (tmp_path / "file.mat").write_bytes(b"MATLAB 5.0".ljust(124) + b"\x01\x00MI" + element(14, matrix))
    np.testing.assert_array_equal(read_named_arrays(tmp_path / "file.mat")["a"], values.reshape(2, 3, order="F"))


@pytest.mark.parametrize("compressed", [True, False])
def test_no_damaged_byte_does_more_than_raise(tmp_path, compressed):
    path = tmp_path / "file.mat"
    scipy.io.savemat(path, {"cube": np.ones((3, 4, 5), np.float32), "bands": np.arange(5.0)}, do_compression=compressed)
    content = path.read_bytes()
    refused = 0
    for position in range(120, min(len(content), 330)):
        for value in (0, 1, 59, 255):
            path.write_bytes(content[:position] + bytes([value]) + content[position + 1 :])
            try:
                read_named_arrays(path)
            except InputError:
                refused += 1
    assert refused > 50

import colour
import numpy as np
import pytest
import scipy.io

from m3sr_jax.data.camera import Camera, camera_identity, load_camera, quantise
from m3sr_jax.errors import InputError
from m3sr_jax.io.wavelengths import BANDS

# Rounding of sums of 31 numbers up to 50 in float64.
ROUNDING = 1e-13


def flat_camera(start=390.0, end=710.0, ends=0.0):
    wavelengths = np.arange(start, end + 1, 10.0)
    response = np.ones((len(wavelengths), 3))
    response[[0, -1]] = ends
    return Camera("flat", wavelengths, response)


def test_built_in_camera_is_the_observer_with_gain():
    observer = colour.MSDS_CMFS["CIE 1964 10 Degree Standard Observer"].copy().align(colour.SpectralShape(400, 700, 10))
    expected = observer.values / observer.values.sum(axis=0) * 255 / 256
    np.testing.assert_allclose(load_camera("cie1964").matrix(BANDS), expected, atol=ROUNDING)


def test_built_in_camera_is_the_clean_track_filter_file(data_dir):
    filters = np.load(data_dir / "camera" / "cie_1964_w_gain.npz")["filters"]
    np.testing.assert_allclose(load_camera("cie1964").matrix(BANDS) * 256, filters, atol=ROUNDING)
    np.testing.assert_allclose(load_camera("cie1964").matrix(BANDS).sum(axis=0), 255 / 256, atol=ROUNDING)


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
def test_clean_track_filter_file_as_a_users_camera(data_dir, suffix):
    camera = load_camera(str(data_dir / "camera" / f"cie_1964_w_gain{suffix}"))
    np.testing.assert_allclose(camera.matrix(BANDS), load_camera("cie1964").matrix(BANDS), atol=ROUNDING)


def test_measured_camera_file(data_dir):
    camera = load_camera(str(data_dir / "camera" / "Nikon_D700.csv"))
    assert camera.name == "Nikon_D700"
    assert camera.response.shape == (33, 3)
    np.testing.assert_array_equal(camera.matrix(BANDS).argmax(axis=0), [19, 13, 6])  # 590, 530, 460 nm
    np.testing.assert_allclose(
        camera.matrix(BANDS)[:, 1], camera.response[:31, 1] / camera.response[:31, 1].sum() * 255 / 256
    )


@pytest.mark.parametrize(
    "wavelengths", [np.arange(400.0, 701, 10), np.arange(420.0, 681, 20), np.linspace(400, 1000, 16)]
)
def test_white_stays_white_at_any_bands(wavelengths):
    cube = np.ones((2, 3, len(wavelengths)), np.float32)
    rgb = load_camera("cie1964").render(cube, wavelengths)
    assert rgb.dtype == np.float32
    np.testing.assert_allclose(rgb, 255 / 256, rtol=1e-6)
    assert quantise(rgb).min() == 254


def test_render_clips_and_is_linear_below():
    camera = load_camera("cie1964")
    cube = np.random.default_rng(0).uniform(0, 0.5, (4, 5, 31)).astype(np.float32)
    np.testing.assert_allclose(camera.render(cube, BANDS), cube.astype(float) @ camera.matrix(BANDS), atol=1e-6)
    np.testing.assert_allclose(camera.render(2 * cube, BANDS), 2 * camera.render(cube, BANDS), atol=1e-6)
    assert camera.render(5 * cube, BANDS).max() == 1


def test_uneven_bands_are_weighted_by_their_width():
    weights = flat_camera().matrix(np.array([400.0, 410, 420, 440, 480]))[:, 0]
    np.testing.assert_allclose(weights / weights[0], [1, 1, 1.5, 3, 4])


def test_a_cube_of_one_band_is_refused():
    with pytest.raises(InputError, match="camera cie1964: found a cube of one band; expected two or more"):
        load_camera("cie1964").matrix(np.array([550.0]))


def test_response_cut_off_inside_the_cube_is_refused():
    flat_camera(ends=0.01).matrix(np.arange(380.0, 721, 10))
    with pytest.raises(
        InputError,
        match=r"found a response of 420-680 nm that does not fall to zero at its ends, but bands of 400-700 nm",
    ):
        flat_camera(420, 680, ends=1.0).matrix(BANDS)
    with pytest.raises(
        InputError, match=r"R, G or B is zero at the cube's bands, 900-1000 nm; expected .* found 390-710 nm"
    ):
        flat_camera().matrix(np.array([900.0, 1000]))


def write_camera(path, rows):
    path.write_text("\n".join(rows))
    return str(path)


def test_csv_with_comments_and_column_names(tmp_path):
    path = write_camera(tmp_path / "mine.csv", ["# measured", "nm,R,G,B", "400,0,0,1", "550,0,1,0", "", "700,1,0,0"])
    camera = load_camera(path)
    np.testing.assert_array_equal(camera.wavelengths, [400, 550, 700])
    np.testing.assert_array_equal(camera.response, np.eye(3)[::-1])


@pytest.mark.parametrize("suffix", [".npz", ".mat"])
def test_arrays_under_either_name(tmp_path, suffix):
    path = tmp_path / f"mine{suffix}"
    arrays = {"response": np.eye(3) + 0.1, "wavelengths": np.array([400, 550, 700], np.uint16)}
    (np.savez if suffix == ".npz" else lambda file, **values: scipy.io.savemat(file, values))(path, **arrays)
    camera = load_camera(str(path))
    np.testing.assert_array_equal(camera.response, arrays["response"])
    np.testing.assert_array_equal(camera.wavelengths, [400, 550, 700])


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "found a table of shape"),
        (["400,1,1", "500,1,1"], r"shape \(2, 3\); expected columns wavelength, R, G, B"),
        (["400,1,1,x", "500,1,1,1"], "cannot be read as rows `wavelength, R, G, B` of numbers"),
        (["400,1,1,1", "500,1,1"], "cannot be read as rows `wavelength, R, G, B` of numbers"),
        (["500,1,1,1", "500,1,1,1"], "found bands of 500-500 nm; expected .* in nm, rising"),
        (["0.04,1,1,1", "0.07,1,1,1"], r"found bands of 40-70 nm; expected .* in nm, rising"),
        (["400,1,0,1", "500,1,1,0", "600,1,,1"], "G is empty where it has not fallen to zero"),
        (["400,1,1,1", "500,1,1,-0.02"], "found negative, missing or huge values"),
        (["400,1,1,nan", "500,1,1,1"], "found negative, missing or huge values"),
        (["400,1,1,-1", "500,1,1,1"], "found negative, missing or huge values"),
        (["400,1,1,1"], r"found 1 wavelengths and a response of shape \(1, 3\)"),
    ],
)
def test_unusable_tables_are_refused_with_the_reason(tmp_path, rows, message):
    with pytest.raises(InputError, match=message) as caught:
        load_camera(write_camera(tmp_path / "bad.csv", rows))
    assert str(tmp_path / "bad.csv") in str(caught.value)


def test_unusable_files_are_refused_with_the_reason(tmp_path):
    with pytest.raises(InputError, match=r'camera "leica": expected cie1964 or a \.csv'):
        load_camera("leica")
    with pytest.raises(InputError, match="there is no such file"):
        load_camera(str(tmp_path / "none.csv"))
    np.savez(tmp_path / "other.npz", gain=np.ones(3))
    with pytest.raises(InputError, match=r"found arrays gain; expected filters"):
        load_camera(str(tmp_path / "other.npz"))


def test_falling_micrometres_with_dark_noise_and_gaps_become_a_camera(tmp_path):
    rows = ["um,R,G,B", "0.75,,,", "0.70,1,0,0", "0.55,0.5,1,", "0.50,0,0.5,-0.005", "0.40,0,0,1"]
    camera = load_camera(write_camera(tmp_path / "mine.csv", rows))
    np.testing.assert_allclose(camera.wavelengths, [400, 500, 550, 700])
    np.testing.assert_allclose(camera.response, [[0, 0, 1], [0, 0.5, 0], [0.5, 1, 0], [1, 0, 0]], atol=1e-15)
    assert camera.notes == (
        "wavelengths taken for micrometres, by their size",
        "1 negative values down to -0.005 set to zero",
        "1 empty cells of B interpolated, or zero beyond its last value",
    )


def test_identity_depends_on_the_content(tmp_path):
    first, same, other = (
        write_camera(tmp_path / f"{name}.csv", [text]) for name, text in (("a", "1"), ("b", "1"), ("c", "2"))
    )
    assert camera_identity(first) == camera_identity(same) != camera_identity(other)
    assert camera_identity("cie1964") == "cie1964"
    with pytest.raises(InputError, match="expected cie1964 or"):
        camera_identity(str(tmp_path / "none.csv"))

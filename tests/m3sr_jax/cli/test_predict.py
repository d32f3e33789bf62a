"""`m3sr predict` as a user types it, on a small model."""

import json
import os
import signal

import h5py
import jax
import numpy as np
import pytest
import tifffile
from PIL import Image

import m3sr_jax
from m3sr_jax.checkpoint import save_model
from m3sr_jax.cli import main
from m3sr_jax.cli.predict import Predict
from m3sr_jax.config import ModelConfig
from m3sr_jax.inference.predictor import OVERLAP, Predictor
from m3sr_jax.io import read_cube, read_rgb
from m3sr_jax.io.cube_intervals import read_interval
from m3sr_jax.model_card import ModelCard
from m3sr_jax.models import build_model, init_params, parameter_shapes

FIELDS = ModelConfig(num_groups=1, features=4, num_bands=31, branches=("spectral",))
NM = tuple(float(nm) for nm in range(400, 701, 10))
SIZE = (40, 48)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    rng = np.random.default_rng(0)
    shapes = parameter_shapes(build_model(FIELDS))
    params = jax.tree.map(lambda leaf: 0.1 * rng.standard_normal(leaf.shape, np.float32), shapes)
    folder = tmp_path_factory.mktemp("models") / "model"
    save_model(folder, ModelCard(FIELDS, NM, "minmax"), params)
    return folder


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, name in enumerate(("a.png", "b.JPG", "c.tif", "d.bmp")):
        codes = np.random.default_rng(i).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
        Image.fromarray(codes).save(folder / name)
    (folder / "notes.txt").write_text("not a photo")
    return folder


def run(checkpoint, *arguments):
    return main(["predict", *map(str, arguments), "--checkpoint", str(checkpoint)])


def test_a_photo_goes_to_every_format_with_equal_values(checkpoint, photos, tmp_path):
    expected = m3sr_jax.load(checkpoint).predict(read_rgb(photos / "a.png"))
    for name in ("a.mat", "a.hdr", "b.img", "a.npz", "a.tif", "a.h5"):
        assert run(checkpoint, photos / "a.png", "--output", tmp_path / name) == 0
        cube, wavelengths = read_cube(tmp_path / name)
        np.testing.assert_array_equal(cube, expected)
        np.testing.assert_array_equal(wavelengths, NM)
    # The same by each format's own library.
    with h5py.File(tmp_path / "a.mat") as file:
        np.testing.assert_array_equal(file["cube"][()].T, expected)
        np.testing.assert_array_equal(file["bands"][()].ravel(), NM)
    np.testing.assert_array_equal(tifffile.imread(tmp_path / "a.tif").transpose(1, 2, 0), expected)
    spectral = pytest.importorskip("spectral", reason="Spectral Python reads ENVI files, where it is installed")
    image = spectral.io.envi.open(tmp_path / "a.hdr")
    np.testing.assert_array_equal(np.asarray(image.load()), expected)
    assert image.bands.centers == list(NM)


def test_codes_of_16_bits_tell_what_they_clip(checkpoint, photos, tmp_path, capsys):
    output = tmp_path / "a.npz"
    assert run(checkpoint, photos / "a.png", "--output", output, "--dtype", "uint16") == 0
    assert "% of the values clipped" in capsys.readouterr().out
    expected = m3sr_jax.load(checkpoint).predict(read_rgb(photos / "a.png"))
    np.testing.assert_array_equal(np.load(output)["cube"], np.rint(np.clip(expected, 0, 1) * np.float32(65535)))


@pytest.mark.parametrize(("name", "warned"), [("hsrnet", True), ("fmnet", False)])
def test_tiles_of_a_network_that_needs_the_whole_photo_are_reported(name, warned, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(
        "m3sr_jax.inference.predictor.run_network", lambda _, __, rgb, *_rest: np.repeat(rgb[..., :1], 31, -1)
    )
    params = init_params(build_model(ModelConfig(name)), jax.random.key(0))
    save_model(tmp_path / "model", ModelCard(ModelConfig(name), NM), params)
    Image.fromarray(np.zeros((64, 80, 3), np.uint8)).save(tmp_path / "a.png")
    for tile, tiled in ((64, True), (0, False)):
        options = ["--output", tmp_path / "a.npz", "--tile", tile, "--overwrite"]
        assert run(tmp_path / "model", tmp_path / "a.png", *options) == 0
        assert ("needs the whole photo" in capsys.readouterr().out) == (warned and tiled)


def test_what_a_photo_declared_is_printed_and_kept_with_the_cube(checkpoint, tmp_path, capsys):
    """Every format keeps it where its own readers look."""
    codes = np.random.default_rng(0).integers(0, 256, (*SIZE, 3)).astype(np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 1
    exif.get_ifd(0x8769)[0xA001] = 2  # Adobe RGB
    Image.fromarray(codes).save(tmp_path / "a.jpg", exif=exif)
    for suffix in ("mat", "hdr", "npz", "tif", "h5"):
        assert run(checkpoint, tmp_path / "a.jpg", "--output", tmp_path / f"cube.{suffix}") == 0
        assert "; Adobe RGB (1998) converted to sRGB" in capsys.readouterr().out
        assert read_cube(tmp_path / f"cube.{suffix}")[0].shape == (*SIZE, 31)
    with tifffile.TiffFile(tmp_path / "cube.tif") as file:
        kept = [file.shaped_metadata[0]["source"]]
    for name in ("cube.mat", "cube.h5"):
        with h5py.File(tmp_path / name) as file:
            kept.append(file["cube"].attrs["source"])
    kept.append(str(np.load(tmp_path / "cube.npz")["source"]))
    kept.append((tmp_path / "cube.hdr").read_text())
    model = m3sr_jax.load(checkpoint).fingerprint()
    expected = f"values by M3SR, model {model}, of a.jpg: JPEG photo, srgb values; Adobe RGB (1998) converted to sRGB"
    assert all(expected in text for text in kept)


def test_pictures_that_are_not_read_are_named(checkpoint, photos, tmp_path, capsys):
    (photos / "e.gif").write_bytes(b"GIF89a")
    assert run(checkpoint, photos, "--output", tmp_path / "cubes") == 0
    assert "1 picture was passed over; rename or convert to PNG or TIFF: e.gif (GIF)" in capsys.readouterr().out


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_nothing_half_written(checkpoint, photos, tmp_path, monkeypatch, capsys, number):
    def rows(*_, **__):
        yield np.zeros((8, SIZE[1], 31), np.float32)
        assert list(tmp_path.glob(".*.npz"))
        signal.raise_signal(number)

    monkeypatch.setattr(Predictor, "predict_rows", rows)
    assert run(checkpoint, photos / "a.png", "--output", tmp_path / "a.npz") == 130
    assert capsys.readouterr().err == "interrupted\n"
    assert list(tmp_path.iterdir()) == [photos]


def test_a_photo_that_changes_meanwhile_is_not_taken_for_done(checkpoint, photos, tmp_path, monkeypatch, capsys):
    def rows(*_, **__):
        yield np.zeros((*SIZE, 31), np.float32)
        (photos / "a.png").write_bytes((photos / "b.JPG").read_bytes())

    output = tmp_path / "cubes"
    with monkeypatch.context() as patch:
        patch.setattr(Predictor, "predict_rows", rows)
        assert run(checkpoint, photos / "a.png", "--output", output) == 2
    assert f"error: {photos / 'a.png'}: has changed since it was read; run the same" in capsys.readouterr().err
    assert [path.name for path in output.iterdir()] == ["predict.json"]
    assert run(checkpoint, photos / "a.png", "--output", output) == 0


def test_a_folder_resumes_where_it_stopped(checkpoint, photos, tmp_path, capsys):
    output = tmp_path / "cubes"
    assert run(checkpoint, photos / "a.png", photos / "b.JPG", "--output", output, "--format", "npz") == 0
    first = (output / "a.npz").stat().st_mtime_ns
    assert run(checkpoint, photos, "--output", output, "--format", "npz") == 0
    printed = capsys.readouterr().out
    assert "2 of 4 cubes already exist" in printed
    assert f"{photos / 'c.tif'} → {output / 'c.npz'}: 40×48 pixels in" in printed
    assert sorted(path.name for path in output.iterdir()) == ["a.npz", "b.npz", "c.npz", "d.npz", "predict.json"]
    assert (output / "a.npz").stat().st_mtime_ns == first
    os.utime(photos / "a.png", (first / 1e9 + 10, first / 1e9 + 10))  # a photo that is newer than its cube
    assert run(checkpoint, photos, "--output", output, "--format", "npz") == 0
    assert "3 of 4 cubes already exist" in capsys.readouterr().out


def test_cubes_made_otherwise_are_not_mixed_in(checkpoint, photos, tmp_path, capsys):
    output = tmp_path / "cubes"
    assert run(checkpoint, photos / "a.png", "--output", output) == 0
    assert run(checkpoint, photos, "--output", output, "--tile", "64") == 2
    assert "made with tile default, now 64; choose another folder or pass --overwrite" in capsys.readouterr().err
    assert run(checkpoint, photos / "a.png", "--output", output, "--tile", "64", "--overwrite") == 0
    assert json.loads((output / "predict.json").read_text())["tile"] == 64


def test_a_bad_photo_does_not_stop_the_others(checkpoint, photos, tmp_path, capsys):
    (photos / "bad.jpg").write_bytes(b"not a photo")
    Image.new("RGB", (5, 50)).save(photos / "small.png")
    assert run(checkpoint, photos, photos / "missing.png", "--output", tmp_path / "cubes") == 2
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("error: 3 of 7 photos failed, the others are done: ")
    for name in (
        "bad.jpg: cannot be read",
        "small.png: photo of shape (50, 5, 3)",
        "missing.png: there is no such file",
    ):
        assert name in error
    names = sorted(path.name for path in (tmp_path / "cubes").iterdir())
    assert names == ["a.mat", "b.mat", "c.mat", "d.mat", "predict.json"]


def test_photos_of_one_name_get_names_of_their_own(checkpoint, photos, tmp_path):
    Image.open(photos / "a.png").save(photos / "a.bmp")
    assert run(checkpoint, photos / "a.png", photos / "a.bmp", "--output", tmp_path / "out", "--format", "hdr") == 0
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"a.png.hdr", "a.png.img", "a.bmp.hdr", "a.bmp.img", "predict.json"}


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (["--output", "out"], "no photos given"),
        (["{photos}", "--output", "out.mat"], "one file cannot hold the cubes of 4 photos; give a folder"),
        (["{photos}/a.png", "--output", "out.jpg"], "out.jpg: expected a name that ends in .mat"),
        (["{photos}/a.png", "--output", "out", "--tile", "100"], "multiple of 8"),
        (["{photos}/none", "--output", "out.mat"], "none: there is no such file"),
        (["{photos}/..", "--output", "out"], "contains no photos"),
        (["{photos}/a.png", "{photos}/a.png", "--output", "out"], "a.png.mat: several photos would be written to this"),
        (["{photos}/c.tif", "--output", "{photos}/c.tif", "--overwrite"], "would replace a photo"),
        (["{photos}", "--output", "{photos}", "--format", "tif", "--overwrite"], "would replace a photo"),
        (["{photos}/a.png", "--output", "{photos}/notes.txt"], "expected a name that ends in"),
        (["{photos}/a.png", "--output", "{photos}/notes.txt/out"], "cannot be used"),
        (["{photos}/a.png", "--output", "{photos}/no/a.mat"], "a.mat: found no folder"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(checkpoint, photos, arguments, told, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(checkpoint, *(argument.format(photos=photos) for argument in arguments)) == 2
    error = capsys.readouterr().err
    assert told in error
    assert len([line for line in error.splitlines() if line.startswith("error:")]) == 1


def test_the_command_and_python_have_the_same_defaults():
    assert Predict.overlap == OVERLAP


def test_a_single_cube_is_not_overwritten_unasked(checkpoint, photos, tmp_path, capsys):
    output = tmp_path / "a.mat"
    output.write_text("a thesis")
    assert run(checkpoint, photos / "a.png", "--output", output) == 2
    assert "already exists" in capsys.readouterr().err
    assert output.read_text() == "a thesis"
    assert run(checkpoint, photos / "a.png", "--output", output, "--overwrite") == 0
    assert read_cube(output)[0].shape == (*SIZE, 31)


@pytest.mark.parametrize("single", [True, False])
def test_no_file_of_a_cube_or_its_page_is_replaced_unasked(checkpoint, photos, tmp_path, capsys, single):
    for output, taken, options in (("a.hdr", "a.img", ()), ("a.img", "a.hdr", ()), ("a.mat", "a.html", ("--view",))):
        folder = tmp_path / output
        folder.mkdir()
        (folder / taken).write_text("a thesis")
        where = folder / output if single else folder
        choice = ("--format", "mat" if output == "a.mat" else "hdr")
        arguments = [checkpoint, photos / "a.png", "--output", where, *choice, *options]
        assert run(*arguments) == 2
        error = capsys.readouterr().err  # a cube in a folder without the record of its settings is refused for that
        assert f"{taken}: already exists" in error or (not single and "model unknown" in error)
        assert (folder / taken).read_text() == "a thesis"
        assert run(*arguments, "--overwrite") == 0


def test_pages_of_existing_cubes_are_made(checkpoint, photos, tmp_path, capsys):
    output = tmp_path / "cubes"
    assert run(checkpoint, photos / "a.png", photos / "b.JPG", "--output", output) == 0
    written = (output / "a.mat").stat().st_mtime_ns
    (output / "b.html").write_text("an earlier page")
    assert run(checkpoint, photos / "a.png", photos / "b.JPG", "--output", output, "--view") == 0
    assert f"{output / 'a.mat'}:\n  page: {output / 'a.html'}" in capsys.readouterr().out
    assert (output / "a.mat").stat().st_mtime_ns == written
    assert (output / "b.html").read_text() == "an earlier page"
    later = (output / "b.html").stat().st_mtime + 10
    os.utime(output / "b.mat", (later, later))  # as if it were replaced since
    assert run(checkpoint, photos / "a.png", photos / "b.JPG", "--output", output, "--view") == 0
    assert f"{output / 'b.mat'}:\n  page: {output / 'b.html'}" in capsys.readouterr().out
    assert "an earlier page" not in (output / "b.html").read_text()


def test_the_record_of_a_folder_has_the_powers_of_a_light(photos, tmp_path, capsys):
    light, output = tmp_path / "lamp.csv", tmp_path / "cubes"
    arguments = ["predict", str(photos / "a.png"), "--regression", "--output", str(output), "--light", str(light)]
    light.write_text("400, 1\n700, 2\n")
    assert main(arguments) == 0
    assert main(arguments) == 0
    light.write_text("400, 1\n700, 3\n")
    assert main(arguments) == 2
    assert "its cubes were made with light lamp.csv (" in capsys.readouterr().err


def test_the_default_model_writes_beside_where_one_stands(photos, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    photo = photos / "a.png"
    assert main(["predict", str(photo), "--view"]) == 0
    told = capsys.readouterr().out
    cube, wavelengths = read_cube("a.mat")
    np.testing.assert_array_equal(cube, m3sr_jax.load().predict(np.asarray(Image.open(photo))))
    np.testing.assert_array_equal(wavelengths, NM)
    assert "  trust: white R/G" in told
    assert "/255 on average (D65, CIE 1931)" in told
    assert '"difference"' in (tmp_path / "a.html").read_text()
    assert main(["predict", str(photos)]) == 2  # a.mat has no settings beside it
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path / "folder")
    assert main(["predict", str(photos)]) == 0
    assert sorted(path.name for path in (tmp_path / "folder").glob("*.mat")) == ["a.mat", "b.mat", "c.mat", "d.mat"]


def test_the_regression_of_the_package_is_an_option(checkpoint, photos, tmp_path, capsys):
    photo, output = photos / "a.png", tmp_path / "a.npz"
    assert main(["predict", str(photo), "--output", str(output), "--regression"]) == 0
    expected = m3sr_jax.load(m3sr_jax.REGRESSION).predict(np.asarray(Image.open(photo)))
    np.testing.assert_array_equal(read_cube(output)[0], expected)
    assert run(checkpoint, photo, "--output", tmp_path / "b.npz", "--regression") == 2
    assert "--regression and --checkpoint: both choose a model" in capsys.readouterr().err


def test_exact_colours_and_lights_need_reflectance(checkpoint, photos, tmp_path, capsys):
    photo, output = photos / "a.png", tmp_path / "a.npz"
    for options in (("--light", "A"), ("--exact-colour",)):
        assert run(checkpoint, photo, "--output", output, *options) == 2
        assert "needs a model of reflectance" in capsys.readouterr().err
    assert main(["predict", str(photo), "--output", str(output), "--exact-colour", "--light", "A"]) == 0
    assert "0.00/255" in capsys.readouterr().out


@pytest.mark.parametrize("tile", ["0", "64"])
def test_the_default_model_stores_its_intervals(tmp_path, tile):
    model = m3sr_jax.load()
    codes = np.random.default_rng(0).integers(0, 256, (72, 100, 3)).astype(np.uint8)
    Image.fromarray(codes).save(tmp_path / "a.png")
    expected = model.interval(codes)
    for suffix in ("mat", "hdr", "npz", "tif", "h5"):
        output = tmp_path / f"cube.{suffix}"
        assert main(["predict", str(tmp_path / "a.png"), "--output", str(output), "--tile", tile]) == 0
        np.testing.assert_allclose(read_interval(output, expected.shape), expected, rtol=1e-5)
    with h5py.File(tmp_path / "cube.mat") as file:
        np.testing.assert_allclose(file["interval"][()].T, expected, rtol=1e-5)


def test_intervals_can_be_left_out_and_leave_nothing_behind(photos, tmp_path, capsys):
    photo, output = str(photos / "a.png"), tmp_path / "a.tif"
    (tmp_path / "a_interval.tif").write_text("a thesis")
    assert main(["predict", photo, "--output", str(output)]) == 2
    assert "a_interval.tif: already exists" in capsys.readouterr().err
    assert main(["predict", photo, "--output", str(output), "--no-interval"]) == 0
    assert (tmp_path / "a_interval.tif").read_text() == "a thesis"
    assert main(["predict", photo, "--output", str(output), "--overwrite", "--light", "A"]) == 0
    assert "90% interval: ±" in capsys.readouterr().out
    for path, start in (
        (output, "radiance under A by M3SR"),
        (tmp_path / "a_interval.tif", "half-widths of intervals"),
    ):
        with tifffile.TiffFile(path) as file:
            assert file.shaped_metadata[0]["source"].startswith(start)
    assert read_interval(output, (*SIZE, 31)) is not None
    assert main(["predict", photo, "--output", str(output), "--overwrite", "--no-interval"]) == 0
    assert "90% interval" not in capsys.readouterr().out
    assert read_interval(output, (*SIZE, 31)) is None


def test_a_folder_never_mixes_cubes_with_and_without_intervals(photos, tmp_path, capsys):
    output = str(tmp_path / "cubes")
    assert main(["predict", str(photos / "a.png"), "--output", output, "--light", "A"]) == 0
    assert main(["predict", str(photos), "--output", output, "--light", "A", "--no-interval"]) == 2
    assert "made with interval on, now default" in capsys.readouterr().err
    assert main(["predict", str(photos), "--output", output]) == 2
    assert "made with light A, now default" in capsys.readouterr().err
    assert main(["predict", str(photos), "--output", output, "--light", "A"]) == 0
    assert all(read_interval(tmp_path / "cubes" / f"{name}.mat", (*SIZE, 31)) is not None for name in "abcd")


def test_the_page_of_a_photo_has_its_interval(photos, tmp_path):
    assert main(["predict", str(photos / "a.png"), "--output", str(tmp_path / "a.hdr"), "--view"]) == 0
    assert 'id="codes-interval"' in (tmp_path / "a.html").read_text()
    assert main(["view", str(tmp_path / "a.hdr"), "--output", str(tmp_path / "b.html")]) == 0
    assert 'id="codes-interval"' in (tmp_path / "b.html").read_text()

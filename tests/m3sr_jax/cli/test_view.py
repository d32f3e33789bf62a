"""`m3sr view` as a user types it."""

import base64
import io
import os
import re

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from m3sr_jax.cli import main
from m3sr_jax.io import write_cube

NM = np.arange(400.0, 701.0, 20.0)


@pytest.fixture
def cube():
    return np.random.default_rng(0).random((18, 24, len(NM)), np.float32)


@pytest.mark.parametrize("name", ["a.mat", "a.hdr", "a.npz", "a.tif", "a.h5"])
def test_every_format_gives_a_page_beside_it(tmp_path, cube, capsys, name):
    write_cube(tmp_path / name, cube, NM)
    assert main(["view", str(tmp_path / name)]) == 0
    assert (tmp_path / "a.html").stat().st_size > 1e6  # Bokeh is in it
    assert f"wrote {tmp_path / 'a.html'} (" in capsys.readouterr().out


def test_photo_truth_output_and_title(tmp_path, cube):
    write_cube(tmp_path / "a.npz", cube, NM)
    write_cube(tmp_path / "b.npz", cube * 0.5, NM)
    Image.fromarray(np.zeros((36, 48, 3), np.uint8)).save(tmp_path / "photo.png")
    page = tmp_path / "page.html"
    arguments = ["--truth", str(tmp_path / "b.npz"), "--rgb", str(tmp_path / "photo.png")]
    assert main(["view", str(tmp_path / "a.npz"), *arguments, "--output", str(page), "--title", "My scene"]) == 0
    text = page.read_text(encoding="utf-8")
    assert "<h1>My scene</h1>" in text
    assert 'id="codes-truth"' in text
    assert '"photo": "' in text


def test_a_linear_photo_is_shown_as_bright_as_it_is(tmp_path, cube):
    write_cube(tmp_path / "a.npz", cube, NM)
    gamma = PngInfo()
    gamma.add(b"gAMA", (100_000).to_bytes(4, "big"))  # 1
    Image.fromarray(np.full((36, 48, 3), 51, np.uint8)).save(tmp_path / "linear.png", pnginfo=gamma)
    assert main(["view", str(tmp_path / "a.npz"), "--rgb", str(tmp_path / "linear.png")]) == 0
    png = re.search('"photo": "([^"]+)"', (tmp_path / "a.html").read_text(encoding="utf-8"))[1]
    shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(png))))
    assert shown.shape == (36, 48, 3)
    assert set(shown.flat) == {124}  # 255 · sRGB(0.2)


def test_a_file_name_that_is_not_unicode(tmp_path, cube, capsys):
    path = tmp_path / os.fsdecode(b"caf\xe9.npz")
    write_cube(path, cube, NM)
    assert main(["view", str(path)]) == 0
    assert "<h1>caf?</h1>" in path.with_suffix(".html").read_text(encoding="utf-8")


def test_missing_values_are_shown_not_refused(tmp_path, cube):
    cube[2, 3] = np.nan
    np.savez(tmp_path / "a.npz", cube=cube, wavelengths=NM)
    assert main(["view", str(tmp_path / "a.npz")]) == 0
    assert f'"missing": {len(NM)}' in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_a_cube_without_wavelengths_opens_by_band_number_or_with_given_ones(tmp_path, cube, capsys):
    np.save(tmp_path / "a.npy", cube)
    assert main(["view", str(tmp_path / "a.npy")]) == 0
    assert "its bands are numbered" in capsys.readouterr().out
    assert '"unit": "band"' in (tmp_path / "a.html").read_text(encoding="utf-8")
    assert main(["view", str(tmp_path / "a.npy"), "--wavelengths", "400:700:20"]) == 0
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert f'"wavelengths": {NM.tolist()}' in text


def test_keys_choose_the_cube_and_the_truth_in_one_file(tmp_path, cube, capsys):
    np.savez(tmp_path / "a.npz", pred=cube, truth=cube, wavelengths=NM)
    path = str(tmp_path / "a.npz")
    assert main(["view", path]) == 2
    assert "pred (18×24×16), truth (18×24×16)" in capsys.readouterr().err
    assert main(["view", path, "--key", "pred", "--truth", path, "--truth-key", "truth"]) == 0
    assert '"rmse": 0.0' in (tmp_path / "a.html").read_text(encoding="utf-8")


def test_ignored_values_do_not_spoil_the_scale(tmp_path, cube):
    write_cube(tmp_path / "a.hdr", np.where(cube < 0.1, -9999, cube), NM)
    with (tmp_path / "a.hdr").open("a") as file:
        file.write("data ignore value = -9999\n")
    assert main(["view", str(tmp_path / "a.hdr")]) == 0
    text = (tmp_path / "a.html").read_text(encoding="utf-8")
    assert f'"missing": {int((cube < 0.1).sum())}' in text
    assert float(re.search(r'"step": ([^,]*)', text)[1]) == pytest.approx(0.9 / 65534, rel=0.01)


def test_bad_input_costs_one_line_that_names_the_file(tmp_path, cube, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["view", "."]) == 2
    assert capsys.readouterr().err == "error: .: found a folder; expected a cube\n"
    write_cube(tmp_path / "a.npz", cube, NM)
    write_cube(tmp_path / "small.npz", cube[:9], NM)
    write_cube(tmp_path / "shifted.npz", cube, NM + 5)
    Image.fromarray(np.zeros((24, 18, 3), np.uint8)).save(tmp_path / "turned.png")
    for arguments, complaint in [
        (["nowhere.mat"], "nowhere.mat: there is no such file"),
        (["a.npz", "--truth", "small.npz"], "small.npz: found 9×24 pixels of 16 bands; expected 18×24 pixels"),
        (["a.npz", "--truth", "shifted.npz"], "shifted.npz: found bands of 405-705 nm"),
        (["a.npz", "--rgb", "turned.png"], "turned.png: found 24×18 pixels"),
        (["a.npz", "--truth-key", "b"], "b: needs the file of the truth, --truth"),
        (["a.npz", "--output", "page.pdf"], "page.pdf: expected a name that ends in .html"),
        (["a.npz", "--output", "nowhere/page.html"], "cannot be written"),
    ]:
        paths = [word if word.startswith("--") else str(tmp_path / word) for word in arguments]
        assert main(["view", *paths]) == 2
        errors = capsys.readouterr().err.strip().splitlines()
        assert len(errors) == 1
        assert complaint in errors[0]
    assert not list(tmp_path.glob("*.html"))

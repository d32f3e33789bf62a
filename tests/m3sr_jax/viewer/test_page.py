"""The page as a file: whole, self-contained, and only for inputs that fit together."""

import importlib.util
import json
import re

import jaxtyping
import numpy as np
import pytest

from m3sr_jax.errors import InputError
from m3sr_jax.viewer.page import same_proportions, write_page

NM = np.linspace(420.0, 980.0, 6)


@pytest.fixture
def cube():
    return np.random.default_rng(0).random((20, 30, 6), np.float32)


def facts_of(path):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'<script type="application/json" id="facts">(.*?)</script>', text).group(1))


def test_the_page_is_one_file_without_references(tmp_path, cube):
    page = tmp_path / "page.html"
    write_page(page, cube, NM, truth=cube * 0.9, photo=np.zeros((40, 60, 3), np.float32))
    text = page.read_text(encoding="utf-8")
    assert not re.findall(r'<(?:script|link|img|iframe)[^>]*(?:src|href)="(?!data:)', text)
    assert not re.search(r"@import|url\((?!data:)", text.partition("<body")[0])
    assert text.count('id="codes-') == 2
    assert [path.name for path in tmp_path.iterdir()] == ["page.html"]


def test_the_page_states_its_facts(tmp_path, cube):
    cube[3, 4, 5] = np.nan
    write_page(tmp_path / "page.html", cube, NM, title="a < b")
    facts = facts_of(tmp_path / "page.html")
    assert facts["size"] == [20, 30]
    assert facts["missing"] == 1
    assert facts["step"] == pytest.approx((np.nanmax(cube) - np.nanmin(cube)) / 65534)
    assert facts["wavelengths"] == NM.tolist()
    assert facts["comparison"] is None
    assert facts["title"] == "a < b"
    assert len({*facts["colours"][:3]}) == 3
    assert len({*facts["colours"][4:]}) == 1  # invisible wavelengths share one colour


@pytest.mark.parametrize("shape", [(1, 1, 1), (2, 300, 3), (40, 3, 31)])
def test_cubes_of_odd_shapes(tmp_path, shape):
    cube = np.random.default_rng(1).random(shape, np.float32)
    write_page(tmp_path / "page.html", cube, np.arange(400.0, 400.0 + shape[2]), truth=cube)
    facts = facts_of(tmp_path / "page.html")
    assert facts["comparison"]["psnr"] is None  # infinite
    assert all(0 <= row < shape[0] and 0 <= column < shape[1] for row, column in facts["pins"])


def test_a_cube_without_any_value(tmp_path):
    write_page(tmp_path / "page.html", np.full((16, 16, 6), np.nan, np.float32), NM)
    assert facts_of(tmp_path / "page.html")["missing"] == 16 * 16 * 6


@pytest.mark.parametrize(
    "extras",
    [{"truth": np.zeros((20, 30, 5), np.float32)}, {"photo": np.zeros((20, 40, 3), np.float32)}, {"nm": NM[:-1]}],
)
def test_inputs_that_do_not_fit_together_are_rejected(tmp_path, cube, extras):
    nm = extras.pop("nm", NM)
    with pytest.raises((ValueError, jaxtyping.TypeCheckError)):  # tests run with shapes checked, users without
        write_page(tmp_path / "page.html", cube, nm, **extras)
    assert not list(tmp_path.iterdir())


def test_proportions_up_to_rounding():
    assert same_proportions((1300, 1392, 3), (325, 348, 31))
    assert same_proportions((1001, 667, 3), (500, 333, 31))
    assert not same_proportions((482, 512, 3), (512, 482, 31))


def test_without_bokeh_one_line_says_what_to_do(tmp_path, cube, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install bokeh"):
        write_page(tmp_path / "page.html", cube, NM)


def test_a_cube_without_wavelengths_is_shown_by_band_number(tmp_path, cube):
    write_page(tmp_path / "page.html", cube, None, truth=cube)
    facts = facts_of(tmp_path / "page.html")
    assert facts["unit"] == "band"
    assert facts["wavelengths"] == list(range(1, cube.shape[2] + 1))
    assert len({*facts["colours"]}) == 1
    assert facts["rendering"].startswith(f"false colour bands {cube.shape[2]} / ")
    text = (tmp_path / "page.html").read_text(encoding="utf-8")
    assert '"axis_label":"band"' in text
    assert "wavelength (nm)" not in text


def test_half_widths_are_those_of_the_pixels_that_the_page_keeps(tmp_path, cube, monkeypatch):
    write_page(tmp_path / "page.html", cube, NM, interval=cube / 8)
    assert 'id="codes-interval"' in (tmp_path / "page.html").read_text()
    monkeypatch.setattr("m3sr_jax.viewer.packing.MAX_SAMPLES", 2 * cube.size // 4)
    write_page(tmp_path / "page.html", cube, NM, interval=cube[1::2, 1::2] / 8)
    assert facts_of(tmp_path / "page.html")["factor"] == 2
    with pytest.raises(ValueError, match=r"found half-widths \(20, 30, 6\); expected \(10, 15, 6\)"):
        write_page(tmp_path / "page.html", cube, NM, interval=cube / 8)

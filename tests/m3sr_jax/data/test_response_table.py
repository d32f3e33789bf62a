"""Camera responses in the shapes that measuring instruments, spreadsheets and data sets give them."""

import numpy as np
import pytest

from m3sr_jax.data.response_table import read_response_table
from m3sr_jax.errors import InputError

NM = np.arange(400.0, 701, 50)
R, G, B = (np.exp(-0.5 * ((NM - centre) / 40) ** 2).round(6) for centre in (600, 540, 450))


def table(columns, separator=",", number="{:g}"):
    rows = zip(*(np.broadcast_to(column, NM.shape) for column in columns), strict=True)
    return "".join(separator.join(number.format(value) for value in row) + "\n" for row in rows)


PLAIN = table((NM, R, G, B))
SHAPES = {
    "names in another order": "B,nm,G,R\n" + table((B, NM, G, R)),
    "no names": PLAIN,
    "units below the names": "Wavelength,Red,Green,Blue\n(nm),(a.u.),(a.u.),(a.u.)\n" + PLAIN,
    "names with units": "Wavelength [nm],R (QE),G (QE),B (QE)\n" + PLAIN,
    "comments": "# measured\n% again\nnm,R,G,B\n" + PLAIN,
    "semicolons and decimal commas": "Wellenlänge;Rot;Grün;Blau\n" + table((NM, R, G, B), ";").replace(".", ","),
    "blanks and decimal commas": table((NM, R, G, B), "  ").replace(".", ","),
    "quoted decimal commas": "".join(
        ",".join(f'"{cell}"' for cell in line.replace(".", ",").split(";")) + "\n"
        for line in table((NM, R, G, B), ";").splitlines()
    ),
    "tabs": "nm\tR\tG\tB\n" + table((NM, R, G, B), "\t"),
    "spreadsheet": '"nm","R","G","B",,\r\n' + PLAIN.replace("\n", ",,\r\n"),
    "rows for columns": "".join(
        ",".join([name, *map("{:g}".format, column)]) + "\n"
        for name, column in zip(("nm", *"RGB"), (NM, R, G, B), strict=True)
    ),
    "unnamed wavelengths": ",R,G,B\n" + PLAIN,
    "wavelengths with their unit": "".join(line.replace(",", " nm,", 1) + "\n" for line in PLAIN.splitlines()),
}


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "latin-1"])
@pytest.mark.parametrize("shape", SHAPES)
def test_every_shape_gives_the_same_response(tmp_path, shape, encoding):
    (tmp_path / "camera.csv").write_bytes(SHAPES[shape].encode(encoding))
    found = read_response_table(tmp_path / "camera.csv")
    np.testing.assert_allclose(found.wavelengths, NM)
    np.testing.assert_allclose(found.response, np.stack([R, G, B], 1), rtol=1e-5)
    assert found.notes == []


@pytest.mark.parametrize("names", ["Wavelength[nm],R,G1,G2,B", "nm,R,Gr,Gb,B", "nm,Red,Green 1,Green 2,Blue"])
def test_two_green_channels_are_averaged(tmp_path, names):
    """The layout of RGB_Camera_QE.csv of NTIRE 2022."""
    (tmp_path / "camera.csv").write_text(f"{names}\n" + table((NM, R, 0.9 * G, 1.1 * G, B)))
    found = read_response_table(tmp_path / "camera.csv")
    np.testing.assert_allclose(found.response, np.stack([R, G, B], 1), rtol=1e-5)
    assert found.notes == ["2 green channels averaged"]


def test_other_columns_are_named(tmp_path):
    (tmp_path / "camera.csv").write_text("nm,R,G,B,NIR\n" + table((NM, R, G, B, 0.5)))
    assert read_response_table(tmp_path / "camera.csv").notes == ["columns not used: NIR"]


def test_columns_of_other_names_keep_their_order(tmp_path):
    (tmp_path / "camera.csv").write_text("nm,X,Y,Z\n" + PLAIN)
    found = read_response_table(tmp_path / "camera.csv")
    np.testing.assert_allclose(found.response[:, 0], R, rtol=1e-5)
    assert found.notes == ["columns taken for wavelength, R, G, B, in this order"]


def test_the_camspec_database_has_no_wavelengths(tmp_path):
    rows = np.random.default_rng(0).random((3, 33))
    text = "Some Camera\n" + "".join("\t".join(f"{value:.6f}" for value in row) + "\n" for row in rows)
    (tmp_path / "camera.txt").write_text(text)
    found = read_response_table(tmp_path / "camera.txt")
    np.testing.assert_array_equal(found.wavelengths, np.arange(400, 721, 10))
    np.testing.assert_allclose(found.response, rows.T, atol=1e-6)
    assert "400-720 nm" in found.notes[0]


def test_empty_cells_are_told_from_zero(tmp_path):
    (tmp_path / "camera.csv").write_text("nm,R,G,B\n380,,,\n400,1,,0\n")
    np.testing.assert_array_equal(read_response_table(tmp_path / "camera.csv").response, [[np.nan] * 3, [1, np.nan, 0]])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nm,R,G\n400,1,1\n500,1,1\n", r"shape \(2, 3\) with columns nm, R, G; expected columns wavelength, R, G, B"),
        ("nm,R,G,B\n", r"shape \(0, 0\) with columns nm,R,G,B"),
        ("nm,B,G,X\n400,1,1,1\n", "with columns nm, B, G, X"),
        ("nm,R,R,G,B\n400,1,1,1,1\n", "expected one each for R and B"),
        ("400,1,1,1,1\n500,1,1,1,1\n", r"found a table of shape \(2, 5\); expected"),
    ],
)
def test_other_tables_are_refused_with_their_columns(tmp_path, text, message):
    (tmp_path / "camera.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_response_table(tmp_path / "camera.csv")

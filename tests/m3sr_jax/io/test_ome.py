"""Channels of OME-TIFF: wavelengths, names and significant bits."""

import numpy as np
import pytest
import tifffile

from m3sr_jax.errors import InputError
from m3sr_jax.io.cubes import read_cube_file
from m3sr_jax.io.ome import ome_channels

CODES = np.random.default_rng(0).integers(0, 4096, (4, 6, 5)).astype(np.uint16)
NM = [450.0, 500.0, 550.0, 650.0]


def write(folder, bits=16, **channel):
    metadata = {"axes": "CYX", "Channel": channel, "SignificantBits": bits}
    tifffile.imwrite(folder / "cube.ome.tif", CODES, photometric="minisblack", metadata=metadata)
    return folder / "cube.ome.tif"


@pytest.mark.parametrize(
    "channel",
    [
        {"EmissionWavelength": NM},
        {"EmissionWavelength": [nm * 10 for nm in NM], "EmissionWavelengthUnit": ["Å"] * 4},
        {"Name": [f"{nm} nm" for nm in NM]},
        {"Name": [f"{nm}" for nm in NM]},
    ],
)
def test_channels_have_wavelengths(tmp_path, channel):
    cube = read_cube_file(write(tmp_path, **channel))
    np.testing.assert_array_equal(cube.wavelengths, NM)
    np.testing.assert_allclose(cube.values, CODES.transpose(1, 2, 0) / 65535, rtol=1e-6)
    assert "wavelengths from the OME channels" in cube.notes


def test_significant_bits_are_white(tmp_path):
    path = write(tmp_path, 12, EmissionWavelength=NM)
    np.testing.assert_allclose(read_cube_file(path).values, CODES.transpose(1, 2, 0) / 4095, rtol=1e-6)


@pytest.mark.parametrize(
    ("channels", "message"),
    [
        ('<Channel EmissionWavelength="450"/><Channel/>', "EmissionWavelength for 1 of 2 bands"),
        ('<Channel EmissionWavelength="x"/><Channel EmissionWavelength="9"/>', "EmissionWavelength that is no number"),
        ("<Channel", "an OME description that is not valid XML"),
    ],
)
def test_damaged_channels_are_refused(tmp_path, channels, message):
    text = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06"><Image><Pixels>{channels}</Pixels></Image></OME>'
    with pytest.raises(InputError, match=message):
        ome_channels(tmp_path / "cube.tif", text, 2)
    assert ome_channels(tmp_path / "cube.tif", "a <photo> of leaves", 2) == (None, "", None)

"""Damaged and malicious files: every reader refuses them clearly or reads them correctly.

`tools/fuzz_readers.py` feeds them ten thousand files each, in processes of limited memory.
"""

import io
import os
import pickle
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from m3sr_jax.data.camera import load_camera
from m3sr_jax.errors import InputError
from m3sr_jax.io import read_cube, read_rgb, write_cube
from m3sr_jax.io.photos import image_size
from tests.m3sr_jax.io.test_cubes import SUFFIXES
from tools.fuzz_readers import NEEDED, attempt, files_of, run_case
from tools.fuzz_subjects import CUBE, SUBJECTS, WAVELENGTHS

CASES = 40  # for each reader: a sample of what the benchmark runs


@pytest.fixture(scope="module")
def valid_files(tmp_path_factory):
    """Gives a folder of valid files of a subject."""

    def make(name):
        if name in NEEDED:
            module, package = NEEDED[name]
            pytest.importorskip(module, reason=f"writing {name} files takes {package}")
        folder = tmp_path_factory.mktemp(name)
        SUBJECTS[name].make(folder)
        return folder

    return make


@pytest.mark.filterwarnings("ignore::UserWarning")  # Pillow's, of damaged tags
@pytest.mark.parametrize("name", SUBJECTS)
def test_damaged_files_are_refused_or_read(valid_files, name):
    folder, subject = valid_files(name), SUBJECTS[name]
    paths = files_of(folder)
    for path in paths:
        assert attempt(subject, path if subject.target is None else folder / subject.target) == "answered"

    @settings(max_examples=CASES, derandomize=True, deadline=None, database=None)
    @given(st.sampled_from(paths), st.randoms(use_true_random=False))
    def damaged(path, random):
        assert run_case(subject, folder, path, random) in ("refused", "answered")

    damaged()


# Written files


@st.composite
def cubes(draw):
    shape = draw(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 8)))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    wavelengths = 300 + np.cumsum(rng.uniform(0.5, 100, shape[2]))
    return rng.uniform(0, draw(st.sampled_from([1.0, 1e-30, 1e30])), shape).astype(np.float32), wavelengths


@pytest.mark.parametrize("suffix", SUFFIXES)
@settings(max_examples=25, derandomize=True, deadline=None, database=None)
@given(cubes(), st.sampled_from([np.float32, np.uint16]))
def test_whatever_is_written_is_read_back(tmp_path_factory, suffix, written, dtype):
    cube, wavelengths = written
    path = tmp_path_factory.mktemp("cube") / f"cube{suffix}"
    write_cube(path, cube, wavelengths, dtype)
    found, centres = read_cube(path)
    if dtype == np.uint16:
        cube = np.rint(np.clip(cube, 0, 1) * np.float32(65535)) / np.float32(65535)
    np.testing.assert_allclose(found, cube, rtol=0 if dtype == np.float32 else 1e-6)
    np.testing.assert_allclose(centres, wavelengths, rtol=1e-5 if suffix == ".hdr" else 0)


# Headers that claim 10^12 numbers


def npy(shape, data=b""):
    file = io.BytesIO()
    np.lib.format.write_array_header_1_0(file, {"descr": "<f4", "fortran_order": False, "shape": shape})
    return file.getvalue() + data


def endless_npz(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("cube.npy", npy((10**6, 10**6, 31)))


def endless_hdf5(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("cube", (10**6, 10**6, 31), "f4", chunks=(64, 64, 31))


def endless_chunk(path):
    with h5py.File(path, "w") as file:
        file.create_dataset("cube", (4, 5, 31), "f4", maxshape=(None, None, 31), chunks=(4000, 4000, 31))


def endless_bands(path):
    """Wavelengths whose values `read_cube_header` would skip as if they were a cube's."""
    import scipy.io

    scipy.io.savemat(path, {"cube": np.ones((4, 5, 31)), "bands": np.ones((31, 1))})
    extents = np.array([31, 1], "<i4").tobytes()
    path.write_bytes(path.read_bytes().replace(extents, np.array([2**27, 1], "<i4").tobytes()))


def endless_header(path):
    path.write_text("ENVI\nsamples = 1000000\nlines = 1000000\nbands = 1\ndata type = 4\ninterleave = bsq\n")
    path.with_suffix(".img").write_bytes(bytes(16))


def endless_png(path):
    Image.new("RGB", (4, 4)).save(path)
    header = struct.pack(">IIBBBBB", 13_000, 13_000, 8, 2, 0, 0, 0)
    content = path.read_bytes()
    path.write_bytes(content[:16] + header + struct.pack(">I", zlib.crc32(b"IHDR" + header)) + content[33:])


def endless_chunk_length(path):
    Image.new("RGB", (4, 4)).save(path)
    content = path.read_bytes()
    start = content.index(b"IDAT") - 4
    path.write_bytes(content[:start] + b"\x7f\xff\xff\xff" + content[start + 4 :])


def endless_view(path):
    import torch

    torch.save({"weight": torch.ones(1, dtype=torch.bfloat16).expand(10**6, 10**6)}, path)


def endless_text(path):
    path.write_bytes(pickle.dumps(0x1950A86A20F9469CFC6C, 2) + pickle.dumps(1001, 2) + b"\x80\x02X\xff\xff\xff\x7f.")


ENDLESS = {
    "npz": (endless_npz, "cube.npz"),
    "hdf5": (endless_hdf5, "cube.mat"),
    "hdf5 chunk": (endless_chunk, "cube.h5"),
    "wavelengths": (endless_bands, "cube.mat"),
    "envi": (endless_header, "cube.hdr"),
    "png": (endless_png, "photo.png"),
    "png chunk": (endless_chunk_length, "photo.png"),
    "pth view": (endless_view, "net.pth"),
    "pth text": (endless_text, "net.pth"),
}
LIMITED = """
import resource, sys
from pathlib import Path
from m3sr_jax.convert.read import read_release
from m3sr_jax.data.camera import load_camera
from m3sr_jax.errors import InputError
from m3sr_jax.io import read_cube, read_rgb
from m3sr_jax.io.cubes import read_cube_header
import h5py, tifffile, PIL.Image
try:
    import torch
except ImportError:
    pass
taken = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
resource.setrlimit(resource.RLIMIT_AS, (taken + 2**28, taken + 2**28))
for path in map(Path, sys.argv[1:]):
    readers = {"photo": [read_rgb], "net": [read_release]}.get(path.stem, [read_cube_header, read_cube])
    for read in readers:
        try:
            print(path.parent.name, read.__name__, "answered", len(read(path)))
        except InputError as error:
            print(path.parent.name, read.__name__, "memory" if isinstance(error.__cause__, MemoryError) else "refused")
print("grown", (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024)
"""


def test_claims_take_no_memory(tmp_path):
    """One process with little memory reads them all."""
    pytest.importorskip("torch", reason="writing .pth files takes PyTorch")
    paths = []
    for kind, (make, name) in ENDLESS.items():
        (tmp_path / kind).mkdir()
        make(tmp_path / kind / name)
        paths.append(tmp_path / kind / name)
    root = Path(__file__).parents[3]
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, *map(str, paths)],
        env=os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{root / 'kernels'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    *lines, grown = done.stdout.splitlines()
    assert len(lines) >= len(ENDLESS)
    # The long chunk is the file's last and holds all pixels, so the photo is readable.
    assert [line for line in lines if not line.endswith("refused")] in ([], ["png chunk read_rgb answered 4"])
    assert int(grown.split()[1]) < 100, "MiB"


def test_nothing_in_an_archive_is_executed(tmp_path, monkeypatch):
    """`allow_pickle` is off for every array, not only for the cube."""
    monkeypatch.chdir(tmp_path)

    class Malicious:
        def __reduce__(self):
            return (open, ("witness", "w"))

    np.savez("cube.npz", cube=np.ones((4, 5, 31)), bands=np.array([Malicious()], object))
    Path("camera.npz").write_bytes(Path("cube.npz").read_bytes())
    with pytest.raises(InputError, match="it holds Python objects, which could run code"):
        read_cube("cube.npz")
    with pytest.raises(InputError, match="it holds Python objects, which could run code"):
        load_camera("camera.npz")
    assert not Path("witness").exists()


# Files that refer to other files


@pytest.fixture
def secret(tmp_path):
    """Writes a cube outside the folder of the file that is read."""
    (tmp_path / "inside").mkdir()
    with h5py.File(tmp_path / "secret.h5", "w") as file:
        file["cube"] = np.ones((4, 5, 31))
    np.ones((4, 5, 31), np.float64).tofile(tmp_path / "secret.raw")
    return tmp_path / "inside"


def external_link(file):
    file["cube"] = h5py.ExternalLink("../secret.h5", "/cube")


def link_through_a_link(file):
    file["other"] = h5py.ExternalLink("../secret.h5", "/")
    file["cube"] = h5py.SoftLink("/other/cube")


def virtual(file):
    layout = h5py.VirtualLayout((4, 5, 31), "f8")
    layout[:] = h5py.VirtualSource("../secret.h5", "cube", (4, 5, 31))
    file.create_virtual_dataset("cube", layout)


def external_storage(file):
    file.create_dataset("cube", (4, 5, 31), "f8", external=[("../secret.raw", 0, h5py.h5f.UNLIMITED)])


@pytest.mark.parametrize("way", [external_link, link_through_a_link, virtual, external_storage])
@pytest.mark.parametrize("suffix", [".h5", ".mat"])
def test_hdf5_reads_no_other_file(secret, monkeypatch, way, suffix):
    monkeypatch.chdir(secret)
    with h5py.File(f"cube{suffix}", "w") as file:
        way(file)
    with pytest.raises(InputError, match=r"are in other files|holds a link to"):
        read_cube(f"cube{suffix}")


def test_tiff_reads_no_other_file(secret):
    """OME-TIFF may name the files of its pages."""
    pages = np.arange(31 * 4 * 5, dtype=np.uint16).reshape(31, 4, 5)
    tifffile.imwrite(secret.parent / "secret.ome.tif", pages, photometric="minisblack", metadata={"axes": "CYX"})
    with tifffile.TiffFile(secret.parent / "secret.ome.tif") as file:
        described = file.ome_metadata
    unique = described.partition('UUID="')[2].partition('"')[0]
    described = described.replace(unique, "urn:uuid:other", 1)
    described = described.replace("<TiffData ", '<TiffData FirstC="0" FirstT="0" FirstZ="0" ').replace(
        'PlaneCount="31"/>', f'PlaneCount="31"><UUID FileName="../secret.ome.tif">{unique}</UUID></TiffData>'
    )
    path = secret / "cube.tif"
    tifffile.imwrite(
        path, np.zeros((31, 4, 5), np.uint16), photometric="minisblack", description=described, metadata=None
    )
    assert read_cube(path)[0].max() == 0


@pytest.mark.parametrize("name", ["../outside", "", "..", "a/b"])
def test_a_store_reads_no_other_folder(valid_files, name):
    manifest = valid_files("store") / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"name": "scene0"', f'"name": "{name}"'))
    with pytest.raises(InputError, match="cannot be read as a store's manifest"):
        SUBJECTS["store"].read(manifest)


# What the fuzzer found


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "RGB", "I;16"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_tiffs_of_every_mode_are_turned_upright(tmp_path, mode, orientation):
    """Pillow scrambles the pixels of rotated files if it may memory-map them."""
    codes = np.random.default_rng(0).integers(0, 256, (9, 11, 3)).astype(np.uint8)
    wide = codes[..., 0].astype(np.uint16) * np.uint16(200)
    image = Image.fromarray(wide) if mode == "I;16" else Image.fromarray(codes).convert(mode)
    exif = Image.Exif()
    exif[0x0112] = orientation
    image.save(tmp_path / "photo.tif", exif=exif)
    image.getexif()[0x0112] = orientation
    expected = ImageOps.exif_transpose(image)
    expected = np.asarray(expected if mode == "I;16" else expected.convert("RGB"))
    found = read_rgb(tmp_path / "photo.tif")
    np.testing.assert_array_equal(
        found if found.ndim == expected.ndim else found[..., 0], expected / np.float32(np.iinfo(expected.dtype).max)
    )
    assert image_size(tmp_path / "photo.tif") == found.shape[:2]


def test_colour_planes_in_a_narrow_tiff(tmp_path):
    planes = np.arange(3 * 7 * 4, dtype=np.uint16).reshape(3, 7, 4)
    tifffile.imwrite(tmp_path / "photo.tif", planes, photometric="rgb", planarconfig="separate")
    np.testing.assert_array_equal(read_rgb(tmp_path / "photo.tif"), np.moveaxis(planes, 0, -1) / np.float32(65535))


@pytest.mark.parametrize("orientation", [0, 9, 234])
def test_an_invalid_orientation_is_ignored(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.new("RGB", (5, 3)).save(tmp_path / "photo.png", exif=exif)
    assert image_size(tmp_path / "photo.png") == read_rgb(tmp_path / "photo.png").shape[:2] == (3, 5)


def test_a_heic_whose_header_says_no_size(valid_files):
    path = valid_files("heic") / "photo.heic"
    content = path.read_bytes()
    at = content.index(b"ispe") + 8
    path.write_bytes(content[:at] + bytes(4) + content[at + 4 :])
    for read in (read_rgb, image_size):
        with pytest.raises(InputError, match=r"photo.heic: its header says 64×0 pixels"):
            read(path)


def test_only_documented_formats_are_opened(tmp_path):
    """Pillow passes PostScript, for example, to another program."""
    Image.new("RGB", (40, 30)).save(tmp_path / "photo.eps")
    (tmp_path / "photo.eps").rename(tmp_path / "photo.png")
    with pytest.raises(InputError, match="cannot be read as an image"):
        read_rgb(tmp_path / "photo.png")


def test_a_numpy_header_of_another_version_takes_no_memory(tmp_path):
    """Its length then takes four bytes, not two."""
    np.save(tmp_path / "cube.npy", np.ones((4, 5, 31), np.float32))
    content = (tmp_path / "cube.npy").read_bytes()
    (tmp_path / "cube.npy").write_bytes(content[:6] + b"\2" + content[7:])
    with pytest.raises(InputError, match=r"cannot be read as an \.npy") as caught:
        read_cube(tmp_path / "cube.npy")
    assert not isinstance(caught.value.__cause__, MemoryError)


@pytest.mark.parametrize("size", [0, 24, 2**40])
def test_a_damaged_heap_of_hdf5_is_refused(tmp_path, size):
    """With a free space of length 0, libhdf5 would not return; others end the process."""
    with h5py.File(tmp_path / "cube.h5", "w") as file:
        file["cube"] = np.ones((4, 5, 31))
        file["cube"].attrs["units"] = "reflectance"  # text of variable length
    content = (tmp_path / "cube.h5").read_bytes()
    heap = content.index(b"GCOL")
    free = heap + 16 + 16 + 16  # after the header and one text of eleven bytes
    assert content[free : free + 2] == b"\0\0"
    (tmp_path / "cube.h5").write_bytes(content[: free + 8] + struct.pack("<Q", size) + content[free + 16 :])
    with pytest.raises(InputError, match="its heap is damaged"):
        read_cube(tmp_path / "cube.h5")


def test_references_in_hdf5_are_not_followed(tmp_path):
    """libhdf5 frees damaged ones twice."""
    with h5py.File(tmp_path / "cube.nc", "w") as file:
        file["cube"], file["wavelength"] = np.ones((4, 5, 31)), np.arange(400.0, 701, 10)
        file["wavelength"].make_scale()
        file["cube"].dims[2].attach_scale(file["wavelength"])
    content = (tmp_path / "cube.nc").read_bytes()
    heap = content.index(b"GCOL")
    (tmp_path / "cube.nc").write_bytes(content[: heap + 32] + b"\xff" * 8 + content[heap + 40 :])  # the address
    assert read_cube(tmp_path / "cube.nc")[0].shape == (4, 5, 31)


@pytest.mark.parametrize("nodata", ["inf", "-inf", "nan", "1e400"])
def test_an_infinite_ignored_value_hides_no_integer(tmp_path, nodata):
    tags = [(42113, "s", 0, nodata, True)]
    codes = np.ones((4, 5, 31), np.int16)
    tifffile.imwrite(tmp_path / "cube.tif", codes, photometric="minisblack", planarconfig="contig", extratags=tags)
    np.testing.assert_array_equal(read_cube(tmp_path / "cube.tif")[0], codes)


@pytest.mark.parametrize("text", ["samples" + " " * 100_000, "a={\n" * 100_000])
def test_long_headers_are_parsed_quickly(tmp_path, text):
    write_cube(tmp_path / "cube.hdr", CUBE, WAVELENGTHS)
    with (tmp_path / "cube.hdr").open("a") as file:
        file.write(text)
    assert attempt(SUBJECTS["envi"], tmp_path / "cube.hdr") in ("refused", "answered")


def test_messages_are_one_line_of_printable_text(tmp_path):
    write_cube(tmp_path / "cube.hdr", CUBE, WAVELENGTHS)
    header = tmp_path / "cube.hdr"
    header.write_text(header.read_text().replace("interleave = bsq", "interleave = \x1b[31m" + "9" * 10**5))
    with pytest.raises(InputError, match=r"\\x1b\[31m9999") as caught:
        read_cube(header)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 2000

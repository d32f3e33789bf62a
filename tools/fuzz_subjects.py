"""What the fuzzer tests: for every reader, small valid files, how to damage them, and what a valid result is."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any
from unittest import mock

import numpy as np

from m3sr_jax.errors import InputError
from tools.fuzz_damage import Damage, damage_bytes, damage_json, damage_png, damage_zip

CUBE = np.random.default_rng(0).uniform(0.1, 1, (3, 4, 5)).astype(np.float32)
WAVELENGTHS = np.linspace(400.0, 480, 5)


@dataclass(frozen=True)
class Subject:
    """A reader and its files.

    Attributes:
        make: writes valid files into an empty folder.
        read: reads the file and raises AssertionError if the result is invalid.
        damage: damages a file's content.
        target: the file to read, relative to the folder; None reads the damaged file itself.
    """

    make: Callable[[Path], Any]
    read: Callable[[Path], Any]
    damage: Damage = damage_bytes
    target: str | None = None


# Photos and cubes


def _read_photo(path: Path) -> None:
    from m3sr_jax.io.photos import image_size, read_rgb

    rgb = read_rgb(path)
    assert rgb.dtype == np.float32
    assert rgb.ndim == 3
    assert rgb.shape[2] == 3
    assert rgb.size == 0 or (rgb.min() >= 0 and rgb.max() <= 1)
    assert image_size(path) == rgb.shape[:2]


def _photos(suffix: str, modes: Iterable[str], **options: Any) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        from PIL import Image

        codes = np.random.default_rng(0).integers(0, 256, (9, 11, 3)).astype(np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 6
        for mode in modes:
            Image.fromarray(codes).convert(mode).save(folder / f"{mode}{suffix}", exif=exif, **options)

    return make


def _wide_pngs(folder: Path) -> None:
    import struct
    import zlib

    from PIL import Image

    codes = np.random.default_rng(0).integers(0, 65536, (7, 5, 4)).astype(">u2")
    Image.fromarray(codes[..., 0].astype(np.uint16)).save(folder / "grey.png")
    for channels, kind in ((3, 2), (4, 6)):
        rows = b"".join(b"\0" + row.tobytes() for row in codes[..., :channels])
        header = struct.pack(">IIBBBBB", 5, 7, 16, kind, 0, 0, 0)
        chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
        content = b"".join(
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
            for name, data in chunks
        )
        (folder / f"colour{channels}.png").write_bytes(b"\x89PNG\r\n\x1a\n" + content)


def _tiff_photos(folder: Path) -> None:
    import tifffile

    _photos(".tif", ("RGB", "L", "P", "CMYK"))(folder)
    _photos(".tiff", ("RGB",), compression="tiff_lzw")(folder)
    wide = np.random.default_rng(0).integers(0, 65536, (7, 5, 3)).astype(np.uint16)
    tifffile.imwrite(folder / "wide.tif", wide, photometric="rgb")
    tifffile.imwrite(folder / "planes.tif", np.moveaxis(wide, -1, 0), photometric="rgb", planarconfig="separate")
    deflate = {"compression": "zlib", "metadata": None}
    tifffile.imwrite(folder / "deflated.tif", wide, photometric="rgb", predictor=True, **deflate)

    tifffile.imwrite(
        folder / "float.tif", wide.astype(np.float32) / 65535, photometric="rgb", predictor=True, **deflate
    )
    tifffile.imwrite(folder / "packed.tif", wide[..., 0], photometric="minisblack", compression="zstd")
    tifffile.imwrite(folder / "inks.tif", np.dstack([wide, wide[..., 0]]), photometric="separated")
    tifffile.imwrite(folder / "jpeg.tif", (wide >> 8).astype(np.uint8), photometric="rgb", compression="jpeg")
    tifffile.imwrite(
        folder / "tiles.tif", np.tile(wide, (4, 5, 1)), photometric="rgb", tile=(16, 16), compression="lzw"
    )
    with tifffile.TiffWriter(folder / "pages.tif") as file:
        alpha = {"photometric": "rgb", "extrasamples": ["assocalpha"], "metadata": None}
        file.write(np.dstack([wide, wide[..., 0]]), subfiletype=0, **alpha)
        file.write(wide[::2, ::2], subfiletype=1, photometric="rgb", metadata=None)


def _profiled(folder: Path) -> None:
    """Photos with an ICC profile, of which one has a table."""
    import imagecodecs
    from PIL import Image, ImageCms

    codes = np.random.default_rng(0).integers(0, 256, (9, 11, 3)).astype(np.uint8)
    adobe = imagecodecs.cms_profile("adobergb")
    for suffix in (".png", ".jpg", ".webp"):
        Image.fromarray(codes).save(folder / f"adobe{suffix}", icc_profile=adobe)
    grey = imagecodecs.cms_profile("gray", gamma=1.8)
    Image.fromarray(codes[..., 0]).save(folder / "grey.tif", icc_profile=grey)
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    Image.fromarray(codes).save(folder / "lab.jpg", icc_profile=lab.replace(b"abstLab ", b"spacRGB "))


def _modern(suffix: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        from PIL import Image

        codes = np.random.default_rng(0).integers(0, 256, (19, 21, 3)).astype(np.uint8)
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.fromarray(codes).save(folder / f"lossy{suffix}", exif=exif, quality=80)
        Image.fromarray(codes).save(folder / f"fine{suffix}", exif=exif, quality=100, lossless=suffix == ".webp")
        Image.fromarray(codes).convert("RGBA").save(folder / f"alpha{suffix}")

    return make


def _heic(folder: Path) -> None:
    import pillow_heif
    from PIL import Image

    codes = np.random.default_rng(0).integers(0, 256, (64, 72, 3)).astype(np.uint8)
    pillow_heif.from_pillow(Image.fromarray(codes)).save(folder / "photo.heic", quality=80)
    pillow_heif.from_pillow(Image.fromarray(codes).convert("RGBA")).save(folder / "alpha.heic", quality=80)


def _jpeg2000(folder: Path) -> None:
    import imagecodecs

    codes = np.random.default_rng(0).integers(0, 65536, (33, 40, 3)).astype(np.uint16)
    for name, samples in (("rgb16", codes), ("rgb8", (codes >> 8).astype(np.uint8)), ("grey", codes[..., 0])):
        (folder / f"{name}.jp2").write_bytes(imagecodecs.jpeg2k_encode(samples, level=0, codecformat="jp2"))
        (folder / f"{name}.j2k").write_bytes(imagecodecs.jpeg2k_encode(samples, level=20, codecformat="j2k"))


def _dng(folder: Path) -> None:
    import tifffile

    mosaic = np.random.default_rng(0).integers(0, 65536, (48, 64)).astype(np.uint16)
    unit = tuple(int(value) for number in np.eye(3).ravel() for value in (number * 1000, 1000))
    camera = [
        *((50706, 1, 4, b"\1\4\0\0", True), (50708, 2, 0, "Some Camera", True), (271, 2, 0, "Maker", True)),
        *((50721, 10, 9, unit, True), (50728, 5, 3, (1, 2, 1, 1, 4, 5), True)),
    ]
    opcodes = b"\0\0\0\1" + b"\0\0\0\x09" + bytes(11) + b"\4" + bytes(4)
    pattern = [(33421, 3, 2, (2, 2), True), (33422, 1, 4, b"\0\1\1\2", True), (51009, 7, 24, opcodes, True)]
    with tifffile.TiffWriter(folder / "photo.dng") as file:
        small = {"photometric": "rgb", "subfiletype": 1, "subifds": 1, "metadata": None}
        file.write(np.zeros((8, 12, 3), np.uint8), extratags=camera, **small)
        file.write(mosaic, photometric=32803, subfiletype=0, metadata=None, extratags=pattern)


def _read_cube(path: Path) -> None:
    from m3sr_jax.io.cubes import read_cube, read_cube_file, read_cube_header

    shown = read_cube_file(path, allow_missing=True)  # as the viewer reads it
    assert shown.wavelengths is None or shown.wavelengths.shape == shown.values.shape[2:]
    assert all(isinstance(note, str) for note in shown.notes)
    try:
        header = read_cube_header(path)
    except InputError:
        header = None
    cube, wavelengths = read_cube(path)
    assert cube.dtype == np.float32
    assert cube.ndim == 3
    assert cube.size
    assert np.isfinite(cube).all()
    assert wavelengths.shape == cube.shape[2:]
    assert (np.diff(wavelengths) > 0).all()
    assert header is not None, "read_cube accepts the file, read_cube_header refuses it"
    assert header[0] == cube.shape
    np.testing.assert_array_equal(header[1], wavelengths)


def _cubes(*suffixes: str) -> Callable[[Path], None]:
    def make(folder: Path) -> None:
        from m3sr_jax.io.cube_writer import write_cube

        for suffix in suffixes:
            write_cube(folder / f"float{suffix}", CUBE, WAVELENGTHS)
            write_cube(folder / f"codes{suffix}", CUBE, WAVELENGTHS, np.uint16)

    return make


def _envi_headers(folder: Path) -> None:
    """Headers of other software: gzip, declared scales, units in micrometres, unsorted and bad bands."""
    import gzip

    _cubes(".hdr")(folder)
    common = "samples = 4\nlines = 3\nbands = 5\nbyte order = 0\ninterleave = bip\n"
    wavelengths = "wavelength = {0.65, 0.45, 0.55, 0.7, 0.5}\n"
    declared = "data gain values = {1, 2, 3, 4, 5}\ndata offset values = {0 0 0 0 1}\nbbl = {1, 1, 0, 1, 1}\n"
    (folder / "gzip.hdr").write_text(f"ENVI\n{common}data type = 4\nfile compression = 1\n{wavelengths}")
    (folder / "gzip.img").write_bytes(gzip.compress(CUBE.tobytes()))
    (folder / "scaled.hdr").write_text(f"ENVI\n{common}data type = 2\ndata ignore value = -9\n{wavelengths}{declared}")
    (folder / "scaled.hyspex").write_bytes((CUBE * 100).astype("<i2").tobytes())


def _sidecar(folder: Path) -> None:
    """A GDAL sidecar beside an ENVI file."""
    _cubes(".hdr")(folder)
    for name in ("float.hdr", "float.img"):
        (folder / name).unlink()
    header = (folder / "codes.hdr").read_text()
    kept = (line for line in header.splitlines() if not line.startswith(("wavelength", "reflectance")))
    (folder / "codes.hdr").write_text("\n".join(kept))
    bands = "".join(
        f"<PAMRasterBand band='{band}'><Scale>0.5</Scale><Offset>1</Offset><NoDataValue>7</NoDataValue><UnitType>%"
        f"</UnitType><Metadata><MDI key='wavelength'>{nm:g}</MDI><MDI key='bbl'>1</MDI></Metadata></PAMRasterBand>"
        for band, nm in enumerate(WAVELENGTHS, 1)
    )
    text = f"<PAMDataset><Metadata><MDI key='wavelength_units'>nm</MDI></Metadata>{bands}</PAMDataset>"
    (folder / "codes.img.aux.xml").write_text(text)


def _numpy(folder: Path) -> None:
    np.save(folder / "cube.npy", np.random.default_rng(0).random((3, 4, 31), np.float32))
    np.save(folder / "wide.npy", np.asfortranarray(np.arange(3 * 4 * 31).reshape(3, 4, 31).astype(">u2")))


def _hdf5_groups(folder: Path) -> None:
    """Groups, attributes and dimensions, as NetCDF-4 and NEON have them."""
    import h5py

    with h5py.File(folder / "packed.nc", "w") as file:
        group = file.create_group("site/reflectance")
        data = group.create_dataset("data", data=(CUBE * 1000).astype("i2"))
        data.attrs.update({"scale_factor": 1e-3, "add_offset": 0.5, "valid_range": np.array([0, 5000], "i2")})
        wavelengths = group.create_dataset("wavelength", data=WAVELENGTHS / 1000)
        wavelengths.attrs["units"] = "micrometers"
        wavelengths.make_scale("wavelength")
        data.dims[2].attach_scale(wavelengths)
    with h5py.File(folder / "neon.h5", "w") as file:
        file["Reflectance/Reflectance_Data"] = (CUBE * 10000).astype("i2")
        file["Reflectance/Reflectance_Data"].attrs.update({"Scale_Factor": 10000.0, "Data_Ignore_Value": -9999.0})
        file["Reflectance/wavelength_units"] = "nm"
        file["Reflectance/Wavelength"], file["Reflectance/bbl"] = WAVELENGTHS, np.array([1, 1, 0, 1, 1])


def _structs(folder: Path) -> None:
    import scipy.io

    info = {"wavelength": WAVELENGTHS, "wavelength_units": "nm", "bbl": np.array([1, 1, 0, 1, 1]) > 0}
    content = {"hsi": {"Data": CUBE.astype(np.float64), "scale_factor": 0.5, "info": info}}
    for compressed in (False, True):
        scipy.io.savemat(folder / f"struct{compressed}.mat", content, do_compression=compressed)


def _geotiffs(folder: Path) -> None:
    import tifffile

    scaled = "".join(
        f'<Item name="SCALE" sample="{band}" role="scale">0.{band + 1}</Item>'
        f'<Item name="wavelength" sample="{band}">{nm}</Item>'
        for band, nm in enumerate(WAVELENGTHS)
    )
    tags = [(42112, "s", 0, f"<GDALMetadata>{scaled}</GDALMetadata>", True), (42113, "s", 0, "-9999", True)]
    options = {"photometric": "minisblack", "planarconfig": "contig", "metadata": None, "extratags": tags}
    for name, kind in (("float", np.float32), ("integer", np.int16)):
        tifffile.imwrite(folder / f"{name}.tif", (CUBE * 100).astype(kind), **options)
    tifffile.imwrite(folder / "header.tif", CUBE, photometric="minisblack", planarconfig="contig", metadata=None)
    (folder / "header.hdr").write_text(
        "ENVI\nsamples = 4\nlines = 3\nbands = 5\nfile type = TIFF\nwavelength = {450, 500, 550, 600, 650}\n"
    )


def _matlab5(folder: Path) -> None:
    import scipy.io

    content = {
        "note": "text",
        "cube": CUBE.astype(np.float64),
        "bands": WAVELENGTHS,
        "cell": np.array([1, "x"], object),
        "units": "nm",
        "good_bands": np.array([1, 1, 0, 1, 1]) > 0,
    }
    for compressed in (False, True):
        scipy.io.savemat(folder / f"compressed{compressed}.mat", content, do_compression=compressed)


def _hdf5(folder: Path) -> None:
    import h5py

    _cubes(".mat", ".h5")(folder)
    with h5py.File(folder / "chunked.mat", "w", userblock_size=512) as file:
        written = file.create_dataset("cube", data=CUBE.T, chunks=(2, 2, 2), compression="gzip", shuffle=True)
        written.attrs["MATLAB_class"] = np.bytes_("single")
        file["bands"] = WAVELENGTHS[:, None]
        file["group/inner"] = np.ones(3)
        file["text"] = "words"
        file["units"], file["link"] = np.array([[ord("n")], [ord("m")]], np.uint16), h5py.SoftLink("/cube")
        file["units"].attrs["MATLAB_class"] = np.bytes_("char")


def _tiff_cubes(folder: Path) -> None:
    import tifffile

    _cubes(".tif")(folder)
    pages = np.random.default_rng(0).random((31, 4, 3), np.float32)
    tifffile.imwrite(folder / "deflated.tif", pages, photometric="minisblack", compression="zlib")
    tifffile.imwrite(folder / "tiled.tif", pages, photometric="minisblack", tile=(16, 16))
    channels = {"EmissionWavelength": [400.0 + 10 * band for band in range(31)]}
    for name, metadata in (("ome", {}), ("channels", {"Channel": channels, "SignificantBits": 12})):
        options = {"photometric": "minisblack", "metadata": {"axes": "CYX"} | metadata}
        tifffile.imwrite(folder / f"{name}.ome.tif", (pages * 4095).astype(np.uint16), **options)


# Weights and models


def _state_dict() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {f"module.conv{i}.weight": rng.random((2, 3, 1, 1), np.float32) for i in range(3)}


def _safetensors(folder: Path) -> None:
    from safetensors.numpy import save_file

    save_file(_state_dict(), folder / "net.safetensors", {"format": "pt"})


def _pth(folder: Path) -> None:
    import torch

    tensors = {key: torch.from_numpy(value) for key, value in _state_dict().items()}
    half = {"half": torch.ones(4, dtype=torch.bfloat16), "view": torch.arange(12.0).reshape(3, 4).T}
    torch.save(tensors, folder / "plain.pth")
    torch.save({"epoch": 3, "state_dict": tensors | half, "optimizer": {}}, folder / "wrapped.pth")
    torch.save(tensors, folder / "legacy.pth", _use_new_zipfile_serialization=False)


def _read_weights(path: Path) -> None:
    from m3sr_jax.convert.read import read_release

    state_dict = read_release(path)
    assert state_dict
    for key, value in state_dict.items():
        assert isinstance(key, str)
        assert isinstance(value, np.ndarray)
        value.sum()


def _card() -> Any:
    from m3sr_jax.config import ModelConfig
    from m3sr_jax.model_card import ModelCard

    fields = ModelConfig(features=4, num_groups=2, num_bands=5)
    return ModelCard(fields, tuple(WAVELENGTHS), "minmax", "cie1964", {"from": "a test"})


def _write_card(folder: Path) -> None:
    (folder / "model.json").write_text(_card().to_json())


def _read_card(path: Path) -> None:
    from m3sr_jax.model_card import read_card

    card = read_card(path.parent)
    assert len(card.wavelengths) == card.model.num_bands
    assert np.isfinite(card.wavelengths).all()
    assert isinstance(card.camera, str)
    assert isinstance(card.provenance, dict)


@functools.cache
def _network() -> tuple[Any, Any]:
    from flax import linen

    from m3sr_jax.models import parameter_shapes

    model = linen.Dense(4)  # a real network has many more arrays and takes longer
    return model, parameter_shapes(model)


def _write_checkpoint(folder: Path) -> None:
    import jax

    from m3sr_jax.checkpoint import save_model

    rng = np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: rng.random(leaf.shape, np.float32), _network()[1])
    save_model(folder, _card(), params, overwrite=True)


def _read_checkpoint(path: Path) -> None:
    import jax

    from m3sr_jax import checkpoint, models

    model, expected = _network()
    # Tracing the model for every case would take most of the time.
    with mock.patch.object(models, "parameter_shapes", return_value=expected):
        params = checkpoint.load_params(path.parent, model)
    jax.tree.map(
        lambda leaf, wanted: np.testing.assert_equal((leaf.shape, leaf.dtype), (wanted.shape, wanted.dtype)),
        params,
        expected,
    )


# Text


def _config(folder: Path) -> None:
    from m3sr_jax.config import Config, ModelConfig

    (folder / "config.json").write_text(Config().to_json())
    (folder / "other.json").write_text(Config(model=ModelConfig(name="hrnet"), seed=3).to_json())


def _read_config(path: Path) -> None:
    from m3sr_jax.config import Config, load_config

    config = load_config(path)
    assert Config.from_json(config.to_json()) == config


def _cameras(folder: Path) -> None:
    import scipy.io

    response = np.random.default_rng(0).uniform(0.1, 1, (6, 3))
    bands = np.linspace(400, 700, 6)
    rows = "\n".join(",".join(f"{value:.4g}" for value in row) for row in np.column_stack([bands, response]))
    (folder / "camera.csv").write_text(f"# measured\nnm,R,G,B\n{rows}\n")
    (folder / "camera.txt").write_text("um\tB\tG1\tG2\tR\n" + _more_rows(response, bands))
    (folder / "rows.csv").write_text(
        "\n".join(
            ";".join([name, *(f"{value:.4g}".replace(".", ",") for value in column)])
            for name, column in zip(("nm", *"RGB"), (bands, *response.T), strict=True)
        )
    )
    np.savez(folder / "camera.npz", filters=response, bands=bands)
    scipy.io.savemat(folder / "camera.mat", {"filters": response, "bands": bands})


def _more_rows(response: np.ndarray, bands: np.ndarray) -> str:
    table = np.column_stack([bands / 1000, response, response[:, :1]])[::-1]
    return "\n".join("\t".join(f"{value:.4g}" for value in row) for row in table) + "\n0.8\t\t\t\t\n"


def _wavelengths(folder: Path) -> None:
    (folder / "nm.txt").write_text("# mine\nnm\n" + "\n".join(f"{nm:g}" for nm in WAVELENGTHS))
    (folder / "nm.csv").write_text("wavelength,fwhm\n" + "\n".join(f"{nm / 1000:g},5" for nm in WAVELENGTHS))


def _read_wavelengths(path: Path) -> None:
    from m3sr_jax.io.wavelengths import check_wavelengths, parse_wavelengths

    centres, _ = parse_wavelengths(str(path))
    check_wavelengths(np.sort(centres), path)


def _read_camera(path: Path) -> None:
    from m3sr_jax.data.camera import load_camera

    load_camera.cache_clear()
    matrix = load_camera(str(path)).matrix(np.linspace(400, 700, 31))
    assert matrix.shape == (31, 3)
    assert np.isfinite(matrix).all()


def _split(folder: Path) -> None:
    (folder / "split.txt").write_text("# mine\n[train]\nbeads\ncd_ms\nARAD_1K_0001.mat\n[valid]\nclay # good\nface\n")
    (folder / "train.txt").write_text("beads\ncd\n")


def _read_split(path: Path) -> None:
    from m3sr_jax.data.splits import read_split

    split = read_split(path, {"train": ["beads"], "valid": ["clay", "cd", "face"]})
    assert all(split[part] for part in ("train", "valid"))
    assert not set(split["train"]) & set(split["valid"])


# Data sets


def _store(folder: Path) -> None:
    from m3sr_jax.data.scenes import CodedScene, Dataset, SceneSource
    from m3sr_jax.data.store import prepare

    def read(index: int) -> CodedScene:
        rgb = np.random.default_rng(index).integers(0, 256, (3, 4, 3)).astype(np.uint8)
        return CodedScene(f"scene{index}", rgb, (CUBE * 60000).astype(np.uint16))

    def source(part: str) -> SceneSource:
        return SceneSource(
            *(["scene0"], [(3, 4)], read), wavelengths=WAVELENGTHS, camera_name="cie1964", fingerprint=part
        )

    valid = source("valid")
    valid.names, valid.read = ("scene1",), lambda index: read(1)
    prepare(Dataset("cave", source("train"), valid), folder)


def _read_store(path: Path) -> None:
    from m3sr_jax.data.store import open_store

    dataset = open_store(path.parent, "cave")
    for source in (dataset.train, dataset.valid):
        for index in range(len(source)):
            source.read.verify(index)  # type: ignore[attr-defined]
            scene = source[index]
            assert scene.rgb.dtype == scene.cube.dtype == np.float32
            assert scene.rgb.shape == (*source.size(index), 3)
            assert scene.cube.shape == (*source.size(index), len(scene.wavelengths))
            assert np.isfinite(scene.rgb).all()
            assert np.isfinite(scene.cube).all()


def _bands(folder: Path) -> None:
    from PIL import Image

    codes = np.random.default_rng(0).integers(0, 65536, (7, 5)).astype(np.uint16)
    Image.fromarray(codes).save(folder / "grey.png")
    Image.fromarray((codes // 256).astype(np.uint8)).convert("RGBA").save(folder / "colour.png")


def _read_bands(path: Path) -> None:
    from m3sr_jax.data.cave import read_bands

    cube = read_bands([path, path])
    assert cube.dtype == np.uint16
    assert cube.ndim == 3


def _damage_by_kind(random: Random, content: bytes) -> bytes:
    if content[:2] == b"PK":
        return damage_zip(random, content)
    if content[:4] == b"\x89PNG":
        return damage_png(random, content)
    return (damage_json if content[:1] == b"{" else damage_bytes)(random, content)


SUBJECTS: Mapping[str, Subject] = {
    "jpeg": Subject(_photos(".jpg", ("RGB", "L", "CMYK"), quality=90), _read_photo),
    "png8": Subject(_photos(".png", ("RGB", "RGBA", "P", "LA", "1")), _read_photo, damage_png),
    "png16": Subject(_wide_pngs, _read_photo, damage_png),
    "tiff": Subject(_tiff_photos, _read_photo),
    "bmp": Subject(_photos(".bmp", ("RGB", "L", "P", "1")), _read_photo),
    "profile": Subject(_profiled, _read_photo, _damage_by_kind),
    "webp": Subject(_modern(".webp"), _read_photo),
    "avif": Subject(_modern(".avif"), _read_photo),
    "heic": Subject(_heic, _read_photo),
    "jpeg2000": Subject(_jpeg2000, _read_photo),
    "raw": Subject(_dng, _read_photo),
    "mat5": Subject(_matlab5, _read_cube),
    "mat73": Subject(_hdf5, _read_cube),
    "mat_struct": Subject(_structs, _read_cube),
    "hdf5_group": Subject(_hdf5_groups, _read_cube),
    "envi": Subject(_envi_headers, _read_cube),
    "sidecar": Subject(_sidecar, _read_cube, damage_bytes, "codes.hdr"),
    "npy": Subject(_numpy, _read_cube),
    "geotiff": Subject(_geotiffs, _read_cube),
    "wavelengths": Subject(_wavelengths, _read_wavelengths),
    "npz": Subject(_cubes(".npz"), _read_cube, damage_zip),
    "tif_cube": Subject(_tiff_cubes, _read_cube),
    "safetensors": Subject(_safetensors, _read_weights),
    "pth": Subject(_pth, _read_weights, _damage_by_kind),
    "camera": Subject(_cameras, _read_camera, _damage_by_kind),
    "split": Subject(_split, _read_split),
    "config": Subject(_config, _read_config, damage_json),
    "model_json": Subject(_write_card, _read_card, damage_json, "model.json"),
    "checkpoint": Subject(_write_checkpoint, _read_checkpoint, _damage_by_kind, "model.json"),
    "store": Subject(_store, _read_store, _damage_by_kind, "manifest.json"),
    "cave_band": Subject(_bands, _read_bands, damage_png),
}

"""The CAVE multispectral images as downloaded: 32 scenes of 512×512, 31 bands of 400-700 nm.

`<scene>_ms/<scene>_ms_01.png` … `_31.png`, often in a second folder of the same name; 16-bit grey, except for 8-bit
RGBA in `watercolors_ms`. CAVE has no official split and no official camera: this module lists its split in full, and
the configured camera renders the photos.

Source: F. Yasuma, T. Mitsunaga, D. Iso and S. Nayar, "Generalized Assorted Pixel Camera", Columbia University 2008.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt16

from m3sr_jax.data.camera import DEFAULT_CAMERA, Camera, Shot, camera_identity, load_camera, quantise
from m3sr_jax.data.scenes import (
    CACHE_BYTES,
    CodedScene,
    Dataset,
    SceneSource,
    decode,
    files_key,
    fingerprint,
    report_faults,
)
from m3sr_jax.data.splits import PARTS, find_files, present_scenes, read_split
from m3sr_jax.errors import InputError
from m3sr_jax.io.files import reading
from m3sr_jax.io.photos import image_size
from m3sr_jax.io.photos.pillow import open_image
from m3sr_jax.io.wavelengths import BANDS

SPLIT: Mapping[str, tuple[str, ...]] = {
    "train": (
        *("beads", "cd", "chart_and_stuffed_toy", "cloth", "face", "fake_and_real_food", "fake_and_real_lemon_slices"),
        *("fake_and_real_strawberries", "fake_and_real_sushi", "feathers", "flowers", "glass_tiles", "jelly_beans"),
        *("oil_painting", "paints", "photo_and_face", "pompoms", "sponges", "superballs", "watercolors"),
    ),
    "valid": (
        *("balloons", "clay", "egyptian_statue", "fake_and_real_beers", "fake_and_real_lemons"),
        *("fake_and_real_peppers", "fake_and_real_tomatoes", "hairs", "real_and_fake_apples"),
        *("real_and_fake_peppers", "stuffed_toys", "thread_spools"),
    ),
}


def open_cave(
    root: str | os.PathLike[str],
    *,
    split_file: str | os.PathLike[str] = "",
    camera: str = DEFAULT_CAMERA,
    cache_bytes: int = CACHE_BYTES,
    faults: list[str] | None = None,
    required: Sequence[str] = PARTS,
) -> Dataset:
    """Opens CAVE scenes; pixels are read on first use.

    Args:
        root: folder that holds the `<scene>_ms` folders, up to four levels deep.
        split_file: see `m3sr_jax.data.splits.read_split`; "": the scenes of `SPLIT` (20 and 12) that are on disk.
        camera: renders the photos, see `m3sr_jax.data.camera.load_camera`.
        cache_bytes: memory for each of the two parts; a scene takes 17 MB, all of CAVE 0.55 GB.
        faults: as for `m3sr_jax.data.open.open_dataset`, like `required`.
        required: see `faults`.

    Returns:
        training and validation scenes: cube = code / 65535, rgb = round(255 · camera.render(cube)) / 255.

    Raises:
        InputError: the folder or a part is missing, a band is unreadable, or the split file or camera is unusable.
    """
    found: dict[str, dict[int, Path]] = {}
    for match, path in find_files(root, r"(.+)_ms_(\d\d)\.png"):
        found.setdefault(match[1], {})[int(match[2])] = path
    numbers = range(1, len(BANDS) + 1)
    lacking = {
        name: [f"{name}_ms_{number:02d}.png" for number in numbers if number not in bands]
        for name, bands in found.items()
    }
    split = read_split(split_file, SPLIT, required=required) if split_file else SPLIT
    parts, missing = present_scenes(Path(root), split, lacking, strict=bool(split_file), required=required)
    opened = []
    for part in PARTS:
        files = {name: tuple(found[name][number] for number in numbers) for name in parts[part]}
        opened.append(_open_part(files, camera, cache_bytes, faults))
    return Dataset("cave", train=opened[0], valid=opened[1], missing=missing)


def _open_part(
    scenes: Mapping[str, tuple[Path, ...]], camera: str, cache_bytes: int, faults: list[str] | None
) -> SceneSource:
    sizes: dict[str, tuple[int, int]] = {}
    errors: list[InputError] = []
    for name, files in scenes.items():
        try:
            sizes[name] = image_size(files[0])
        except InputError as error:
            errors.append(error)
    report_faults(errors, faults)
    identity = camera_identity(camera)
    keys = [files_key(identity, scenes[name]) for name in sizes]
    response = load_camera(camera)
    return SceneSource(
        list(sizes),
        list(sizes.values()),
        CaveReader(tuple(sizes), tuple(scenes[name] for name in sizes), response),
        wavelengths=BANDS,
        camera_name=response.name,
        fingerprint=f"cave-{fingerprint(keys)}",
        take=Shot(response.matrix(BANDS)),
        scene_keys=[fingerprint([files_key(identity, scenes[name], times=True)]) for name in sizes],
        cache_bytes=cache_bytes,
    )


@dataclass(frozen=True)
class CaveReader:
    """Scene index → the scene's cube and the photo that a camera takes of it."""

    names: tuple[str, ...]
    files: tuple[tuple[Path, ...], ...]
    camera: Camera

    def __call__(self, index: int) -> CodedScene:
        cube = read_bands(self.files[index])
        return CodedScene(self.names[index], quantise(self.camera.render(decode(cube), BANDS)), cube)


def read_bands(files: Sequence[Path]) -> UInt16[np.ndarray, "H W S"]:
    """Reads one image per band into a cube of 16-bit codes.

    8-bit codes are scaled by 257 = 65535 / 255; of a colour image only the first channel is used.

    Raises:
        InputError: a file is not an 8- or 16-bit image, or its size differs from that of the first.
    """
    bands = [_read_band(file) for file in files]
    for file, band in zip(files, bands, strict=True):
        if band.shape != bands[0].shape:
            (found, expected), first = (
                (f"{shape[0]}×{shape[1]}" for shape in (band.shape, bands[0].shape)),
                files[0].name,
            )
            raise InputError(f"{file}: found {found} pixels; expected {expected} as in {first}")
    return np.stack(bands, axis=-1)


def _read_band(file: Path) -> UInt16[np.ndarray, "H W"]:
    with reading(file, "an image"), open_image(file) as image:
        codes = np.asarray(image)
    codes = codes if codes.ndim == 2 else codes[..., 0]
    if codes.dtype == np.uint16:
        return codes
    if codes.dtype == np.uint8:
        return codes * np.uint16(257)
    raise InputError(f"{file}: found pixels of type {codes.dtype}; expected an 8- or 16-bit image")

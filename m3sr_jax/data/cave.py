"""The CAVE multispectral images as downloaded: 32 scenes of 512×512, 31 bands of 400-700 nm.

`<scene>_ms/<scene>_ms_01.png` … `_31.png`, often in a second folder of the same name. 16-bit grey, except that the
bands of `watercolors_ms` are 8-bit RGBA. CAVE has no official split and no official camera: the split here is listed in
full, and the photo is rendered from the cube by the camera of the configuration.

Source: F. Yasuma, T. Mitsunaga, D. Iso and S. Nayar, "Generalized Assorted Pixel Camera", Columbia University 2008.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import UInt16

from m3sr_jax.data.camera import Camera, camera_identity, load_camera, quantise
from m3sr_jax.data.scenes import DEFAULT_CACHE_BYTES, CodedScene, CodedScenes, Dataset, decode
from m3sr_jax.data.spectra import BANDS
from m3sr_jax.errors import InputError
from m3sr_jax.io.files import reading

SPLIT: Mapping[str, tuple[str, ...]] = {
    "train": (
        *("beads", "cd", "chart_and_stuffed_toy", "cloth", "face", "fake_and_real_food", "fake_and_real_lemon_slices"),
        *("fake_and_real_strawberries", "fake_and_real_sushi", "feathers", "flowers", "glass_tiles", "jelly_beans"),
        *("oil_painting", "paints", "photo_and_face", "pompoms", "sponges", "superballs", "watercolors"),
    ),
    "valid": (
        *(
            "balloons",
            "clay",
            "egyptian_statue",
            "fake_and_real_beers",
            "fake_and_real_lemons",
            "fake_and_real_peppers",
        ),
        *("fake_and_real_tomatoes", "hairs", "real_and_fake_apples", "real_and_fake_peppers", "stuffed_toys"),
        "thread_spools",
    ),
}


def open_cave(
    root: str | os.PathLike[str],
    *,
    split_file: str | os.PathLike[str] = "",
    camera: str = "cie1964",
    cache_bytes: int = DEFAULT_CACHE_BYTES,
) -> Dataset:
    """Opens CAVE scenes; their pixels are read when first asked for.

    Args:
        root: folder that holds the `<scene>_ms` folders.
        split_file: names the scenes to train on and those to hold out, see `read_split`; "": `SPLIT`, 20 and 12.
        camera: which renders the photos, see `m3sr_jax.data.camera.load_camera`.
        cache_bytes: memory for each of the two parts; a scene takes 17 MB, all of CAVE 0.55 GB.

    Returns:
        training and validation scenes: cube = code / 65535, rgb = round(255 · camera.render(cube)) / 255.

    Raises:
        InputError: a missing folder, scene or band, by name; an unusable split file or camera.
    """
    folder = Path(root)
    if not root or not folder.is_dir():
        raise InputError(f'data.root "{root}": no such folder; set it to the one that holds CAVE\'s <scene>_ms folders')
    split = read_split(split_file) if split_file else SPLIT
    folders = _scene_folders(folder, [*split["train"], *split["valid"]])
    parts = (_open_part([folders[name] for name in split[part]], camera, cache_bytes) for part in ("train", "valid"))
    return Dataset("cave", *parts)


def read_split(path: str | os.PathLike[str]) -> dict[str, tuple[str, ...]]:
    """Reads which scenes are for training and which are held out.

    The file has a line `[train]`, under it one scene a line, and the same for `[valid]`. A scene may carry its `_ms` or
    not; empty lines and what follows `#` do not count.

    Raises:
        InputError: an unreadable file, a scene named twice, a line outside the two parts, or an empty part.
    """
    split: dict[str, list[str]] = {"train": [], "valid": []}
    part = None
    with reading(Path(path), "a split file"):
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    for number, line in enumerate(lines, 1):
        name = line.partition("#")[0].strip().removesuffix("_ms")
        if not name:
            continue
        if name in ("[train]", "[valid]"):
            part = name[1:-1]
        elif part is None or name.startswith("["):
            raise InputError(f'split file {path}, line {number}: found "{name}", expected [train] or [valid]')
        elif name in split["train"] + split["valid"]:
            raise InputError(f"split file {path}, line {number}: scene {name} is named a second time")
        else:
            split[part].append(name)
    if not split["train"] or not split["valid"]:
        raise InputError(f"split file {path}: expected scenes under both [train] and [valid]")
    return {part: tuple(names) for part, names in split.items()}


def _scene_folders(root: Path, names: Sequence[str]) -> dict[str, Path]:
    """Folder with the PNG files of each scene, nested or not."""
    found = sorted(entry.name.removesuffix("_ms") for entry in root.iterdir() if entry.name.endswith("_ms"))
    missing = [name for name in names if name not in found]
    if missing:
        raise InputError(
            f"{root}: {len(missing)} of {len(names)} CAVE scenes of the split are missing: {', '.join(missing)}; "
            f"found: {', '.join(found) or 'none'}. Add them, or list the scenes to use in data.split_file"
        )
    folders = {name: root / f"{name}_ms" for name in names}
    nested = {name: folder / folder.name for name, folder in folders.items()}
    return {name: nested[name] if nested[name].is_dir() else folder for name, folder in folders.items()}


def _open_part(folders: Sequence[Path], camera: str, cache_bytes: int) -> CodedScenes:
    sizes, facts = [], [camera_identity(camera)]
    for folder in folders:
        files = _band_files(folder)
        sizes.append(_image_size(files[0]))
        # The compressed size of each band stands for its content: hashing all of CAVE would take seconds at each start.
        facts += [f"{file.name} {file.stat().st_size}" for file in files]
    response = load_camera(camera)
    return CodedScenes(
        [folder.name.removesuffix("_ms") for folder in folders],
        sizes,
        CaveReader(tuple(folders), response),
        wavelengths=BANDS,
        camera_name=response.name,
        fingerprint="cave-" + hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16],
        cache_bytes=cache_bytes,
    )


def _band_files(folder: Path) -> list[Path]:
    files = [folder / f"{folder.name}_{band:02d}.png" for band in range(1, len(BANDS) + 1)]
    missing = [file.name for file in files if not file.is_file()]
    if missing:
        raise InputError(f"{folder}: {len(missing)} of {len(BANDS)} bands are missing, {missing[0]} the first")
    return files


@dataclass(frozen=True)
class CaveReader:
    """Scene index → the scene's cube and the photo a camera takes of it."""

    folders: tuple[Path, ...]
    camera: Camera

    def __call__(self, index: int) -> CodedScene:
        folder = self.folders[index]
        cube = read_bands(_band_files(folder))
        rgb = quantise(self.camera.render(decode(cube), BANDS))
        return CodedScene(folder.name.removesuffix("_ms"), rgb, cube)


def read_bands(files: Sequence[Path]) -> UInt16[np.ndarray, "H W S"]:
    """One image a band to a cube of 16-bit codes.

    8-bit codes are scaled by 257 = 65535 / 255; of a colour image the first channel counts.

    Raises:
        InputError: a file that is no 8- or 16-bit image, or of another size than the first, by name.
    """
    bands = [_read_band(file) for file in files]
    for file, band in zip(files, bands, strict=True):
        if band.shape != bands[0].shape:
            raise InputError(f"{file}: found {band.shape} pixels, expected {bands[0].shape} as in {files[0].name}")
    return np.stack(bands, axis=-1)


def _image_size(file: Path) -> tuple[int, int]:
    from PIL import Image

    with reading(file, "an image"), Image.open(file) as image:
        return image.height, image.width


def _read_band(file: Path) -> UInt16[np.ndarray, "H W"]:
    from PIL import Image

    with reading(file, "an image"), Image.open(file) as image:
        codes = np.asarray(image)
    codes = codes if codes.ndim == 2 else codes[..., 0]
    if codes.dtype == np.uint16:
        return codes
    if codes.dtype == np.uint8:
        return codes * np.uint16(257)
    raise InputError(f"{file}: found pixels of type {codes.dtype}, expected an 8- or 16-bit image")

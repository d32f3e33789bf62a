"""Which photos become which files, and which of them are done."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from m3sr_jax.errors import InputError
from m3sr_jax.io.cubes import SUFFIXES
from m3sr_jax.io.files import write_text
from m3sr_jax.io.images import IMAGE_SUFFIXES

SETTINGS_FILE = "predict.json"


@dataclasses.dataclass(frozen=True)
class Job:
    """A photo and the file of its cube."""

    image: Path
    cube: Path

    @property
    def done(self) -> bool:
        """Whether the cube is there and no older than the photo; cubes appear whole or not at all."""
        image, cube = self.image, self.cube
        return cube.is_file() and (not image.is_file() or cube.stat().st_mtime >= image.stat().st_mtime)


def is_one_file(output: Path) -> bool:
    """Whether an output's name is that of a cube and not of a folder."""
    return output.suffix.lower() in (*SUFFIXES, ".img") and not output.is_dir()


def plan_jobs(images: Iterable[Path], output: Path, suffix: str) -> list[Job]:
    """Pairs photos with files.

    Args:
        images: photos, and folders, which stand for the photos directly in them.
        output: a file with a cube's suffix, for one photo; or a folder, made if need be, for NAME.suffix.
        suffix: "mat", "hdr", … without a dot.

    Raises:
        InputError: no photos, several for one file, or a name that is neither.
    """
    photos = [photo for given in images for photo in _photos(given)]
    if not photos:
        raise InputError("no photos given; name files or folders before the options")
    if is_one_file(output):
        if len(photos) != 1:
            raise InputError(f"{output}: one file for {len(photos)} photos; give a folder")
        return _checked([Job(photos[0], output.with_suffix(".hdr") if output.suffix.lower() == ".img" else output)])
    if output.is_file() or (output.suffix and not output.exists()):
        raise InputError(f"{output}: expected a name that ends in {', '.join(SUFFIXES)}, or a folder")
    names = Counter(photo.stem for photo in photos)  # a.jpg and a.png become a.jpg.mat and a.png.mat
    stems = (photo.stem if names[photo.stem] == 1 else photo.name for photo in photos)
    return _checked([Job(photo, output / f"{stem}.{suffix}") for photo, stem in zip(photos, stems, strict=True)])


def _checked(jobs: list[Job]) -> list[Job]:
    """No two photos become one file, and no cube takes the place of a photo or comes to lie among TIFF photos."""
    cubes = Counter(job.cube for job in jobs)
    if repeated := [cube for cube, count in cubes.items() if count > 1]:
        raise InputError(f"{repeated[0]}: several photos would become this file; give them one folder each")
    folders = {job.image.resolve().parent for job in jobs}
    photos = {job.image.resolve() for job in jobs}
    for cube in cubes:
        tiff_among_photos = cube.suffix.lower() in (".tif", ".tiff") and cube.resolve().parent in folders
        if cube.resolve() in photos or (tiff_among_photos and len(jobs) > 1):
            raise InputError(f"{cube}: would take the place of a photo, or be taken for one; give another folder")
    return jobs


def _photos(given: Path) -> list[Path]:
    if not given.is_dir():
        return [given]
    found = sorted(path for path in given.iterdir() if path.suffix.lower() in IMAGE_SUFFIXES and path.is_file())
    if not found:
        raise InputError(f"{given}: no photos in it; expected files that end in {', '.join(IMAGE_SUFFIXES)}")
    return found


def check_settings(folder: Path, jobs: Iterable[Job], settings: Mapping[str, Any], overwrite: bool) -> None:
    """Makes the folder and notes in it how its cubes are made, so that no other kind is mixed in.

    Args:
        folder: the output.
        jobs: what will be in it.
        settings: model and options, as JSON can hold them.
        overwrite: cubes are replaced, so earlier settings do not matter.

    Raises:
        InputError: it cannot be made, or holds such cubes made otherwise.
    """
    record = folder / SETTINGS_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        earlier = json.loads(record.read_text()) if record.is_file() else {}
        changed = [name for name, value in settings.items() if earlier.get(name) != value]
        if changed and not overwrite and any(job.cube.exists() for job in jobs):
            told = ", ".join(f"{name} {earlier.get(name, 'unknown')}, now {settings[name]}" for name in changed)
            raise InputError(f"{folder}: holds cubes made with {told}; give another folder or --overwrite")
        write_text(record, json.dumps(settings, indent=2) + "\n")
    except (OSError, ValueError) as error:
        raise InputError(f"{folder}: cannot be used ({error}); give another folder") from error

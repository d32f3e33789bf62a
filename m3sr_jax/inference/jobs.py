"""The jobs of `m3sr predict`: which photo becomes which file, and which cubes already exist."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from m3sr_jax.errors import InputError, shortened
from m3sr_jax.io.cube_intervals import interval_files
from m3sr_jax.io.cube_writer import SUFFIXES
from m3sr_jax.io.files import reading, write_text
from m3sr_jax.io.photos.kinds import PHOTO_SUFFIXES, picture_format

SETTINGS_FILE = "predict.json"


@dataclasses.dataclass(frozen=True)
class Job:
    """A photo and the file of its cube."""

    image: Path
    cube: Path

    @property
    def cube_files(self) -> list[Path]:
        """The file of the cube; ENVI has two."""
        return [self.cube, self.cube.with_suffix(".img")] if self.cube.suffix.lower() == ".hdr" else [self.cube]

    @property
    def photo_version(self) -> tuple[int, int] | None:
        """Time and size of the photo, which change with it; None if it does not exist."""
        if not self.image.is_file():
            return None
        found = self.image.stat()
        return found.st_mtime_ns, found.st_size

    @property
    def page(self) -> Path:
        """The file of the cube's web page."""
        return self.cube.with_suffix(".html")

    @property
    def has_cube(self) -> bool:
        """Whether the cube exists; one that exists is complete."""
        return all(file.is_file() for file in self.cube_files)

    @property
    def done(self) -> bool:
        """Whether the cube exists and is no older than the photo."""
        image, cube = self.image, self.cube
        return self.has_cube and (not image.is_file() or cube.stat().st_mtime >= image.stat().st_mtime)

    @property
    def has_page(self) -> bool:
        """Whether the page exists and is no older than the cube: an older one shows the cube that was replaced."""
        return self.page.is_file() and self.page.stat().st_mtime >= self.cube.stat().st_mtime


def is_cube_file(output: Path) -> bool:
    """Whether an output names a cube, not a folder."""
    return output.suffix.lower() in (*SUFFIXES, ".img") and not output.is_dir()


def plan_jobs(images: Iterable[Path], output: Path, suffix: str) -> list[Job]:
    """Pairs each photo with the file of its cube.

    Args:
        images: photos, and folders, which stand for the photos directly inside them.
        output: a file with a cube's suffix, for one photo; or a folder, which gets a NAME.suffix for each photo.
        suffix: "mat", "hdr", …, without the dot.

    Raises:
        InputError: there are no photos, several for one file, or the output is neither a cube's name nor a folder.
    """
    photos = [photo for image in images for photo in _photos(image)]
    cubes = [photo for photo in photos if photo.suffix.lower() in {*SUFFIXES, ".img"}.difference(PHOTO_SUFFIXES)]
    if cubes:
        raise InputError(f"{cubes[0]}: has the name of a cube, not of a photo; pass --output {cubes[0]} to write it")
    if not photos:
        raise InputError("no photos given; name files or folders before the options")
    if is_cube_file(output):
        if len(photos) != 1:
            raise InputError(f"{output}: one file cannot hold the cubes of {len(photos)} photos; give a folder")
        return _checked([Job(photos[0], output.with_suffix(".hdr") if output.suffix.lower() == ".img" else output)])
    if output.is_file() or (output.suffix and not output.exists()):
        raise InputError(f"{output}: expected a name that ends in {', '.join(SUFFIXES)}, or a folder")
    names = Counter(photo.stem for photo in photos)  # a.jpg and a.png become a.jpg.mat and a.png.mat
    stems = (photo.stem if names[photo.stem] == 1 else photo.name for photo in photos)
    return _checked([Job(photo, output / f"{stem}.{suffix}") for photo, stem in zip(photos, stems, strict=True)])


def _checked(jobs: list[Job]) -> list[Job]:
    """Refuses two photos for one file, a cube in place of a photo, and TIFF cubes in a folder of several photos."""
    cubes = Counter(file for job in jobs for file in (job.cube, *interval_files(job.cube)))
    if repeated := [cube for cube, count in cubes.items() if count > 1]:
        raise InputError(f"{repeated[0]}: several photos would be written to this file; give each an output folder")
    folders = {job.image.resolve().parent for job in jobs}
    photos = {job.image.resolve() for job in jobs}
    for cube in cubes:
        tiff_among_photos = cube.suffix.lower() in (".tif", ".tiff") and cube.resolve().parent in folders
        if cube.resolve() in photos or (tiff_among_photos and len(jobs) > 1):
            raise InputError(f"{cube}: would replace a photo or be mistaken for one; choose another folder")
    return jobs


def passed_over(images: Iterable[Path]) -> str | None:
    """Returns sentences on what `plan_jobs` does not take from folders; None if there is nothing.

    Pictures are of formats that are not read, or their names end in no photo's suffix. Folders inside may hold photos.
    """
    folders = [path for image in images if image.is_dir() for path in sorted(image.iterdir())]
    inside = [str(folder) for folder in folders if _may_hold_photos(folder)]
    told = f"folders inside are not searched, name them: {shortened(inside)}" if inside else None
    found = []
    for path in (path for image in images if image.is_dir() for path in _files(image)):
        kind = None if path.suffix.lower() in PHOTO_SUFFIXES else _picture_format(path)
        if kind is not None:
            found.append(f"{path.name} ({kind})")
    if not found:
        return told
    start = "1 picture was" if len(found) == 1 else f"{len(found)} pictures were"
    pictures = f"{start} passed over; rename or convert to PNG or TIFF: {shortened(found)}"
    return f"{pictures}\n{told}" if told else pictures


def _may_hold_photos(folder: Path) -> bool:
    if folder.name.startswith("."):
        return False
    try:
        return folder.is_dir() and any(path.suffix.lower() in PHOTO_SUFFIXES for path in folder.iterdir())
    except OSError:  # it cannot be read, and nobody has named it
        return False


def _photos(image: Path) -> list[Path]:
    if not image.is_dir():
        return [image]
    found = [path for path in _files(image) if path.suffix.lower() in PHOTO_SUFFIXES]
    if not found:
        others = passed_over([image])
        expected = "expected names such as photo.jpg, .png, .tif, .webp, .heic or .dng"
        raise InputError(f"{image}: contains no photos; {expected}{f'. {others}' if others else ''}")
    return found


def _files(folder: Path) -> list[Path]:
    """Lists a folder's files without hidden ones, among them the "._" twins that macOS writes."""
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _picture_format(path: Path) -> str | None:
    try:
        return picture_format(path)
    except OSError:
        return None


def check_unused(jobs: Iterable[Job], interval: bool, page: bool) -> None:
    """Refuses jobs that would replace a file.

    Args:
        jobs: photos without a cube.
        interval: whether half-widths are written too.
        page: whether web pages are written too.

    Raises:
        InputError: a file of a job exists.
    """
    for job in jobs:
        files = [*job.cube_files, *(interval_files(job.cube) if interval else []), *([job.page] if page else [])]
        for file in files:
            if file.exists():
                raise InputError(f"{file}: already exists; choose another name or pass --overwrite")


def record_settings(folder: Path, jobs: Iterable[Job], settings: Mapping[str, Any], overwrite: bool) -> None:
    """Creates the output folder and records the settings of its cubes, so that it never mixes cubes of two settings.

    Args:
        folder: the output.
        jobs: the cubes that are wanted.
        settings: model and options, in JSON types.
        overwrite: existing cubes of these jobs are replaced.

    Raises:
        InputError: the folder cannot be used, or holds cubes made with other settings.
    """
    record = folder / SETTINGS_FILE
    try:
        folder.mkdir(parents=True, exist_ok=True)
        jobs = list(jobs)
        if not overwrite and any(job.cube.exists() for job in jobs):
            _check_settings(record, settings, "pass --overwrite")
        elif record.exists() and _holds_others(folder, jobs):
            _check_settings(record, settings, "name all its photos with --overwrite")
        write_text(record, json.dumps(settings, indent=2) + "\n")
    except OSError as error:
        raise InputError(f"{folder}: cannot be used as output ({error.strerror}); choose another folder") from error


def _holds_others(folder: Path, jobs: list[Job]) -> bool:
    """Whether a folder has files of cubes besides the photos and cubes of these jobs."""
    own = {file.resolve() for job in jobs for file in (job.image, job.cube, *interval_files(job.cube))}
    return any(file.suffix.lower() in SUFFIXES and file.resolve() not in own for file in _files(folder))


def _check_settings(record: Path, settings: Mapping[str, Any], instead: str) -> None:
    earlier: dict[str, Any] = {}
    if record.exists():
        with reading(record, "the settings of m3sr predict"):
            earlier = dict(json.loads(record.read_text(encoding="utf-8")))
    # Options that are recorded only where they are used are missing in one of the two.
    dropped = [name for name in earlier if name not in settings]
    unrecorded = None if earlier else "unknown"
    changes = [
        f"{name} {_shown(earlier.get(name, unrecorded))}, now {_shown(settings.get(name))}"
        for name in [*settings, *dropped]
        if earlier.get(name) != settings.get(name)
    ]
    if changes:
        made = f"its cubes were made with {', '.join(changes)}"
        raise InputError(f"{record.parent}: {made}; choose another folder or {instead}")


def _shown(setting: Any) -> str:
    return {"None": "default", "True": "on", "False": "off"}.get(str(setting), str(setting))

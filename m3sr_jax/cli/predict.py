"""`m3sr predict`: photos in, hyperspectral cubes out."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from m3sr_jax.cli.processes import Processes
from m3sr_jax.cli.progress import advance
from m3sr_jax.errors import InputError
from m3sr_jax.inference.jobs import Job, check_settings, is_one_file, plan_jobs

if TYPE_CHECKING:
    from m3sr_jax.inference.predictor import Predictor


@dataclasses.dataclass(frozen=True)
class Predict(Processes):
    """Reconstruct the cubes of photos.

    Photos are JPEG, PNG, TIFF or BMP of 8 or 16 bits. They are turned upright as their EXIF data say; grey becomes
    three equal channels, a palette its colours, and alpha is dropped. RGB is normalised as model.json says.

    Attributes:
        images: photos, or folders of them.
        checkpoint: a training workdir, or what m3sr convert wrote.
        output: a file for a single photo, .mat (v7.3), .hdr (ENVI), .npz, .tif (a page a band) or .h5; or a folder,
            where a photo that has its cube is passed over, so that the same command goes on where it stopped.
        format: of the cubes in an output folder.
        dtype: float32; or uint16, clipped to [0, 1], value = code / 65535, half the size.
        tile: 0 takes every photo whole, at about 12 KB of memory a pixel; a multiple of 8 is the size of tiles. By
            default photos of up to 512x512 pixels are taken whole and larger ones in tiles of 448. Tiles are an
            approximation, because norms and scans see a tile and not the photo: where it was measured, cubes made of
            tiles differ from those of whole photos by 0.05 % (root mean square over that of the cube).
        overlap: least overlap of tiles in pixels, a multiple of 8; twice the default changes the difference by little.
        ensemble: average over the 8 flips and rotations; takes 8 times as long.
        which: of a training run, the checkpoint with the best validation PSNR or the latest.
        overwrite: replace cubes that are there.
    """

    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE...")]
    checkpoint: Path
    output: Path
    format: Literal["mat", "hdr", "npz", "tif", "h5"] = "mat"
    dtype: Literal["float32", "uint16"] = "float32"
    tile: int | None = None
    overlap: int = 32
    ensemble: bool = False
    which: Literal["best", "latest"] = "best"
    overwrite: bool = False

    def run(self) -> None:
        """Predicts all photos that have no cube yet; those that cannot be used are told at the end.

        Raises:
            InputError: the arguments, the checkpoint or the output cannot be used, or a photo could not.
        """
        from m3sr_jax.inference.predictor import check_tiles, load
        from m3sr_jax.processes import on_writer, own_share, together

        check_tiles(self.tile, self.overlap)
        self.join()
        jobs = plan_jobs(self.images, self.output, self.format)
        predictor = load(self.checkpoint, self.which)
        todo = on_writer(lambda: self._todo(jobs, predictor))
        mine = [todo[i] for i in own_share(len(todo))]
        parts = together(lambda: _Batch(self, predictor).run(mine))
        on_writer(lambda: self._report({image: told for part in parts for image, told in part.items()}, len(todo)))

    def _todo(self, jobs: list[Job], predictor: Predictor) -> list[Job]:
        """Checks the output and returns the photos that have no cube in it yet."""
        if not is_one_file(self.output):
            settings = {name: getattr(self, name) for name in ("dtype", "tile", "overlap", "ensemble")}
            check_settings(self.output, jobs, {"model": predictor.fingerprint()} | settings, self.overwrite)
        elif jobs[0].cube.exists() and not self.overwrite:
            raise InputError(f"{self.output}: is there already; give another name or --overwrite")
        todo = [job for job in jobs if self.overwrite or not job.done]
        if len(todo) < len(jobs):
            print(f"{len(jobs) - len(todo)} of {len(jobs)} cubes are there already")
        return todo

    def _report(self, failures: dict[Path, str], count: int) -> None:
        if len(failures) == 1 and count == 1:
            raise InputError(next(iter(failures.values())))
        if failures:
            told = "; ".join([*failures.values()][:8]) + ("; …" if len(failures) > 8 else "")
            raise InputError(f"{len(failures)} of {count} photos could not be used, the others are done: {told}")


@dataclasses.dataclass(frozen=True)
class _Batch:
    """One run over photos, with its progress on the terminal."""

    options: Predict
    predictor: Predictor

    def run(self, todo: list[Job]) -> dict[Path, str]:
        """Returns what was wrong with each photo that could not be used."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        failures: dict[Path, str] = {}
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        progress = Progress(*columns, TimeElapsedColumn(), transient=True, disable=not sys.stdout.isatty())
        with progress:
            photos = progress.add_task("photos", total=len(todo), visible=len(todo) > 1)
            for job in todo:
                tiles = progress.add_task(job.image.name, total=None)
                try:
                    line = self._one(job, partial(advance, progress, tiles))
                    progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
                except UnusablePhotoError as error:
                    failures[job.image] = str(error)
                progress.remove_task(tiles)
                progress.advance(photos)
        return failures

    def _one(self, job: Job, tick: Callable[[int, int], None]) -> str:
        """Predicts one photo, straight into its file; returns a line that tells of it."""
        from m3sr_jax.io import read_rgb
        from m3sr_jax.io.cubes import cube_writer

        start, options = time.perf_counter(), self.options
        with _telling(job.image):
            rgb = read_rgb(job.image)
            rows = self.predictor.predict_rows(
                rgb, tile=options.tile, overlap=options.overlap, ensemble=options.ensemble, tick=tick
            )
        wavelengths, clipped = self.predictor.wavelengths, 0
        shape = (*rgb.shape[:2], len(wavelengths))
        del rgb  # `rows` has what it needs, and a large photo is large
        with cube_writer(job.cube, shape, wavelengths, options.dtype) as append:
            while True:
                with _telling(job.image):
                    part = next(rows, None)
                if part is None:
                    break
                append(part)
                clipped += int(((part < 0) | (part > 1)).sum()) if options.dtype == "uint16" else 0
        told = f", {clipped / math.prod(shape):.2%} of the values clipped" if clipped else ""
        seconds = time.perf_counter() - start
        return f"{job.image} → {job.cube}: {shape[0]}×{shape[1]} pixels in {seconds:.1f} s{told}"


class UnusablePhotoError(InputError):
    """A photo that cannot be read or predicted, which need not stop the others; one that cannot be written does."""


@contextmanager
def _telling(image: Path) -> Iterator[None]:
    """Names the photo in whatever is wrong with it."""
    try:
        yield
    except InputError as error:
        message = str(error)
        raise UnusablePhotoError(message if str(image) in message else f"{image}: {message}") from error

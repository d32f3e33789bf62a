"""`m3sr predict`: reconstructs hyperspectral cubes from photos."""

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

from m3sr_jax.checkpoint import Which
from m3sr_jax.cli.processes import Processes
from m3sr_jax.cli.progress import advance
from m3sr_jax.errors import InputError
from m3sr_jax.inference.jobs import Job, is_cube_file, passed_over, plan_jobs, record_settings
from m3sr_jax.networks import network_of

if TYPE_CHECKING:
    from m3sr_jax.inference.predictor import Predictor


@dataclasses.dataclass(frozen=True)
class Predict(Processes):
    """Reconstruct cubes from photos.

    Photos are JPEG, PNG, TIFF, BMP, WebP, AVIF, HEIC, JPEG 2000 or raw files. Orientation and colour profiles are
    applied; docs/data.md lists what else. RGB is normalised as model.json says.

    Attributes:
        images: photos, or folders of photos.
        checkpoint: a training workdir, or a folder that m3sr convert wrote.
        output: for a single photo a file: .mat (v7.3), .hdr (ENVI), .npz, .tif (one page per band) or .h5. Otherwise a
            folder; photos whose cubes already exist are skipped, so run the same command again to resume.
        format: format of the cubes in an output folder.
        dtype: float32; or uint16, clipped to [0, 1], value = code / 65535, half the size.
        tile: tile size in pixels, a multiple of 8; 0 predicts every photo whole, which takes about 12 KB of memory per
            pixel. By default photos of up to 512x512 pixels are predicted whole and larger ones in tiles of 448. Tiling
            is an approximation, because norms and scans see only a tile: measured with M3SR,
            cubes differed by 0.05 % (root mean square, relative to that of the cube).
        overlap: minimum overlap of tiles in pixels, a multiple of 8; doubling it changes the difference little.
        ensemble: average over the 8 flips and rotations, which takes 8 times as long.
        which: of a training workdir, the checkpoint with the best PSNR or the latest.
        overwrite: replace existing cubes.
    """

    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE...")]
    checkpoint: Path
    output: Path
    format: Literal["mat", "hdr", "npz", "tif", "h5"] = "mat"
    dtype: Literal["float32", "uint16"] = "float32"
    tile: int | None = None
    overlap: int = 32
    ensemble: bool = False
    which: Which = "best"
    overwrite: bool = False

    def run(self) -> None:
        """Predicts all photos that have no cube yet; failures are listed at the end.

        Raises:
            InputError: the arguments, the checkpoint, the output or a photo cannot be used.
        """
        from m3sr_jax.inference.predictor import check_tiles, load
        from m3sr_jax.processes import gather, local_indices, on_writer

        check_tiles(self.tile, self.overlap)
        self.join()
        jobs = plan_jobs(self.images, self.output, self.format)
        predictor = load(self.checkpoint, self.which)
        todo = on_writer(lambda: self._todo(jobs, predictor))
        local_jobs = [todo[i] for i in local_indices(len(todo))]
        failures = gather(lambda: _Batch(self, predictor).run(local_jobs))
        on_writer(lambda: self._check_failures([message for part in failures for message in part], len(todo)))

    def _todo(self, jobs: list[Job], predictor: Predictor) -> list[Job]:
        """Checks the output and returns the photos that have no cube there yet."""
        if not is_cube_file(self.output):
            settings = {name: getattr(self, name) for name in ("dtype", "tile", "overlap", "ensemble")}
            record_settings(self.output, jobs, {"model": predictor.fingerprint()} | settings, self.overwrite)
        elif jobs[0].cube.exists() and not self.overwrite:
            raise InputError(f"{self.output}: already exists; choose another name or pass --overwrite")
        todo = [job for job in jobs if self.overwrite or not job.done]
        if ignored := passed_over(self.images):
            print(ignored)
        if len(todo) < len(jobs):
            print(f"{len(jobs) - len(todo)} of {len(jobs)} cubes already exist")
        return todo

    def _check_failures(self, messages: list[str], count: int) -> None:
        if len(messages) == 1 and count == 1:
            raise InputError(messages[0])
        if messages:
            listed = "; ".join(messages[:8]) + ("; …" if len(messages) > 8 else "")
            raise InputError(f"{len(messages)} of {count} photos failed, the others are done: {listed}")


@dataclasses.dataclass(frozen=True)
class _Batch:
    """Predicts photos one by one, with a progress bar on a terminal."""

    options: Predict
    predictor: Predictor

    def run(self, jobs: list[Job]) -> list[str]:
        """Predicts all photos that can be used; returns a message for each of the others."""
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

        failures = []
        columns = (TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn())
        progress = Progress(*columns, TimeElapsedColumn(), transient=True, disable=not sys.stdout.isatty())
        with progress:
            photos = progress.add_task("photos", total=len(jobs), visible=len(jobs) > 1)
            for job in jobs:
                tiles = progress.add_task(job.image.name, total=None)
                try:
                    line = self._predict(job, partial(advance, progress, tiles))
                    progress.console.print(line, markup=False, highlight=False, soft_wrap=True)
                except UnusablePhotoError as error:
                    failures.append(str(error))
                progress.remove_task(tiles)
                progress.advance(photos)
        return failures

    def _predict(self, job: Job, tick: Callable[[int, int], None]) -> str:
        """Predicts one photo straight into its file; returns a line of summary."""
        from m3sr_jax.io import read_photo
        from m3sr_jax.io.cubes import cube_writer

        start, options = time.perf_counter(), self.options
        tiles = 1

        def count(done: int, total: int) -> None:
            nonlocal tiles
            tiles = total
            tick(done, total)

        with _naming(job.image):
            photo = read_photo(job.image)
            rows = self.predictor.predict_rows(
                photo.codes, tile=options.tile, overlap=options.overlap, ensemble=options.ensemble, tick=count
            )
        wavelengths, clipped = self.predictor.wavelengths, 0
        shape, notes = (*photo.codes.shape[:2], len(wavelengths)), "".join(f"; {note}" for note in photo.notes)
        source = f"{job.image.name}: {photo.format} photo, {photo.encoding} values{notes}"
        del photo  # frees a large photo if `rows` has a padded copy
        with cube_writer(job.cube, shape, wavelengths, options.dtype, source) as append:
            while True:
                with _naming(job.image):
                    part = next(rows, None)
                if part is None:
                    break
                append(part)
                clipped += int(((part < 0) | (part > 1)).sum()) if options.dtype == "uint16" else 0
        note = f", {clipped / math.prod(shape):.2%} of the values clipped" if clipped else ""
        network = network_of(self.predictor.model)
        if tiles > 1 and network and network.whole_image:
            note += f"; {network.title} needs the whole photo: tiles change its cube by several percent, see --tile 0"
        seconds = time.perf_counter() - start
        return f"{job.image} → {job.cube}: {shape[0]}×{shape[1]} pixels in {seconds:.1f} s{note}{notes}"


class UnusablePhotoError(InputError):
    """A photo cannot be read or predicted; the others still can. A cube that cannot be written stops them all."""


@contextmanager
def _naming(image: Path) -> Iterator[None]:
    """Names the photo in every InputError."""
    try:
        yield
    except InputError as error:
        message = str(error)
        raise UnusablePhotoError(message if str(image) in message else f"{image}: {message}") from error

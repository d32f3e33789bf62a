"""`m3sr predict`: reconstructs hyperspectral cubes from photos."""

from __future__ import annotations

import dataclasses
import math
import sys
import time
import webbrowser
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from tyro.conf import Positional, arg

from m3sr_jax.checkpoint import Which
from m3sr_jax.cli.processes import Processes
from m3sr_jax.cli.progress import advance
from m3sr_jax.errors import InputError
from m3sr_jax.inference.jobs import Job, check_unused, is_cube_file, passed_over, plan_jobs, record_settings
from m3sr_jax.io.cube_intervals import interval_files, read_interval
from m3sr_jax.networks import NETWORKS, network_of

if TYPE_CHECKING:
    import numpy as np

    from m3sr_jax.inference.predictor import Predictor
    from m3sr_jax.io.photos.photo import Photo


@dataclasses.dataclass(frozen=True)
class Predict(Processes):
    """Reconstruct cubes from photos: m3sr predict photo.jpg writes photo.mat to the current folder.

    Photos are JPEG, PNG, TIFF, BMP, WebP, AVIF, HEIC, JPEG 2000 or raw files. Orientation and colour profiles are
    applied; docs/data.md lists what else. RGB is converted and normalised as model.json says.

    Attributes:
        images: photos, or folders of photos.
        checkpoint: a training workdir, or a folder that m3sr convert wrote; by default the model for any photo that
            comes with the package.
        regression: use the regression that the package's model builds on, see docs/photo.md: less accurate, twenty
            times as fast.
        output: for a single photo a file: .mat (v7.3), .hdr (ENVI), .npz, .tif (one page per band) or .h5. Otherwise a
            folder; photos whose cubes already exist are skipped, so run the same command again to resume. By default
            the current folder.
        format: format of the cubes where output names no file.
        view: also make a web page of each cube beside it, and open that of a single photo.
        exact_colour: make the cubes reproduce the photos exactly, see docs/photo.md.
        light: multiply reflectance by a light: D65, A or another CIE illuminant, or a .csv file of wavelength in nm and
            power. It is scaled to a largest value of 1.
        interval: store the half-width of each value's 90 % interval beside the cube, which doubles the size; models
            whose model.json states no uncertainty have none.
        dtype: float32; or uint16, clipped to [0, 1], value = code / 65535, half the size.
        tile: tile size in pixels, a multiple of 8 from 64 on; 0 predicts every photo whole, which takes about 2 KB of
            memory per pixel. By default photos of up to 512x512 pixels are predicted whole and larger ones in tiles of
            448. Tiling is an approximation, because norms and scans see only a tile: cubes of the default model
            differed by 1.1 to 2.6 % (root mean square, relative to that of the cube), see docs/tiling.md.
        overlap: minimum overlap of tiles in pixels, a multiple of 8; doubling it changes the difference little.
        ensemble: average over the 8 flips and rotations, which takes 8 times as long.
        which: of a training workdir, the checkpoint with the best PSNR or the latest.
        overwrite: replace existing cubes.
    """

    images: Annotated[Positional[tuple[Path, ...]], arg(metavar="IMAGE...")]
    checkpoint: Path | None = None
    regression: bool = False
    output: Path | None = None
    format: Literal["mat", "hdr", "npz", "tif", "h5"] = "mat"
    dtype: Literal["float32", "uint16"] = "float32"
    view: bool = False
    exact_colour: bool = False
    light: str | None = None
    interval: bool = True
    tile: int | None = None
    overlap: int = 32
    ensemble: bool = False
    which: Which = "best"
    overwrite: bool = False

    def run(self) -> None:
        """Predicts all photos that have no cube yet and makes missing pages; failures are listed at the end.

        Raises:
            InputError: the arguments, the checkpoint, the output or a photo cannot be used.
        """
        from m3sr_jax.inference.predictor import NETWORK, REGRESSION, check_tiles, load
        from m3sr_jax.processes import gather, local_indices, on_writer

        check_tiles(self.tile, self.overlap)
        self.join()
        jobs = plan_jobs(self.images, self._target(), self.format)
        if self.regression and self.checkpoint is not None:
            raise InputError("--regression and --checkpoint: both choose a model; leave one out")
        predictor = load(self.checkpoint or (REGRESSION if self.regression else NETWORK), self.which)
        light = self._light(predictor)
        todo = on_writer(lambda: self._todo(jobs, predictor, light))
        local_jobs = [todo[i] for i in local_indices(len(todo))]
        failures = gather(lambda: _Batch(self, predictor, light).run(local_jobs))
        if self.view and len(jobs) == 1 and not failures[0] and sys.stdout.isatty():
            webbrowser.open(jobs[0].page.resolve().as_uri())
        on_writer(lambda: self._check_failures([message for part in failures for message in part], len(todo)))

    def _target(self) -> Path:
        """Returns the output, by default a file in the current folder for one photo, else that folder."""
        if self.output is not None:
            return self.output
        alone = len(self.images) == 1 and not self.images[0].is_dir()
        return Path(f"{self.images[0].stem}.{self.format}") if alone else Path()

    def _light(self, predictor: Predictor) -> np.ndarray | None:
        """Reads the light; refuses one, and exact colours, where the model does not predict a photo's reflectance."""
        from m3sr_jax.inference.finish import describes_photos, read_light

        if (self.light or self.exact_colour) and not describes_photos(predictor.card):
            option = "--light" if self.light else "--exact-colour"
            raise InputError(f"{option}: needs a model of reflectance, such as the default without --checkpoint")
        return read_light(self.light, predictor.wavelengths) if self.light else None

    def _todo(self, jobs: list[Job], predictor: Predictor, light: np.ndarray | None) -> list[Job]:
        """Checks the output and returns the jobs whose cube or page is missing."""
        output, new = self._target(), jobs
        if not is_cube_file(output):
            settings = {name: getattr(self, name) for name in ("dtype", "tile", "overlap", "ensemble")}
            # Named only where they are used, so that folders of earlier versions can still be resumed.
            settings |= {name: getattr(self, name) for name in ("exact_colour", "light") if getattr(self, name)}
            settings |= {"interval": True} if self.stores_interval(predictor) else {}
            if light is not None and settings["light"].lower().endswith(".csv"):
                settings["light"] = f"{Path(settings['light']).name} ({zlib.crc32(light.tobytes()):08x})"
            record_settings(output, jobs, {"model": predictor.fingerprint()} | settings, self.overwrite)
            new = [job for job in jobs if not job.has_cube]
        elif not output.parent.is_dir():
            raise InputError(f"{output}: found no folder {output.parent}; make it first")
        if not self.overwrite:
            check_unused(new, self.stores_interval(predictor), self.view)
        if ignored := passed_over(self.images):
            print(ignored)
        if done := [job for job in jobs if self.kept(job)]:
            print(f"{len(done)} of {len(jobs)} cubes already exist")
        return [job for job in jobs if not self.kept(job) or (self.view and not job.has_page)]

    def kept(self, job: Job) -> bool:
        """Whether the cube of a job stays as it is."""
        return job.done and not self.overwrite

    def stores_interval(self, predictor: Predictor) -> bool:
        """Whether half-widths of intervals are stored."""
        return self.interval and predictor.uncertainty is not None

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
    light: np.ndarray | None

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
                    kept = self.options.kept(job)
                    lines = f"{job.cube}:" if kept else self._predict(job, partial(advance, progress, tiles))
                    lines += f"\n  page: {self._write_page(job)}" if self.options.view else ""
                    progress.console.print(lines, markup=False, highlight=False, soft_wrap=True)
                except UnusablePhotoError as error:
                    failures.append(str(error))
                progress.remove_task(tiles)
                progress.advance(photos)
        return failures

    def _predict(self, job: Job, tick: Callable[[int, int], None]) -> str:
        """Predicts one photo straight into its file; returns lines of summary."""
        from m3sr_jax.inference.finish import Finish, describes_photos
        from m3sr_jax.inference.trust import assess
        from m3sr_jax.io import read_photo
        from m3sr_jax.io.cube_writer import cube_writer
        from m3sr_jax.io.encoding import mismatch

        start, options, card = time.perf_counter(), self.options, self.predictor.card
        tiles, version = 1, job.photo_version

        def count(done: int, total: int) -> None:
            nonlocal tiles
            tiles = total
            tick(done, total)

        with _naming(job.image):
            photo = read_photo(job.image)
            rows = self._rows(photo, count)
        wavelengths, clipped, trust, finish = self.predictor.wavelengths, 0, None, None
        if describes_photos(card):
            trust = assess(photo, job.image)
            interval = self.predictor.uncertainty if options.interval else None
            finish = Finish(card, photo, exact_colour=options.exact_colour, light=self.light, interval=interval)
        told = (*photo.notes, *filter(None, [mismatch(photo.encoding, card.encoding)]))
        shape, notes = (*photo.codes.shape[:2], len(wavelengths)), "".join(f"; {note}" for note in told)
        source = f"{self._made} of {job.image.name}: {photo.format} photo, {photo.encoding} values{notes}"
        del photo  # frees a large photo, unless `finish` keeps it
        with cube_writer(job.cube, shape, wavelengths, options.dtype, source, self.stored) as append:
            while True:
                with _naming(job.image):
                    part = next(rows, None)
                if part is None:
                    break
                part = part if finish is None else finish(part)
                append(part, None if finish is None else finish.half_widths())
                clipped += int(((part < 0) | (part > 1)).sum()) if options.dtype == "uint16" else 0
            if job.photo_version not in (version, None):  # its cube would be the newer file, and taken for done
                raise UnusablePhotoError(f"{job.image}: has changed since it was read; run the same command again")
        self._remove_stale(job)
        note = f", {clipped / math.prod(shape):.2%} of the values clipped" if clipped else ""
        note += self._tiling_note() if tiles > 1 else ""
        seconds = time.perf_counter() - start
        lines = [f"{job.image} → {job.cube}: {shape[0]}×{shape[1]} pixels in {seconds:.1f} s{note}{notes}"]
        if trust is not None and finish is not None:
            lines += [f"  {trust.line()}", f"  {finish.line()}"]
        return "\n".join(lines)

    @cached_property
    def _made(self) -> str:
        """What the cubes hold and which model made them; its fingerprint reads all parameters."""
        options, card = self.options, self.predictor.card
        quantity = f"radiance under {options.light}" if options.light else card.quantity or "values"
        exact = " in exact colour" if options.exact_colour else ""
        return f"{quantity}{exact} by {NETWORKS[card.model.name].title}, model {self.predictor.fingerprint()},"

    def _rows(self, photo: Photo, tick: Callable[[int, int], None]) -> Iterator[np.ndarray]:
        options = self.options
        return self.predictor.predict_rows(
            photo.codes,
            encoding=photo.encoding,
            tile=options.tile,
            overlap=options.overlap,
            ensemble=options.ensemble,
            tick=tick,
        )

    def _tiling_note(self) -> str:
        network = network_of(self.predictor.model)
        if not (network and network.whole_image):
            return ""
        return f"; {network.title} needs the whole photo: tiles change its cube by several percent, see --tile 0"

    @property
    def stored(self) -> bool:
        """Whether half-widths of intervals are stored."""
        return self.options.stores_interval(self.predictor)

    def _remove_stale(self, job: Job) -> None:
        """Removes the second file with the interval of a cube that was replaced by one without."""
        for file in interval_files(job.cube) if self.options.overwrite and not self.stored else ():
            file.unlink(missing_ok=True)

    def _interval_of(self, job: Job) -> np.ndarray | None:
        """Reads the half-widths of a cube's intervals, as far as its page shows them."""
        from m3sr_jax.io.cubes import read_cube_header
        from m3sr_jax.viewer.packing import decimation

        shape, _ = read_cube_header(job.cube)
        return read_interval(job.cube, shape, decimation(2 * math.prod(shape)))

    def _write_page(self, job: Job) -> Path:
        """Makes the page of a cube, with its photo and, for reflectance, the difference of their colours."""
        from m3sr_jax.inference.finish import describes_photos
        from m3sr_jax.io import read_cube, read_photo
        from m3sr_jax.io.encoding import converted
        from m3sr_jax.viewer.page import write_page

        # The interval first, of which little is kept: so never two large arrays are in memory.
        interval = self._interval_of(job) if self.stored else None
        cube, wavelengths = read_cube(job.cube)
        with _naming(job.image):
            photo = read_photo(job.image)
        shown = converted(photo.rgb, photo.encoding, "srgb")
        check = describes_photos(self.predictor.card) and self.light is None
        write_page(job.page, cube, wavelengths, photo=shown, interval=interval, check=check, title=job.image.stem)
        return job.page


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

"""`m3sr prepare`: a benchmark as downloaded to a store that training reads crops from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal


@dataclasses.dataclass(frozen=True)
class Prepare:
    """Convert a data set once into arrays that can be memory-mapped; training then takes the store as data.root.

    Run again after an interruption it goes on with the next scene.

    Attributes:
        dataset: which benchmark.
        data_root: its folder as downloaded.
        output: the store's folder.
        split_file: lists the training and the test scenes, in place of the built-in split.
        camera: takes the photos of the cubes (CSV, MAT, NPZ, cie1964); by default those of the download.
        dtype: of training cubes that are floats. Held-out cubes keep the precision of their files.
    """

    dataset: Literal["cave", "ntire2022", "ntire2020_clean", "ntire2020_real"]
    data_root: str
    output: Path
    split_file: str = ""
    camera: str = ""
    dtype: Literal["uint16", "float16"] = "uint16"

    def run(self) -> None:
        """Writes the store, and says what it holds.

        Raises:
            InputError: the data cannot be used, or the folder cannot be written.
        """
        from rich.progress import Progress

        from m3sr_jax.config import DataConfig
        from m3sr_jax.data.open import open_dataset
        from m3sr_jax.data.store import is_store, prepare
        from m3sr_jax.errors import InputError

        if is_store(self.data_root):
            raise InputError(f"{self.data_root}: is a store already; give the folder of the download")
        config = DataConfig(name=self.dataset, root=self.data_root, split_file=self.split_file, camera=self.camera)
        dataset = open_dataset(config)
        with Progress(transient=True) as bar:
            task = bar.add_task(f"preparing {self.dataset}", total=len(dataset.train) + len(dataset.valid))

            def advance(done: int, total: int, name: str) -> None:
                bar.update(task, completed=done, total=total, description=f"preparing {self.dataset}: {name}")

            written = prepare(dataset, self.output, precision=self.dtype, progress=advance)
        counts = f"{len(dataset.train)} training and {len(dataset.valid)} validation scenes"
        print(f"wrote {self.output}: {counts}, {written} of them now; train with --config.data.root={self.output}")
        if dataset.missing:
            print(f"note: {len(dataset.missing)} files or scenes of the official split are missing; see `m3sr check`")

"""`m3sr prepare`: converts a benchmark as downloaded to a store that training reads crops from."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Literal

from m3sr_jax.cli.data_options import DataOptions
from m3sr_jax.cli.progress import progress_bar
from m3sr_jax.config.names import OnDisk
from m3sr_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Prepare(DataOptions):
    """Convert a data set once to memory-mapped arrays, from which training reads crops fast; pass it as data.root.

    After an interruption or a change of files, run the same command: it converts what is missing or has changed.

    Attributes:
        dataset: which benchmark; or folder, for your own scenes.
        output: the store's folder.
        dtype: type of training cubes whose files hold floats. Held-out cubes keep their files' precision.
    """

    dataset: OnDisk
    output: Path
    dtype: Literal["uint16", "float16"] = "uint16"

    def run(self) -> None:
        """Writes the store and prints a summary.

        Raises:
            InputError: the data cannot be used, or the folder cannot be written.
        """
        from m3sr_jax.config import DataConfig
        from m3sr_jax.data.camera import print_notes
        from m3sr_jax.data.check import first_oddities
        from m3sr_jax.data.open import located, open_dataset
        from m3sr_jax.data.store import is_store, prepare, stored_scenes

        config = located(self.data_config(DataConfig(name=self.dataset)))
        if is_store(config.root):
            raise InputError(f"{config.root}: is already a store; give the downloaded folder")
        dataset = open_dataset(config)
        if self.camera:
            print_notes(self.camera)
        for oddity in first_oddities(dataset.train):
            print(f"WARNING: {oddity}")
        stored = len(stored_scenes(self.output))
        with progress_bar(f"preparing {self.dataset}") as progress:
            written = prepare(dataset, self.output, precision=self.dtype, progress=progress)
        counts = f"{len(dataset.train)} training and {len(dataset.valid)} validation scenes"
        new = len(dataset.train) + len(dataset.valid) - stored  # a store has no other scenes
        counts += f", {new} of them new"
        if written > new:
            counts += f", {written - new} converted again, because their files or options differ or they were damaged"
        print(f"wrote {self.output}: {counts}; train with --config.data.root={self.output}")
        for note in dataset.notes:
            print(f"note: {note}")
        if dataset.missing:
            missing = len(dataset.missing)
            print(f"note: {missing} files or scenes of the official split are missing; `m3sr check` lists them")

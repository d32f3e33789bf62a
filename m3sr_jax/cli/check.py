"""`m3sr check`: lists what is wrong with a data set, file by file, before training."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from m3sr_jax.cli.data_options import DataOptions
from m3sr_jax.cli.progress import progress_bar
from m3sr_jax.config.names import OnDisk
from m3sr_jax.errors import InputError, shortened

if TYPE_CHECKING:
    from m3sr_jax.data.scenes import Dataset


@dataclasses.dataclass(frozen=True)
class Check(DataOptions):
    """Check a data set as downloaded, or a prepared store, for missing, unreadable and misshapen files.

    Attributes:
        dataset: which benchmark; or folder, for your own scenes.
        quick: read headers only, which takes seconds; otherwise every pixel is read and a store's checksums compared.
    """

    dataset: OnDisk
    quick: bool = False

    def run(self) -> int:
        """Prints what was found; returns 0 if the data set is complete and usable.

        Raises:
            InputError: something is missing or faulty, or the folder or the split file cannot be used at all.
        """
        from m3sr_jax.config import DataConfig
        from m3sr_jax.data.camera import print_notes
        from m3sr_jax.data.check import check_scenes
        from m3sr_jax.data.open import located, open_dataset
        from m3sr_jax.data.store import is_store
        from m3sr_jax.io.wavelengths import span

        config = self.data_config(DataConfig(name=self.dataset))
        faults: list[str] = []
        dataset = open_dataset(config, faults)
        with progress_bar("reading") as progress:
            findings = check_scenes(dataset, faults, progress, headers_only=self.quick)
        if self.camera:
            print_notes(self.camera)
        for file in findings.missing:
            print(f"missing: {file}")
        for note in dataset.notes:
            print(f"note: {note}")
        for oddity, scenes in findings.oddities.items():
            print(f"note: {oddity}: {len(scenes)} scenes, {shortened(scenes, 5)}")
        for advice in findings.advice:
            print(f"note: {advice}")
        for fault in findings.faults:
            print(f"fault: {fault}")
        nm, (height, width) = dataset.train.wavelengths, dataset.train.size(0) if len(dataset.train) else (0, 0)
        if len(nm):
            print(f"bands: {span(nm)}")
            print(f"photos: {_photos(dataset, stored=is_store(located(config).root))}")
        print(
            f"{self.dataset}: {len(dataset.train)} training and {len(dataset.valid)} validation scenes, "
            f"{height}×{width}, {len(nm)} bands; {len(findings.missing)} missing, {len(findings.faults)} faulty"
        )
        if findings.complete:
            return 0
        raise InputError(f"{self.dataset}: incomplete or damaged; the lines above name every file")


def _photos(dataset: Dataset, stored: bool) -> str:
    """Says where the photos come from."""
    camera = dataset.train.camera_name
    if dataset.train.take is not None:
        return f"rendered by {camera}"
    return f"as prepared ({camera})" if stored else f"{len(dataset.train) + len(dataset.valid)} files"

"""`m3sr check`: says by file what is wrong with a data set, before training is."""

from __future__ import annotations

import dataclasses
from typing import Literal

from m3sr_jax.cli.progress import advance
from m3sr_jax.errors import InputError


@dataclasses.dataclass(frozen=True)
class Check:
    """Look through a data set as downloaded, or a prepared store: what is missing, unreadable or of the wrong shape.

    Attributes:
        dataset: which benchmark.
        data_root: its folder.
        split_file: lists the training and the test scenes, in place of the built-in split.
        camera: photos are taken of the cubes with it, so none have to be there.
        quick: read headers only, in seconds; else every pixel is read, and a store's checksums are compared.
    """

    dataset: Literal["cave", "ntire2022", "ntire2020_clean", "ntire2020_real"]
    data_root: str
    split_file: str = ""
    camera: str = ""
    quick: bool = False

    def run(self) -> int:
        """Prints what was found; returns 0 if everything is there and usable, else 2.

        Raises:
            InputError: the folder or the split file cannot be used at all.
        """
        from functools import partial

        from rich.progress import Progress

        from m3sr_jax.config import DataConfig
        from m3sr_jax.data.check import check_scenes
        from m3sr_jax.data.open import open_dataset

        config = DataConfig(name=self.dataset, root=self.data_root, split_file=self.split_file, camera=self.camera)
        faults: list[str] = []
        dataset = open_dataset(config, faults)
        with Progress(transient=True) as bar:
            task = bar.add_task("reading", total=None)
            findings = check_scenes(dataset, faults, partial(advance, bar, task), headers_only=self.quick)
        for file in findings.missing:
            print(f"missing: {file}")
        for what, scenes in findings.oddities.items():
            print(f"note: {what}: {len(scenes)} scenes, {', '.join(scenes[:5])}{' …' if len(scenes) > 5 else ''}")
        for fault in findings.faults:
            print(f"fault: {fault}")
        nm, (height, width) = dataset.train.wavelengths, dataset.train.size(0) if len(dataset.train) else (0, 0)
        print(
            f"{self.dataset}: {len(dataset.train)} training and {len(dataset.valid)} validation scenes, "
            f"{height}×{width}, {len(nm)} bands; {len(findings.missing)} missing, {len(findings.faults)} faulty"
        )
        if findings.complete:
            return 0
        raise InputError(f"{self.data_root}: not complete; the lines above name every file")

"""Checks a data set before hours of training: what is missing, unreadable, of the wrong shape or suspicious."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from m3sr_jax.data.scenes import CodedScene, Dataset, SceneSource
from m3sr_jax.errors import InputError

Progress = Callable[[int, int], None]


@dataclass
class Findings:
    """What a check found.

    Attributes:
        missing: files or scenes of the official split that are not on disk.
        faults: one message for each unusable scene; it names the file.
        oddities: what is usable but may spoil a score or a loss: description → scenes.
    """

    missing: tuple[str, ...] = ()
    faults: list[str] = field(default_factory=list)
    oddities: dict[str, list[str]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether nothing is missing and everything is readable."""
        return not self.missing and not self.faults


def check_scenes(
    dataset: Dataset, faults: list[str], progress: Progress = lambda done, total: None, *, headers_only: bool = False
) -> Findings:
    """Reads every scene in full, as training would.

    Args:
        dataset: opened with `faults`, so that each scene is usable or listed there.
        faults: messages from opening it.
        progress: called with (scenes done, total scenes).
        headers_only: return what opening found, which takes seconds.
    """
    findings = Findings(dataset.missing, list(faults))
    sources = [dataset.train, dataset.valid]
    total, done = sum(map(len, sources)), 0
    for source in [] if headers_only else sources:
        for index in range(len(source)):
            try:
                _check_scene(source, index, findings)
            except InputError as error:
                findings.faults.append(str(error))
            done += 1
            progress(done, total)
    return findings


def _check_scene(source: SceneSource, index: int, findings: Findings) -> None:
    verify = getattr(source.read, "verify", None)
    if verify is not None:
        verify(index)
    scene = source.read(index)
    photo, cube, expected = (f"{h}×{w}" for h, w in (scene.rgb.shape[:2], scene.cube.shape[:2], source.size(index)))
    if {photo, cube} != {expected}:
        found = f"a photo of {photo} and a cube of {cube} pixels"
        raise InputError(f"scene {scene.name}: found {found}; expected {expected} as in the headers")
    for oddity in _oddities(scene):
        findings.oddities.setdefault(oddity, []).append(scene.name)


def _oddities(scene: CodedScene) -> list[str]:
    flat = ["a photo with all values equal"] if np.ptp(scene.rgb) == 0 else []
    return cube_oddities(scene.cube, scene.unit) + flat


def cube_oddities(cube: np.ndarray, unit: float = 1.0) -> list[str]:
    """Describes what in a true cube may spoil a score or a loss.

    Args:
        cube: codes or values, (H, W, S).
        unit: the code of 1.
    """
    low, high = float(cube.min()), float(cube.max()) / unit
    found = {
        "zeros in the cube, where MRAE is infinite unless protocol and loss have a floor": (cube == 0).any(),
        "negative values in the cube": low < 0,
        "values above 1 in the cube, which PSNR clips": high > 1,
        "a dark cube, all values below 0.001": high < 1e-3,
    }
    return [oddity for oddity, present in found.items() if present]

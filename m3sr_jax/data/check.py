"""Looks through a data set before hours of training are spent on it: what is missing, unreadable, misshapen or odd."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from m3sr_jax.data.scenes import CodedScene, Dataset, SceneSource
from m3sr_jax.errors import InputError

Progress = Callable[[int, int], None]


@dataclass
class Findings:
    """What a look through a data set brought up.

    Attributes:
        missing: files or scenes of the official split that are not there.
        faults: one message a scene that cannot be used; each names the file.
        oddities: what is no fault and may still spoil a score or a loss: "what" → scenes.
    """

    missing: tuple[str, ...] = ()
    faults: list[str] = field(default_factory=list)
    oddities: dict[str, list[str]] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether everything is there and readable."""
        return not self.missing and not self.faults


def check_scenes(
    dataset: Dataset, faults: list[str], progress: Progress = lambda done, total: None, *, headers_only: bool = False
) -> Findings:
    """Reads every scene from beginning to end, as training would.

    Args:
        dataset: opened with `faults`, so that bad scenes are in the one or in the other.
        faults: what opening it found.
        progress: called with (scenes done, scenes in all).
        headers_only: leave it at what opening found, which takes seconds.
    """
    findings = Findings(dataset.missing, list(faults))
    sources = [dataset.train, dataset.valid]
    total, done = sum(map(len, sources)), 0
    for source in [] if headers_only else sources:
        assert isinstance(source, SceneSource)  # every source there is
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
    shapes = scene.rgb.shape[:2], scene.cube.shape[:2]
    if set(shapes) != {source.size(index)}:
        expected = source.size(index)
        raise InputError(f"scene {scene.name}: found photo and cube of {shapes} pixels, expected {expected}")
    for what in _oddities(scene):
        findings.oddities.setdefault(what, []).append(scene.name)


def _oddities(scene: CodedScene) -> list[str]:
    low, high = float(scene.cube.min()), float(scene.cube.max()) / scene.unit
    found = {
        "zeros in the cube: MRAE is infinite there unless protocol and loss have a floor": (scene.cube == 0).any(),
        "negative values in the cube": low < 0,
        "values above 1 in the cube: PSNR clips them": high > 1,
        "a cube without light: all of it below 0.001": high < 1e-3,
        "a photo of one colour": np.ptp(scene.rgb) == 0,
    }
    return [what for what, is_so in found.items() if is_so]

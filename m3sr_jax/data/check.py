"""Checks a data set before hours of training: what is missing, unreadable, of the wrong shape or suspicious."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Float64

from m3sr_jax.data.scenes import CodedScene, Dataset, SceneSource
from m3sr_jax.errors import InputError

Progress = Callable[[int, int], None]
ZEROS = "zeros in the cube, where MRAE is infinite unless protocol and loss have a floor"
# Photo and cube of one scene correlate by at least 0.93 in CAVE and in simulated photos; those of two scenes of CAVE
# by less than 0.5 in 98.7 % of cases, and by 0.71 at most.
SAME_PICTURE = 0.5
# Stored numbers of 1: percent, 8, 10, 12 bits, four decimals, 14 and 16 bits.
WHITES = (100, 255, 1023, 4095, 10000, 16383, 65535)


@dataclass
class Findings:
    """What a check found.

    Attributes:
        missing: files or scenes of the official split that are not on disk.
        faults: one message for each unusable scene; it names the file.
        oddities: what is usable but may spoil a score or a loss: description → scenes.
        largest: the largest value in any cube.
    """

    missing: tuple[str, ...] = ()
    faults: list[str] = field(default_factory=list)
    oddities: dict[str, list[str]] = field(default_factory=dict)
    largest: float = 0.0

    @property
    def complete(self) -> bool:
        """Whether nothing is missing and everything is readable."""
        return not self.missing and not self.faults

    @property
    def advice(self) -> list[str]:
        """How to read cubes whose values are no fractions of 1; up to 2 may be highlights."""
        if self.largest <= 2:
            return []
        white = next((white for white in WHITES if white >= self.largest), self.largest)
        return [f"largest {self.largest:g}: pass --white {white:g} (data.white); for a store, to m3sr prepare"]


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


def first_oddities(source: SceneSource) -> list[str]:
    """Describes what is odd about the first scene, which is the only one read; zeros are common in good cubes.

    A scene that cannot be read brings no oddities: what uses it reports it.
    """
    findings = Findings()
    with suppress(InputError):
        for index in range(min(1, len(source))):
            _check_scene(source, index, findings)
    found = [oddity for oddity in findings.oddities if oddity != ZEROS]
    return [f"scene {source.names[0]}: {'; '.join(found + findings.advice)}"] if found else []


def _check_scene(source: SceneSource, index: int, findings: Findings) -> None:
    verify = getattr(source.read, "verify", None)
    if verify is not None:
        verify(index)
    scene = source.read(index)
    photo, cube, expected = (f"{h}×{w}" for h, w in (scene.rgb.shape[:2], scene.cube.shape[:2], source.size(index)))
    if {photo, cube} != {expected}:
        found = f"a photo of {photo} and a cube of {cube} pixels"
        raise InputError(f"scene {scene.name}: found {found}; expected {expected} as in the headers")
    findings.largest = max(findings.largest, float(scene.cube.max()) / scene.unit)
    for oddity in _oddities(scene, source):
        findings.oddities.setdefault(oddity, []).append(scene.name)


def _oddities(scene: CodedScene, source: SceneSource) -> list[str]:
    found = cube_oddities(scene.cube, scene.unit)
    if np.ptp(scene.rgb) == 0:
        return [*found, "a photo with all values equal"]
    if source.take is None:  # a rendered photo shows its cube
        found += ["photo is grey"] * bool((scene.rgb == scene.rgb[..., :1]).all())
        found += ["photo and cube do not show the same picture"] * (likeness(scene, source.wavelengths) < SAME_PICTURE)
    return found


def likeness(scene: CodedScene, wavelengths: Float64[np.ndarray, " S"]) -> float:
    """Correlates the mean of the photo's channels with the mean of the cube's visible bands, 400-700 nm.

    Bands of the near infrared may show another picture than the photo: leaves are bright there.

    Returns:
        A number in [-1, 1]; 1 where one of the two is constant, which says nothing.
    """
    first, last = np.searchsorted(wavelengths, (400, 700.5))
    if first == last:
        return 1.0
    photo, cube = scene.rgb.mean(-1), scene.cube[..., first:last].mean(-1, dtype=np.float32)
    return float(np.corrcoef(photo.ravel(), cube.ravel())[0, 1]) if np.ptp(photo) and np.ptp(cube) else 1.0


def cube_oddities(cube: np.ndarray, unit: float = 1.0) -> list[str]:
    """Describes what in a true cube may spoil a score or a loss.

    Args:
        cube: codes or values, (H, W, S).
        unit: the code of 1.
    """
    low, high = float(cube.min()), float(cube.max()) / unit
    found = {
        ZEROS: (cube == 0).any(),
        "negative values in the cube": low < 0,
        "values above 1 in the cube, which PSNR clips": high > 1,
        "a dark cube, all values below 0.001": high < 1e-3,
    }
    return [oddity for oddity, present in found.items() if present]

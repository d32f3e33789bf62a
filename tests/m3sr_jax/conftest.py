import numpy as np
import pytest

from m3sr_jax.data.scenes import CodedScene, CodedScenes, Dataset

WAVELENGTHS = np.linspace(400, 700, 31)


def make_source(part, count, size=(24, 28)):
    """Scenes of random colours whose photo is the mean of three ranges of bands; `reads` notes what was asked for."""
    reads = []

    def read(index):
        reads.append(index)
        rng = np.random.default_rng([count, index])
        spectra = rng.integers(1000, 60000, (4, 4, 31)).astype(np.uint16)
        cube = spectra.repeat(size[0] // 4, 0).repeat(size[1] // 4, 1)
        rgb = np.stack([cube[..., 20:].mean(-1), cube[..., 10:20].mean(-1), cube[..., :10].mean(-1)], -1) / 257
        return CodedScene(f"{part}{index}", rgb.astype(np.uint8), cube)

    names = [f"{part}{i}" for i in range(count)]
    source = CodedScenes(
        names, [size] * count, read, wavelengths=WAVELENGTHS, camera_name="thirds", fingerprint=part, cache_bytes=0
    )
    source.reads = reads
    return source


@pytest.fixture
def dataset():
    return Dataset("synthetic", make_source("train", 5), make_source("valid", 3))


@pytest.fixture
def empty_source():
    return make_source("none", 0)

import jax
import numpy as np
import pytest
from jax.experimental.compilation_cache.compilation_cache import reset_cache
from PIL import Image

from m3sr_jax.data.scenes import CodedScene, Dataset, SceneSource
from m3sr_jax.io.wavelengths import BANDS

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
    source = SceneSource(
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


@pytest.fixture
def write_cave_scene():
    """Writes one scene as CAVE does: returns its 16-bit codes (H, W, 31)."""

    def write(root, name, *, nested=True, rgba=False, size=(20, 24), seed=0):
        rng = np.random.default_rng(seed)
        codes = rng.integers(0, 256 if rgba else 65536, (*size, len(BANDS))).astype(np.uint8 if rgba else np.uint16)
        folder = root / f"{name}_ms" / (f"{name}_ms" if nested else "")
        folder.mkdir(parents=True)
        for band in range(len(BANDS)):
            pixels = codes[..., band]
            if rgba:
                pixels = np.stack([pixels, pixels, pixels, np.full_like(pixels, 255)], axis=-1)
            Image.fromarray(pixels).save(folder / f"{name}_ms_{band + 1:02d}.png")
        return codes.astype(np.uint16) * np.uint16(257 if rgba else 1)

    return write


@pytest.fixture(scope="session")
def compiled(tmp_path_factory):
    return tmp_path_factory.mktemp("compiled")


@pytest.fixture
def compiled_once_and_quickly(compiled):
    """Programs that tests have compiled are not compiled again: for numbers that are compared with each other."""
    options = {  # (during a test, JAX's default)
        "jax_compilation_cache_dir": (str(compiled), None),
        "jax_persistent_cache_min_compile_time_secs": (0.1, 1.0),
        "jax_disable_most_optimizations": (True, False),
    }
    reset_cache()
    for name, (during, _) in options.items():
        jax.config.update(name, during)
    yield
    for name, (_, default) in options.items():
        jax.config.update(name, default)
    reset_cache()

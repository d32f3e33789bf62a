"""Data sets small enough to make in every test session, shared by the tests in this folder."""

import os
from pathlib import Path

import numpy as np
import pytest

from m3sr_jax.data.scenes import CodedScene, SceneSource
from m3sr_jax.data.synthetic import SyntheticSpec, open_synthetic


@pytest.fixture(scope="session")
def data_dir() -> Path:
    folder = os.environ.get("M3SR_DATA_DIR")
    if not folder:
        pytest.skip("set M3SR_DATA_DIR to a folder with cave_raw/ and camera/ to compare with real files")
    return Path(folder)


@pytest.fixture(scope="session")
def synthetic_root(tmp_path_factory):
    return tmp_path_factory.mktemp("synthetic")


@pytest.fixture(scope="session")
def synthetic_spec():
    return SyntheticSpec(num_train=8, num_valid=4, height=48, width=40)


@pytest.fixture(scope="session")
def synthetic(synthetic_spec, synthetic_root):
    return open_synthetic(synthetic_spec, synthetic_root)


class CountingReader:
    """Scenes of given sizes whose cube values encode scene and pixel; records what was read."""

    def __init__(self, sizes):
        self.sizes = sizes
        self.reads = []

    def __call__(self, index):
        self.reads.append(index)
        height, width = self.sizes[index]
        codes = (np.arange(height * width, dtype=np.uint16) + 1000 * index).reshape(height, width, 1)
        rgb = np.broadcast_to((codes % 256).astype(np.uint8), (height, width, 3))
        return CodedScene(f"scene{index}", rgb.copy(), np.tile(codes, (1, 1, 4)))


@pytest.fixture
def make_source():
    def make(sizes, cache_bytes=2**30):
        reader = CountingReader(sizes)
        source = SceneSource(
            [f"scene{index}" for index in range(len(sizes))],
            sizes,
            reader,
            wavelengths=np.array([400.0, 500.0, 600.0, 700.0]),
            camera_name="counting",
            fingerprint="counting",
            cache_bytes=cache_bytes,
        )
        return source, reader

    return make

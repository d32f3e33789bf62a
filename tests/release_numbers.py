"""How the releases' numbers were made: weights, images and probes are redrawn from names, only results are stored.

Those in tests/parity are compared everywhere, the rest where M3SR_PARITY_DIR names the folder that holds them all.
"""

import gzip
import json
import math
import os
import zlib
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

HERE = Path(__file__).parent / "parity"


def needs_time():
    """Skips a case beyond those that cover every network and type; `make parity` runs them all."""
    if "M3SR_FULL_PARITY" not in os.environ:
        pytest.skip("set M3SR_FULL_PARITY=1 (make parity) for the cases that repeat what others cover")


def read_cases(name):
    return json.loads(gzip.decompress((HERE / name).read_bytes()))


def parity_file(name, subfolder=""):
    folder = os.environ.get("M3SR_PARITY_DIR")
    path = HERE / name
    if not path.exists() and folder is not None:
        path = Path(folder) / subfolder / name
    if not path.exists():
        pytest.skip(f"set M3SR_PARITY_DIR, the folder of the release's numbers, for {name}")
    return path


def generator(key, seed):
    return np.random.RandomState((zlib.crc32(key.encode()) ^ seed) & 0xFFFFFFFF)


def draw_tensor(key, shape, seed):
    """Redraws a weight of M3SR from its release key; the first rule that fits its name holds."""
    n = generator(key, seed).standard_normal(shape)
    name = key.rpartition(".")[2]
    if name == "A_log":
        return np.log(np.arange(1, 17))[None] + 0.1 * n
    if name == "A_logs":
        return 0.3 * n
    if name in ("D", "Ds"):
        return 1 + 0.2 * n
    if key.endswith(("dt_projs_bias", "dt_proj.bias")):
        return -1 + 0.5 * n
    if name == "weights":
        return 1 / 3 + 0.5 * n
    if name == "bias":
        return 0.1 * n
    if len(shape) == 1:
        return 1 + 0.1 * n
    return n / math.sqrt(shape[2] if name == "x_proj_weight" else math.prod(shape[1:]))


def draw_state_dict(case):
    state_dict = {
        key: draw_tensor(key, shape, case["seed"]).astype(np.float32) for key, shape in case["params"].items()
    }
    for key in state_dict:
        if key.endswith("mapping.weight"):
            state_dict[key] *= np.float32(case.get("mapping_gain", 1))
    return state_dict


def channels_last(array):
    return array.transpose(0, 2, 3, 1)


def draw_images(case, dtype):
    """Redraws the input and the target of a case, channels last."""
    batch, _, height, width = case["input_shape"]
    shapes = {"input": (batch, 3, height, width), "target": (batch, 31, height, width)}
    images = (generator(key, case["seed"]).uniform(0, 1, shape).astype(np.float32) for key, shape in shapes.items())
    return tuple(jnp.asarray(channels_last(image), dtype) for image in images)


def relative_error(got, expected):
    return float(np.abs(np.asarray(got, np.float64) - expected).max() / np.abs(expected).max())


def check_probes(case, grads, bar, floor=0.0):
    """Compares the norm of every gradient and its products with two random tensors, relative to the norm.

    To a norm of no less than `floor` times that of all gradients together.
    """
    whole = math.sqrt(sum(expected[0] ** 2 for expected in case["grads"].values() if expected is not None))
    assert list(grads) == list(case["grads"])
    errors = {}
    for key, expected in case["grads"].items():
        if expected is None:
            assert not grads[key].any(), f"{key} has no gradient in the release"
            continue
        grad = grads[key].astype(np.float64)
        probes = generator(f"probe:{key}", case["seed"]).standard_normal((2, *grad.shape))
        got = [np.linalg.norm(grad), *(probes * grad[None]).reshape(2, -1).sum(1)]
        errors[key] = np.abs(np.subtract(got, expected)).max() / max(expected[0], floor * whole)
    above = {key: f"{error:.1e}" for key, error in errors.items() if not error <= bar}
    assert not above, f"gradients above {bar:.0e}: {above}"

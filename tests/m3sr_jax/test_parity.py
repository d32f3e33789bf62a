"""The network against numbers that the authors' release produced in float64.

Weights and inputs are redrawn from their release keys, so only results are stored: those in tests/parity are compared
everywhere, the rest where M3SR_PARITY_DIR names the folder that holds them all.
"""

import functools
import gzip
import json
import math
import os
import zlib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3sr_jax.config import OptimConfig
from m3sr_jax.convert import params_from_release, params_to_release, read_release, release_activations
from m3sr_jax.losses import mae
from m3sr_jax.models import M3SR
from m3sr_jax.training.state import create_train_state, learning_rate_schedule, make_optimizer
from m3sr_jax.training.step import train_step

HERE = Path(__file__).parents[1] / "parity"
CASES = json.loads(gzip.decompress((HERE / "cases.json.gz").read_bytes()))
TRAJECTORY = CASES.pop("_trajectory")

# Largest error as a share of the largest value; of a loss or rate, as a share of it. The release casts SS2D's A and its
# wavelet filters to float32, so that float64 agrees to about 4e-9 on outputs and 1.2e-7 on gradients, not to 1e-15.
OUTPUT_BARS = {"float32": 5e-6, "float64": 3e-8}
LOSS_BARS = {"float32": 1e-6, "float64": 1e-9}
ACTIVATION_BARS = {"float32": 5e-6, "float64": 1e-7}
GRADIENT_BARS = {"float32": 1e-4, "float64": 1e-6}
# Two U-Nets in a row cancel most of what the gradients are made of: float32 ones mean nothing there.
DEEP_OUTPUT_BARS = {"float32": 1e-4, "float64": 3e-8}
DEEP_GRADIENT_BARS = {"float32": math.inf, "float64": 1e-3}
TRAJECTORY_LOSS_BARS = {"float32": 1e-3, "float64": 5e-8}
RATE_BARS = {"float32": 1e-5, "float64": 1e-12}

DTYPES = ["float32", "float64"]
# What runs without M3SR_PARITY_DIR, one case in each type, runs by the default scans. The others run by the plain ones,
# which compile in a quarter of the time and mean the same (tests/m3sr_kernels compares them).
BY_DEFAULT_SCANS = {("g8", "float64"), ("odd_size_g2", "float32")}
# Each case runs once: compiling it with all optimisations costs more time than it saves.
QUICK = {"xla_backend_optimization_level": 0}


def parity_file(name):
    folder = os.environ.get("M3SR_PARITY_DIR")
    path = HERE / name
    if not path.exists() and folder is not None:
        path = Path(folder) / name
    if not path.exists():
        pytest.skip(f"set M3SR_PARITY_DIR, the folder of the release's numbers, for {name}")
    return path


def generator(key, seed):
    return np.random.RandomState((zlib.crc32(key.encode()) ^ seed) & 0xFFFFFFFF)


def draw_tensor(key, shape, seed):
    """Redraws a weight from its release key; the first rule that fits its name holds."""
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


def build(case, dtype, implementation):
    names = {"d_group": "num_groups", "stage": "num_stages", "num_blocks": "num_blocks"}
    fields = {names[name]: value for name, value in case.get("model", {}).items()}
    return M3SR(dtype=jnp.dtype(dtype), param_dtype=jnp.dtype(dtype), implementation=implementation, **fields)


def relative_error(got, expected):
    return float(np.abs(np.asarray(got, np.float64) - expected).max() / np.abs(expected).max())


def run_case(case, dtype, implementation):
    """Gives loss, output, activations under release names, and gradients in the release's layout."""
    model = build(case, dtype, implementation)
    params = jax.tree.map(lambda leaf: leaf.astype(dtype), params_from_release(draw_state_dict(case), model))
    rgb, target = draw_images(case, dtype)

    def loss_and_rest(params):
        output, state = model.apply({"params": params}, rgb, capture_intermediates=True)
        return mae(output, target), (output, release_activations(model, state["intermediates"]))

    run = jax.jit(jax.value_and_grad(loss_and_rest, has_aux=True), compiler_options=QUICK)
    (loss, (output, activations)), grads = run(params)
    return float(loss), output, activations, params_to_release(grads, model)


def check_probes(case, grads, bar):
    """Compares the norm of every gradient and its products with two random tensors, relative to the norm."""
    assert list(grads) == list(case["grads"])
    errors = {}
    for key, expected in case["grads"].items():
        if expected is None:
            assert not grads[key].any(), f"{key} has no gradient in the release"
            continue
        grad = grads[key].astype(np.float64)
        probes = generator(f"probe:{key}", case["seed"]).standard_normal((2, *grad.shape))
        got = [np.linalg.norm(grad), *(probes * grad[None]).reshape(2, -1).sum(1)]
        errors[key] = np.abs(np.subtract(got, expected)).max() / expected[0]
    above = {key: f"{error:.1e}" for key, error in errors.items() if not error <= bar}
    assert not above, f"gradients above {bar:.0e}: {above}"


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_case_agrees_with_the_release(name, dtype):
    implementation = None if (name, dtype) in BY_DEFAULT_SCANS else "reference"
    if implementation is not None and "M3SR_PARITY_DIR" not in os.environ:
        pytest.skip("set M3SR_PARITY_DIR, the folder of the release's numbers, for the cases that take longer")
    case, deep = CASES[name], name == "two_stage_deep"
    with np.load(parity_file(f"{name}.npz")) as stored, jax.enable_x64(dtype == "float64"):
        loss, output, activations, grads = run_case(case, dtype, implementation)
        output_bar = (DEEP_OUTPUT_BARS if deep else OUTPUT_BARS)[dtype]
        assert relative_error(output, channels_last(stored["output"])) <= output_bar
        assert loss == pytest.approx(case["loss"], rel=LOSS_BARS[dtype])
        for key in stored.files[1:]:
            error = relative_error(activations[key.removeprefix("act:")], channels_last(stored[key]))
            assert error <= ACTIVATION_BARS[dtype], f"{key}: {error:.2e}"
        check_probes(case, grads, (DEEP_GRADIENT_BARS if deep else GRADIENT_BARS)[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_twenty_steps_of_training_agree_with_the_release(dtype):
    if dtype == "float64" and "M3SR_PARITY_DIR" not in os.environ:
        pytest.skip("set M3SR_PARITY_DIR, the folder of the release's numbers, for the cases that take longer")
    case = {**TRAJECTORY, "params": CASES["default"]["params"]}
    with jax.enable_x64(dtype == "float64"):
        model = build(case, dtype, "reference")
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params_from_release(draw_state_dict(case), model))
        config = OptimConfig(learning_rate=case["lr0"], final_learning_rate=case["eta_min"])
        rates = [float(learning_rate_schedule(config, case["steps"])(i)) for i in range(case["steps"])]
        np.testing.assert_allclose(rates, case["lrs"], rtol=RATE_BARS[dtype])
        optimizer = make_optimizer(config, case["steps"])
        state = create_train_state(model, optimizer, jax.random.key(0), params)
        step = jax.jit(functools.partial(train_step, model, optimizer), donate_argnums=0, compiler_options=QUICK)
        rgb, target = draw_images(case, dtype)
        losses = []
        for _ in range(case["steps"]):
            state, metrics = step(state, {"rgb": rgb, "cube": target})
            losses.append(float(metrics["loss"]))
        np.testing.assert_allclose(losses, case["losses"], rtol=TRAJECTORY_LOSS_BARS[dtype])


def test_release_checkpoint_holds_the_default_weights():
    """With `test_case_agrees_with_the_release[default]`: default.pth gives default.npz."""
    pytest.importorskip("torch")
    state_dict, expected = read_release(parity_file("default.pth")), draw_state_dict(CASES["default"])
    assert list(state_dict) == list(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(state_dict[key], value)

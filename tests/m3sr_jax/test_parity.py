"""The network against numbers that the authors' release produced in float64."""

import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from quick_compilation import QUICK
from release_numbers import (
    channels_last,
    check_probes,
    draw_images,
    draw_state_dict,
    needs_time,
    parity_file,
    read_cases,
    relative_error,
)

from m3sr_jax.config import OptimConfig
from m3sr_jax.convert import params_from_release, params_to_release, read_release, release_activations
from m3sr_jax.models import M3SR
from m3sr_jax.training.losses import mae
from m3sr_jax.training.optimizer import learning_rate_schedule, make_optimizer
from m3sr_jax.training.state import create_train_state
from m3sr_jax.training.step import train_step

CASES = read_cases("cases.json.gz")
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
# float32 runs by the default scans, on a CPU by compiled kernels. float64 runs by the plain ones, which compile in a
# quarter of the time of XLA's and mean the same (tests/m3sr_kernels compares them).
SCANS = {"float32": None, "float64": "reference"}
COVERING = {("odd_size_g2", "float32"), ("g8", "float64"), ("default", "float64")}


def build(case, dtype, implementation):
    names = {"d_group": "num_groups", "stage": "num_stages", "num_blocks": "num_blocks"}
    fields = {names[name]: value for name, value in case.get("model", {}).items()}
    return M3SR(dtype=jnp.dtype(dtype), param_dtype=jnp.dtype(dtype), implementation=implementation, **fields)


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


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", CASES)
def test_case_agrees_with_the_release(name, dtype):
    if (name, dtype) not in COVERING:
        needs_time()
    case, deep = CASES[name], name == "two_stage_deep"
    with np.load(parity_file(f"{name}.npz")) as stored, jax.enable_x64(dtype == "float64"):
        loss, output, activations, grads = run_case(case, dtype, SCANS[dtype])
        output_bar = (DEEP_OUTPUT_BARS if deep else OUTPUT_BARS)[dtype]
        assert relative_error(output, channels_last(stored["output"])) <= output_bar
        assert loss == pytest.approx(case["loss"], rel=LOSS_BARS[dtype])
        for key in stored.files[1:]:
            error = relative_error(activations[key.removeprefix("act:")], channels_last(stored[key]))
            assert error <= ACTIVATION_BARS[dtype], f"{key}: {error:.2e}"
        check_probes(case, grads, (DEEP_GRADIENT_BARS if deep else GRADIENT_BARS)[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_twenty_steps_of_training_agree_with_the_release(dtype):
    needs_time()  # notebooks/01_parity.ipynb, run by every test run, does it in float32
    case = {**TRAJECTORY, "params": CASES["default"]["params"]}
    with jax.enable_x64(dtype == "float64"):
        model = build(case, dtype, SCANS[dtype])
        params = jax.tree.map(lambda leaf: jnp.asarray(leaf, dtype), params_from_release(draw_state_dict(case), model))
        config = OptimConfig(learning_rate=case["lr0"], final_learning_rate=case["eta_min"])
        rates = [float(learning_rate_schedule(config, case["steps"])(i)) for i in range(case["steps"])]
        np.testing.assert_allclose(rates, case["lrs"], rtol=RATE_BARS[dtype])
        optimizer = make_optimizer(config, case["steps"])
        state = create_train_state(optimizer, params)
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

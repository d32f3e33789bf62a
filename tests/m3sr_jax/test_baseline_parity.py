"""The baselines against numbers that their releases produced in float64."""

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
    generator,
    needs_time,
    parity_file,
    read_cases,
)

from m3sr_jax.convert import params_from_release, params_to_release
from m3sr_jax.models import create
from m3sr_jax.training.losses import mae

CASES = read_cases("baseline_cases.json.gz")
NAMES = {
    "mstpp": "mst_plus_plus",
    "hscnn": "hscnn_plus",
    "hrnet": "hrnet",
    "gmsr": "gmsr",
    "hsrnet": "hsrnet",
    "fmnet": "fmnet",
    "essaformer": "essaformer",
}

OUTPUT_BARS = {"float32": 5e-6, "float64": 1e-12}  # relative norm
LOSS_BARS = {"float32": 1e-6, "float64": 1e-12}
ESSAFORMER_LOSS_BAR = 5e-6  # in float32: XLA's own mean of |y − t| was off by 1e-6
GRADIENT_BARS = {"float32": 1e-4, "float64": 1e-10}
RELU_GRADIENT_BAR = 1e-3  # HSCNN+ in float32: one ReLU that flips in rounding moves a small gradient by 1e-4
GRADIENT_FLOORS = {"float32": 1e-3, "float64": 0.0}  # a share of the whole gradient's norm


def draw_tensor(key, shape, seed):
    """Redraws a weight from its release key; the first rule that fits its name holds."""
    n = generator(key, seed).standard_normal(shape)
    name = key.rpartition(".")[2]
    if name == "rescale":
        return 2 + 0.5 * n
    if name == "A_logs":
        return np.log(np.arange(1, shape[1] + 1))[None] + 0.1 * n
    if name == "Ds":
        return 1 + 0.2 * n
    if name == "dt_projs_bias":
        return -1 + 0.5 * n
    if name == "bias":
        return 0.1 * n
    if len(shape) == 1:
        return 1 + 0.1 * n
    return n / math.sqrt(shape[2] if name in ("dt_projs_weight", "x_proj_weight") else math.prod(shape[1:]))


def draw_state_dict(case):
    gains = [*case["gain"], ("", 1)]
    return {
        key: draw_tensor(key, shape, case["seed"]).astype(np.float32)
        * np.float32(next(gain for ending, gain in gains if key.endswith(ending)))
        for key, shape in case["params"].items()
    }


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("size", ["odd", "even"])
@pytest.mark.parametrize("short", NAMES)
def test_case_agrees_with_the_release(short, size, dtype):
    if (size, dtype) != ("odd", "float32") and (short, size, dtype) != ("mstpp", "even", "float64"):
        needs_time()
    case = CASES[short][f"{short}_{size}"]
    with np.load(parity_file(f"{short}_{size}.npz", "baselines")) as stored, jax.enable_x64(dtype == "float64"):
        model = create(NAMES[short], dtype=jnp.dtype(dtype), param_dtype=jnp.dtype(dtype))
        params = jax.tree.map(lambda leaf: leaf.astype(dtype), params_from_release(draw_state_dict(case), model))
        rgb, target = draw_images(case, dtype)

        def loss_and_output(params):
            output = model.apply({"params": params}, rgb)
            return mae(output, target), output

        run = jax.jit(jax.value_and_grad(loss_and_output, has_aux=True), compiler_options=QUICK)
        (loss, output), grads = run(params)
        expected = channels_last(stored["output"])
        error = np.linalg.norm(np.asarray(output, np.float64) - expected) / np.linalg.norm(expected)
        assert error <= OUTPUT_BARS[dtype]
        loss_bar = ESSAFORMER_LOSS_BAR if (short, dtype) == ("essaformer", "float32") else LOSS_BARS[dtype]
        assert float(loss) == pytest.approx(case["loss"], rel=loss_bar)
        bar = RELU_GRADIENT_BAR if (short, dtype) == ("hscnn", "float32") else GRADIENT_BARS[dtype]
        check_probes(case, params_to_release(grads, model), bar, GRADIENT_FLOORS[dtype])


@pytest.mark.parametrize("short", NAMES)
def test_round_trip_is_exact(short):
    """In the release's order; tensors that it never uses come back as zeros."""
    case = CASES[short][f"{short}_odd"]
    model, state_dict = create(NAMES[short]), draw_state_dict(case)
    back = params_to_release(params_from_release(state_dict, model), model)
    assert list(back) == list(state_dict)
    for key, value in state_dict.items():
        used = case["grads"][key] is not None
        np.testing.assert_array_equal(back[key], value if used else np.zeros_like(value))

"""The scans against numbers of the release, forward and gradient, in float32 and float64.

Every case by the definition in float64, with which test_implementations compares all implementations, and by what runs
on a CPU; the other implementations and types on one case of each op. `make parity` runs all of them on all cases.
"""

import os
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from m3sr_kernels import s6_scan, ssd_scan
from m3sr_kernels.s6_scan.api import IMPLEMENTATIONS as S6
from m3sr_kernels.ssd_scan.api import IMPLEMENTATIONS as SSD
from quick_compilation import QUICK
from release_numbers import needs_time

HERE = Path(__file__).parents[1] / "parity"
CASES = [
    "ssd_small",
    "ssd_prime_length",
    "ssd_model",
    "ssd_bottleneck",
    "s6_groups16",
    "s6_long",
    "s6_model",
    "s6_wide",
]
ON_EVERY_CASE = {("reference", "float64"), ("xla", "float32"), ("native", "float32")}
BY_ALL = {"ssd_prime_length", "s6_groups16"}
# Largest difference over the largest reference value. The release's bars; its numbers are float64.
BARS = {
    "float32": {"y": 3e-6, "final_state": 1e-5, "a_log": 5e-5, "dt_bias": 5e-5, "gradient": 1e-5},
    "float64": {"y": 1e-12, "final_state": 1e-12, "a_log": 1e-12, "dt_bias": 1e-12, "gradient": 1e-12},
}


def load(case: str) -> dict[str, np.ndarray]:
    path = HERE / f"scan_{case}.npz"
    if not path.exists():
        folder = os.environ.get("M3SR_PARITY_DIR")
        if not folder:
            pytest.skip(f"set M3SR_PARITY_DIR to the folder that holds {path.name}; the smaller cases run without it")
        path = Path(folder) / path.name
    with np.load(path) as arrays:
        return dict(arrays)


def run_ssd(inputs, implementation):
    a = -jnp.exp(0.3 * inputs["a_log"])
    x, dt, b, c, d, dt_bias = (inputs[name] for name in ("x", "dt", "b", "c", "d", "dt_bias"))
    return ssd_scan(x, dt, a, b, c, d, dt_bias, implementation=implementation, interpret=True, return_final_state=True)


def run_s6(inputs, implementation):
    a = -jnp.exp(0.3 * inputs["a_log"] + 0.5)
    x, dt, b, c, d, z, dt_bias = (inputs[name] for name in ("x", "dt", "b", "c", "d", "z", "dt_bias"))
    return s6_scan(x, dt, a, b, c, d, z, dt_bias, implementation=implementation, interpret=True), None


def error(got, expected) -> float:
    return float(np.abs(np.asarray(got, np.float64) - expected).max() / np.abs(expected).max())


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(
    ("case", "implementation"),
    [(case, name) for case in CASES for name in (SSD if "ssd" in case else S6)],
)
def test_scan_gives_the_release_numbers(case, implementation, dtype, small_tiles):
    if case not in BY_ALL and (implementation, dtype) not in ON_EVERY_CASE:
        needs_time()
    if implementation == "pallas_mosaic":
        pytest.skip("Mosaic has no float64 and takes minutes to interpret: test_implementations runs it on small cases")
    if implementation == "native" and dtype == "float64":
        pytest.skip("native kernels compute in float32 and refuse float64: native/test_call")
    expected = load(case)
    run = run_ssd if "ssd" in case else run_s6
    with jax.enable_x64(dtype == "float64"):
        names = [name for name in expected if name.startswith("in_")]
        inputs = {name.removeprefix("in_"): jnp.asarray(expected[name], dtype) for name in names}
        cotangent = jnp.asarray(expected["cotangent"], dtype)

        def objective(inputs):
            y, state = run(inputs, implementation)
            return jnp.sum(y * cotangent), (y, state)

        # Long programs for few pixels: all but the one that CPUs run by default are compiled without optimisation.
        options = None if (implementation, dtype) == ("xla", "float32") else QUICK
        run_both = jax.jit(jax.value_and_grad(objective, has_aux=True), compiler_options=options)
        (_, (y, state)), gradients = run_both(inputs)
    bars = BARS[dtype]
    assert error(y, expected["y"]) < bars["y"]
    if state is not None:
        assert error(state, expected["final_state"]) < bars["final_state"]
    for name, gradient in gradients.items():
        assert error(gradient, expected[f"grad_{name}"]) < bars.get(name, bars["gradient"]), name

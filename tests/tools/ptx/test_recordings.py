"""Recorded launches of this project's kernels, forward and backward, by Triton and Mosaic.

`python -m tools.ptx … --save` wrote them, in runs whose results agreed with float64. The kernels may have changed
since.
"""

from pathlib import Path

import numpy as np
import pytest

from tools.ptx.damage import KINDS, damages, notice
from tools.ptx.execute import execute
from tools.ptx.recording import load, save

FOLDER = Path(__file__).parent / "recordings"
NAMES = sorted(path.stem for path in FOLDER.glob("*.npz"))
TOLERANCE = 1e-6  # over the largest value: NumPy's 2ˣ differs between CPUs
HALF_TOLERANCE = 2**-8  # so may the rounding to bfloat16
# Damages that leave no sign somewhere: a barrier that repeats another, a comparison that both sides satisfy.
MAY_PASS = ("barrier dropped", "less to less or equal", "addend dropped")


def recording(name):
    return load(FOLDER / f"{name}.npz")


@pytest.mark.parametrize("order", ["together", "first", "last"])
@pytest.mark.parametrize("name", NAMES)
def test_a_recorded_launch_gives_its_outputs_without_faults(name, order):
    launch, arrays, outputs = recording(name)
    got, report = execute(launch, arrays, order=order)
    assert not report.faults, report
    for mine, theirs in zip(got, outputs, strict=True):
        error = np.abs(mine.astype(np.float64) - theirs.astype(np.float64)).max()
        half = theirs.dtype not in (np.float32, np.float64)
        assert error <= (HALF_TOLERANCE if half else TOLERANCE) * np.abs(theirs.astype(np.float64)).max()


def definition(x, dt, a, b, c, d, z, dt_bias):
    """S6 in float64; arrays are (sequences, tokens, …), a is (channels, states)."""
    steps = np.logaddexp(0, dt + dt_bias)
    state, y = np.zeros((*x.shape[::2], a.shape[1])), np.empty(x.shape)
    for t in range(x.shape[1]):
        delta = steps[:, t, :, None]
        state = np.exp(delta * a) * state + delta * x[:, t, :, None] * b[:, t, None]
        y[:, t] = (state * c[:, t, None]).sum(-1) + d * x[:, t]
    return y * z / (1 + np.exp(-z))


@pytest.mark.parametrize("backend", ["triton", "mosaic"])
def test_a_compiled_scan_equals_its_definition(backend):
    """Triton's kernel takes the transposed rates times log₂ e, Mosaic's all arrays with the sequences last."""
    launch, arrays, _ = recording(f"s6_forward_{backend}")
    [y], _ = execute(launch, arrays)
    inputs = [array.astype(np.float64) for array in arrays]
    if backend == "triton":
        a, b, c, d, dt, dt_bias, x, z = inputs
        a = a.T / np.log2(np.e)
    else:
        x, dt, b, c, z = (np.moveaxis(array, 2, 0) for array in inputs[:5])
        a, d, dt_bias = inputs[5:]
        y = np.moveaxis(y, 2, 0)
    expected = definition(x, dt, a, b, c, d, z, dt_bias)
    assert np.abs(y - expected).max() <= TOLERANCE * np.abs(expected).max()


@pytest.mark.parametrize("name", ["s6_forward_triton", "s6_backward_triton", "ss2d_chunk_states_triton_bfloat16"])
@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in MAY_PASS])
def test_damage_is_noticed(name, kind):
    launch, arrays, _ = recording(name)
    outputs, _ = execute(launch, arrays)
    for damage in damages(launch, kind, most=1):
        assert notice(launch, arrays, outputs, damage), damage.instruction


@pytest.mark.parametrize("name", ["s6_backward_triton", "ss2d_outputs_triton_bfloat16"])
def test_a_missing_barrier_is_noticed(name):
    launch, arrays, _ = recording(name)
    outputs, _ = execute(launch, arrays)
    [damage] = damages(launch, "barrier dropped", most=1)
    assert "race" in (notice(launch, arrays, outputs, damage) or "")


def test_a_recording_is_what_was_saved(tmp_path):
    launch, arrays, outputs = recording("ss2d_chunk_states_triton_bfloat16")
    save(tmp_path / "again.npz", launch, arrays, outputs)
    again, *both = load(tmp_path / "again.npz")
    assert again == launch
    for mine, theirs in zip([*both[0], *both[1]], [*arrays, *outputs], strict=True):
        assert (mine.dtype, mine.tobytes()) == (theirs.dtype, theirs.tobytes())

"""The GPU kernels, compiled for a GPU and executed as PTX on the CPU: `make gpu-execute`.

Errors are largest differences to the definition in float64 over the largest value.
"""

import itertools
import json
from importlib import import_module
from pathlib import Path

import jax
import pytest

pytest.importorskip("jax_plugins.xla_cuda13", reason="compiles for a GPU: make gpu-execute")
if jax.__version_info__ >= (0, 11):
    pytest.skip("jax 0.11 compiles Triton kernels for the local GPU only: make gpu-execute", allow_module_level=True)

from tools.ptx.counts import JOBS, rows_of
from tools.ptx.damage import KINDS, damages, notice
from tools.ptx.execute import execute_addresses
from tools.ptx.ops import compare, function_of, shapes_module, specs
from tools.ptx.pallas import compiled_launches

# In bfloat16 each result of a scan is rounded once, by at most half a unit of the largest.
TOLERANCES = {"float64": 1e-14, "float32": 1.3e-6, "bfloat16": 2**-8}
NOISE = 2.4e-7  # relative: 2⁻²², the documented error of 2ˣ
NOISY_TOLERANCE = 2e-6  # TOLERANCES["float32"] and some units of that noise
TRITON, MOSAIC = "pallas_triton", "pallas_mosaic"
# Several chunks, blocks of channels and blocks of sequences, none of them full.
ODD = {
    "s6_scan": (13, 4, 67, 16),
    "mamba_token_mix": (13, 4, 31, 16),
    "ssd_scan": (2, 300, 6, 31, 2, 8),
    "ss2d_scan": (2, 13, 23, 3, 31, 8),
}
SMALL = {
    "s6_scan": (9, 4, 67, 3),
    "mamba_token_mix": (7, 4, 20, 3),
    "ssd_scan": (1, 131, 3, 5, 1, 2),
    "ss2d_scan": (1, 5, 29, 3, 5, 2),
}
# Segments of tokens under lax.scan, 16 states, one pixel more than a chunk, 32 channels without a mask; more states
# than the gradient by Mosaic takes at once.
OTHERS = [
    ("s6_scan", TRITON, (5, 19, 33, 4)),
    ("s6_scan", TRITON, (130, 1, 3, 2)),
    ("s6_scan", MOSAIC, (130, 16, 3, 2)),
    ("s6_scan", MOSAIC, (300, 1, 3, 17)),
    ("s6_scan", MOSAIC, (9, 8, 3, 1)),
    ("mamba_token_mix", TRITON, (5, 7, 20, 3)),
    ("ssd_scan", TRITON, (1, 129, 4, 32, 1, 16)),
    ("ss2d_scan", TRITON, (1, 7, 41, 5, 32, 2)),
    ("ss2d_scan", MOSAIC, (1, 7, 41, 5, 32, 2)),
    ("ssd_scan", MOSAIC, (1, 129, 4, 3, 2, 11)),
]
BOTH = [(op, implementation) for op in ODD for implementation in (TRITON, MOSAIC)]


def check(op, implementation, sizes, dtype="float32", tolerance=None, looser=None, **options):
    """`looser` has other tolerances, by the name of the error."""
    result = compare(op, shapes_module(op).Shape(*sizes), dtype, implementation, **options)
    assert result.launches
    assert result.faults == []
    tolerances = dict.fromkeys(result.errors, tolerance or TOLERANCES[dtype]) | (looser or {})
    assert all(error <= tolerances[name] for name, error in result.errors.items()), result.errors
    return result


@pytest.mark.parametrize(("op", "implementation"), BOTH)
def test_float32_with_exact_and_with_inexact_instructions(op, implementation):
    check(op, implementation, ODD[op])
    check(op, implementation, ODD[op], tolerance=NOISY_TOLERANCE, noise=NOISE)


@pytest.mark.parametrize(("op", "implementation"), BOTH)
def test_bfloat16(op, implementation):
    """The scans round once, the mixer every array between its products: there XLA's own error is the measure."""
    tolerance = None
    if op == "mamba_token_mix":
        tolerance = 2 * compare(op, shapes_module(op).Shape(*ODD[op]), "bfloat16", "xla").worst
    check(op, implementation, ODD[op], "bfloat16", tolerance)


@pytest.mark.parametrize("op", ODD)
def test_float64(op):
    """Mosaic computes in float32."""
    check(op, TRITON, SMALL[op], "float64")


@pytest.mark.parametrize(("op", "implementation", "sizes"), OTHERS)
def test_other_sizes(op, implementation, sizes):
    check(op, implementation, sizes)


def test_programs_of_several_blocks_of_sequences(monkeypatch):
    """As at the model's sizes: two programs with three blocks and with two."""
    monkeypatch.setattr(import_module("m3sr_kernels.s6_scan.mosaic_backward"), "PROGRAMS", 4)
    check("s6_scan", MOSAIC, (600, 4, 5, 3))


@pytest.mark.parametrize(("op", "implementation"), [pair for pair in BOTH if pair[0] != "mamba_token_mix"])
def test_hard_steps_and_no_skip_gate_or_bias(op, implementation):
    # The terms of one db of this sequence cancel: in float32 the definition itself is 1.9e-6 off.
    looser = {"db": NOISY_TOLERANCE} if (op, implementation) == ("ssd_scan", MOSAIC) else None
    check(op, implementation, SMALL[op], looser=looser, hard_steps=True)
    optional = {"s6_scan": ("d", "z", "dt_bias"), "ssd_scan": ("d", "dt_bias"), "ss2d_scan": ()}[op]
    if optional:
        check(op, implementation, SMALL[op], without=optional)


@pytest.mark.parametrize("order", ["first", "last"])
@pytest.mark.parametrize(("op", "implementation"), [pair for pair in BOTH if pair[1] == MOSAIC or "ss" not in pair[0]])
def test_warps_run_in_either_order(op, implementation, order):
    """A program of the SSD kernels by Triton is one warp."""
    result = check(op, implementation, SMALL[op], order=order)
    assert all(run.launch.threads[0] > 32 for run in result.launches)


@pytest.mark.parametrize(
    ("op", "gpu"),
    [
        ("s6_scan", "NVIDIA A100"),
        ("ssd_scan", "NVIDIA A100"),
        ("mamba_token_mix", "NVIDIA GeForce RTX 4090"),
        ("ss2d_scan", "NVIDIA GeForce RTX 4090"),
    ],
)
def test_code_for_other_gpus(op, gpu):
    check(op, TRITON, SMALL[op], gpu=gpu)


# The largest array has 2^31 to 2^33 elements.
HUGE = [
    ("s6_scan", TRITON, (32 * 512 * 512, 4, 62)),
    ("s6_scan", TRITON, (4096 * 4096, 4, 62)),
    ("s6_scan", MOSAIC, (4096 * 4096, 4, 62)),
    ("ss2d_scan", TRITON, (32, 1024, 1024, 2, 31, 8)),
    ("ss2d_scan", TRITON, (32, 2048, 2048, 2, 31, 8)),
    ("ss2d_scan", MOSAIC, (1, 4096, 4096, 4, 31, 8)),
]
GRID_LIMITS = (2**31 - 1, 65535, 65535)


@pytest.mark.parametrize(("op", "implementation", "sizes"), HUGE)
def test_addresses_at_huge_sizes(op, implementation, sizes):
    shape = shapes_module(op).Shape(*sizes)
    launches = compiled_launches(function_of(op, implementation), specs(shape, "float32"))
    assert launches
    for launch in launches:
        assert all(size <= most for size, most in zip(launch.grid, GRID_LIMITS, strict=True)), launch.name
        report = execute_addresses(launch)
        assert not report.faults, f"{launch.name}: {report}"


# Damages that may leave no sign: barriers that repeat others, comparisons whose sides are never equal, sums whose first
# addend is 0.
MAY_PASS = ("barrier dropped", "less to less or equal", "addend dropped")


@pytest.mark.parametrize(("op", "implementation"), BOTH)
def test_damage_is_noticed(op, implementation):
    """Each kind of damage, in one of the kernels that it applies to."""
    runs = check(op, implementation, SMALL[op]).launches
    noticed = {}
    for number, kind in enumerate(KINDS):
        rotated = runs[number % len(runs) :] + runs[: number % len(runs)]
        candidates = ((run, damage) for run in rotated for damage in damages(run.launch, kind, most=1))
        for run, damage in itertools.islice(candidates, 1):
            noticed[kind] = notice(run.launch, run.arrays, run.outputs, damage)
            assert noticed[kind] or kind in MAY_PASS, (run.launch.name, damage.instruction)
    if implementation == TRITON:  # Mosaic has no masks
        assert {"store mask dropped", "load address shifted", "store address shifted"} <= set(noticed)


@pytest.mark.parametrize(("op", "name"), [("s6_scan", "s6_scan_backward"), ("ss2d_scan", "ssd_chunk_states")])
def test_a_missing_barrier_is_noticed(op, name):
    """A barrier between warps, and the one after which lanes load the Δ that others stored; the rest repeat others."""
    run = next(run for run in check(op, TRITON, SMALL[op]).launches if run.launch.name == name)
    dropped = damages(run.launch, "barrier dropped", most=16)
    assert any("race" in (notice(run.launch, run.arrays, run.outputs, damage) or "") for damage in dropped)


RESULTS = Path(__file__).parents[3] / "benchmarks" / "results" / "gpu_instructions.jsonl"


@pytest.mark.parametrize("job", JOBS, ids=" ".join)
def test_instructions_are_as_recorded(job):
    """If a kernel has changed, look at the counts, then record them: `python -m tools.ptx.counts --help`."""
    recorded = [json.loads(line) for line in RESULTS.read_text().splitlines()]
    keys = ("op", "case", "implementation")
    expected = [row for row in recorded if tuple(row[key] for key in keys) == job and row["jax"] == jax.__version__]
    if not expected:
        pytest.skip(f"the file has no counts for jax {jax.__version__}, whose compiler may differ")
    assert [json.loads(json.dumps(row)) for row in rows_of(*job)] == expected

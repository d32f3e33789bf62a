"""The networks side by side: cost, and time and memory of a forward pass and a training step.

Command:  python benchmarks/bench_zoo.py [--models m3sr gmsr] [--sizes 256x256 482x512] [--training 1x128x128]
          [--output benchmarks/results/zoo.jsonl]

--sizes or --training without a value skips that part.

Every measurement runs in its own process. Peak memory is therefore its own, and one that fails, for lack of memory for
example, is reported without stopping the others. `temp_mib` is the working memory that XLA plans; `peak_host_mib` is
the peak resident memory of the process, the compiler's included. `share` is the exact operation count over the fastest
time, as a share of the rate of a large float32 matrix product in the same process. On a GPU the training step takes a
batch of 32 crops.
"""

from __future__ import annotations

import argparse
import os
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

import jax
from bench_model import TRAINING, gflop_of, time_forward, time_training_step
from measure import matmul_gflops, parser, save, show

from m3sr_jax.cli.xla_flags import plan_for_memory
from m3sr_jax.cost.count import PUBLISHED_SIZE, cost_report
from m3sr_jax.environment import peak_memory
from m3sr_jax.models import create, init_params
from m3sr_jax.networks import NETWORKS

Shape = tuple[int, ...]
FORWARD = [(1, 256, 256), (1, *PUBLISHED_SIZE)]


def cost(name: str) -> dict[str, Any]:
    """Parameters and operations at the size of the published counts."""
    total = cost_report(create(name), *PUBLISHED_SIZE).total
    assert total is not None
    counts = {"parameters": total.parameters, "parameters_in_release": total.parameters + total.unused}
    counts |= {"gflop": total.flops / 1e9, "thop_gflop": total.thop_flops / 1e9}
    network = NETWORKS[name]
    if network.published_gflop:
        as_published = round(total.thop_flops / 1e9, 1) == network.published_gflop
        counts |= {"published_gflop": network.published_gflop, "as_published": as_published}
    return counts | ({"note": network.note} if network.note else {})


def forward(name: str, shape: Shape) -> dict[str, Any]:
    """Times a forward pass of a batch of this shape."""
    model, before = create(name), matmul_gflops()
    times = time_forward(model, init_params(model, jax.random.key(0)), shape)
    rate, gflop = max(before, matmul_gflops()), gflop_of(model, shape)
    return {"gflop": gflop, "matmul_gflops": rate} | times | {"share": gflop / times["min_s"] / rate}


def training_step(name: str, shape: Shape | None) -> dict[str, Any]:
    """Times loss, gradient and Adam on a batch of this shape; None is the device's default batch."""
    batch, height, width = shape or TRAINING.get(jax.default_backend(), TRAINING["cpu"])[0]
    return {"shape": f"{batch}x{height}x{width}"} | time_training_step(create(name), (batch, height, width))


PEAKS = ("peak_host_mib", "peak_device_mib")
MODES = {"forward": forward, "training step": training_step}


def with_peaks(mode: str, name: str, shape: Shape | None) -> dict[str, Any]:
    """Measures, and adds the peak memory of this process (run in a child process)."""
    given = {} if shape is None else {"shape": "x".join(map(str, shape))}
    measured = MODES[mode](name, shape)  # type: ignore[arg-type]
    peaks = {f"peak_{where}_mib": size / 2**20 for where, size in peak_memory().items()}
    return given | measured | peaks


def measure_apart(mode: str, name: str, shape: Shape | None) -> dict[str, Any]:
    """Measures in a new process; the row of a failed measurement has the reason under "failed"."""
    row: dict[str, Any] = {"mode": mode, "model": name}
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        try:
            return row | pool.submit(with_peaks, mode, name, shape).result()
        except Exception as error:  # the other measurements go on
            reason = str(error).partition("\n")[0]
            given = {} if shape is None else {"shape": "x".join(map(str, shape))}
            return row | given | {"failed": f"{type(error).__name__}: {reason}"}


def markdown(costs: dict[str, dict[str, Any]], rows: list[dict[str, Any]]) -> str:
    """Two Markdown tables: costs beside the published ones, and measurements."""
    lines = ["| | parameters used | in the release's files | exact GFLOP | `thop` GFLOP | published |"]
    lines.append("|---|" + "---:|" * 5)
    for name, c in costs.items():
        counts = f"{c['parameters']:,} | {c['parameters_in_release']:,} | {c['gflop']:.1f} | {c['thop_gflop']:.1f}"
        lines.append(f"| {_label(name)} | {counts} | {c.get('published_gflop', '–')} |")
    lines += ["", "| | | time | share | working memory | peak, host | peak, device | compiling |"]
    lines.append("|---|---|" + "---:|" * 6)
    for row in rows:
        what = f"| {_label(row['model'])} | {row['mode']}, {row.get('shape', '').replace('x', '×')} |"
        lines.append(f"{what} {row['failed']} | | | | | |" if "failed" in row else f"{what} {_cells(row)} |")
    notes = [rf"\* {NETWORKS[name].title} {NETWORKS[name].note}." for name in costs if NETWORKS[name].note]
    return "\n".join([*lines, *([""] if notes else []), *notes])


def _label(name: str) -> str:
    """The network's name, marked if its note follows the tables."""
    return NETWORKS[name].title + (r" \*" if NETWORKS[name].note else "")


def _cells(row: dict[str, Any]) -> str:
    share = f"{row['share']:.0%}" if "share" in row else ""
    memory = (f"{row[key] / 1024:.2f} GiB" if key in row else "" for key in ("temp_mib", *PEAKS))
    return " | ".join([f"{row['median_s']:.3g} s", share, *memory, f"{row['compile_s']:.0f} s"])


def shape_of(text: str) -> Shape:
    """'482x512' → (482, 512)."""
    try:
        shape = tuple(int(side) for side in text.split("x"))
    except ValueError:
        shape = ()
    if len(shape) not in (2, 3) or min(shape) < 1:
        raise argparse.ArgumentTypeError(f"{text}: expected HEIGHTxWIDTH or BATCHxHEIGHTxWIDTH")
    return (1, *shape)[-3:]


def main() -> None:
    plan_for_memory()  # as every command does; child processes inherit it
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # leaves the GPU's memory to the child processes
    options = parser(__doc__)
    options.add_argument("--models", nargs="+", default=list(NETWORKS), choices=list(NETWORKS), metavar="NAME")
    options.add_argument(
        "--sizes", nargs="*", type=shape_of, default=FORWARD, metavar="HxW", help="of the forward passes"
    )
    options.add_argument(
        "--training", type=shape_of, nargs="*", default=[None], metavar="BxHxW", help="of the training steps"
    )
    args = options.parse_args()
    jobs = [("forward", shape) for shape in args.sizes] + [("training step", shape) for shape in args.training]
    costs, rows = {name: cost(name) for name in args.models}, []
    for name in args.models:
        for mode, shape in jobs:
            rows.append(measure_apart(mode, name, shape))
            show(rows[-1])
            save(rows[-1:], "zoo", args.output)
    save([{"mode": "cost", "model": name, **counts} for name, counts in costs.items()], "zoo", args.output)
    print(markdown(costs, rows))


if __name__ == "__main__":
    main()

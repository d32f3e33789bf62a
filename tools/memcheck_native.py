"""Runs every native kernel under valgrind's memcheck, on small arrays of odd sizes.

    python tools/memcheck_native.py [--cases 6]

It needs valgrind (`apt-get install valgrind`) and x86-64. valgrind knows no AVX-512, so kernels are compiled for AVX2
and for SSE2. They are called through the handlers that XLA calls, without JAX; their working memory comes from malloc.
Errors in a kernel's own code count, those of the interpreter do not. The exit code is 1 if there is one.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import pickle
import re
import subprocess
import sys
import tempfile
import types
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
STATES = (8, 5)
TARGETS = {"avx2": ("haswell", "+avx,+avx2,+fma"), "sse2": ("x86-64", "+sse2")}
UNKNOWN = re.compile(rb"\xc5[\x79\xf9]\xd6[\xc0-\xff]")  # vmovq between registers, which valgrind 3.19 refuses
# Redzones as wide as eight vectors of 64 bytes: a kernel that misses its buffer hits one.
VALGRIND = ["valgrind", "--error-limit=no", "--redzone-size=512", "--num-callers=6"]
ERROR = re.compile(r"^==\d+== (Invalid|Conditional|Use of|Jump|Process terminating).*", re.MULTILINE)


def make_cases(folder: Path, cases: int) -> None:
    """Writes the object files of each kernel and random arguments."""
    import numpy as np
    from m3sr_kernels.native import compiler, ffi
    from m3sr_kernels.native.target import Target, host

    from tests.m3sr_kernels.native.kernels import KERNELS, buffers, sizes

    for (name, make), states, (family, described) in itertools.product(KERNELS.items(), STATES, TARGETS.items()):
        kernel, symbol = make(states), f"{name.replace(' ', '_')}_{states}_{family}"
        build = functools.partial(ffi.add_handler, name=symbol, kernel=kernel)
        code = compiler.compile_object(symbol, build, Target(host().triple, *described))
        if family == "avx2" and UNKNOWN.search(code):
            print(f"{symbol}: left out, valgrind does not know an instruction of it")
            continue
        calls = []
        for seed in range(cases):
            rng = np.random.default_rng(seed)
            letters = sizes(rng, states)[name.split()[0]]
            calls.append(
                [buffers(part, letters, rng) for part in (kernel.signature.arguments, kernel.signature.results)]
            )
        (folder / f"{symbol}.pickle").write_bytes(pickle.dumps({"code": code, "calls": calls, "name": symbol}))


def run_cases(folder: Path) -> None:
    """Calls every kernel; runs under valgrind, where importing JAX would take minutes."""
    package: Any = types.ModuleType("m3sr_kernels")
    package.__path__ = [str(ROOT / "kernels" / "m3sr_kernels")]
    sys.modules["m3sr_kernels"] = package
    from m3sr_kernels.native import compiler
    from m3sr_kernels.native.target import host

    from tests.m3sr_kernels.native.frames import Runtime

    for path in sorted(folder.glob("*.pickle")):
        case = pickle.loads(path.read_bytes())
        handler = compiler._link(case["name"], case["code"], host())
        for number, (arguments, results) in enumerate(case["calls"]):
            runtime = Runtime(1 + 3 * number, late=number % 2 == 0)
            if runtime.call(handler, arguments, results) is not None:
                raise RuntimeError(f"{case['name']}: {runtime.messages}")
            print("called", case["name"], number, flush=True, file=sys.stderr)


def kernel_errors(log: str) -> list[str]:
    """The reports whose first frame is in no file: code that was compiled in the process."""
    reports = re.split(r"^==\d+== \n", log, flags=re.MULTILINE)
    own = re.compile(r"at 0x[0-9A-F]+: \?\?\?$", re.MULTILINE)
    return [report for report in reports if ERROR.search(report) and own.search(report)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=6, help="calls of each kernel")
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.folder:
        run_cases(args.folder)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        make_cases(Path(folder), args.cases)
        command = [*VALGRIND, sys.executable, __file__, "--folder", folder]
        environment = os.environ | {"PYTHONMALLOC": "malloc"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    errors, calls = kernel_errors(done.stderr), re.findall(r"^called (\S+) \d+$", done.stderr, re.MULTILINE)
    print(*errors, f"{len(calls)} calls of {len(set(calls))} kernels, {len(errors)} errors", sep="\n")
    if done.returncode:
        print(done.stderr[-3000:])
    return int(bool(errors or done.returncode))


if __name__ == "__main__":
    raise SystemExit(main())

"""Feeds damaged files to every reader, in worker processes with limits on memory and time.

    python tools/fuzz_readers.py --output benchmarks/results/fuzz.jsonl
    python tools/fuzz_readers.py --cases 500 --readers mat73 npz --keep failures

A case passes if the reader raises a one-line InputError or returns a valid result. It fails on any other exception, a
crash, or too much CPU time or memory. --keep saves the files of failed cases. The exit code is 1 if any case failed.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from importlib.util import find_spec
from pathlib import Path
from random import Random
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))  # a script has only its own folder there

from m3sr_jax.errors import InputError
from tools.fuzz_subjects import SUBJECTS, Subject

# Modules, and their packages, that readers need beyond the package's own dependencies.
NEEDED = {"pth": ("torch", "torch"), "heic": ("pillow_heif", "pillow-heif"), "raw": ("rawpy", "rawpy")}
CASE_SECONDS = 5  # CPU time of a case, after which the worker is stopped
MEMORY_LIMIT = 512 * 2**20  # bytes a worker may allocate beyond what reading the valid files took
CHECKPOINT_MEMORY_LIMIT = 2**31  # TensorStore's threads reserve address space


def run_case(subject: Subject, folder: Path, path: Path, random: Random) -> str:
    """Damages one file, reads it and restores it; returns "refused", "answered" or what went wrong."""
    valid = path.read_bytes()
    path.write_bytes(subject.damage(random, valid))
    try:
        return attempt(subject, path if subject.target is None else folder / subject.target)
    finally:
        path.write_bytes(valid)


def attempt(subject: Subject, path: Path) -> str:
    """Reads a file that may be damaged; returns "refused", "answered" or what went wrong."""
    try:
        subject.read(path)
    except InputError as error:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, MemoryError):
                return f"requested too much memory: {error}"
            cause = cause.__cause__
        one_line = "\n" not in str(error) and len(str(error)) < 2000
        return "refused" if one_line else f"not one short line: {str(error)[:200]!r}"
    except (Exception, BaseException) as error:  # a Rust library's panic is not an Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return f"{type(error).__name__}: {str(error)[:300]} at {traceback.extract_tb(error.__traceback__)[-1][:3]}"
    return "answered"


def files_of(folder: Path) -> list[Path]:
    """The files that can be damaged."""
    return sorted(path for path in folder.rglob("*") if path.is_file())


def worker(name: str, folder: Path, first: int, cases: int) -> None:
    """Runs cases and prints each outcome as a JSON line, then peak memory and CPU time."""
    subject = SUBJECTS[name]
    if not files_of(folder):
        subject.make(folder)
    paths = files_of(folder)
    warnings.simplefilter("ignore")
    for path in paths:
        subject.read(path if subject.target is None else folder / subject.target)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = CHECKPOINT_MEMORY_LIMIT if name == "checkpoint" else MEMORY_LIMIT
    resource.setrlimit(resource.RLIMIT_AS, (used + limit, used + limit))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.process_time()
    for case in range(first, cases):
        random = Random(f"{name} {case}")
        path = random.choice(paths)
        print(json.dumps({"case": case, "file": str(path.relative_to(folder))}), flush=True)
        signal.setitimer(signal.ITIMER_PROF, CASE_SECONDS)  # kills the process: a hung library ignores exceptions
        outcome = run_case(subject, folder, path, random)
        signal.setitimer(signal.ITIMER_PROF, 0)
        print(json.dumps({"outcome": outcome}), flush=True)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps({"memory_mib": grown / 1024, "cpu_s": time.process_time() - start}), flush=True)


def fuzz(name: str, cases: int, keep: Path | None) -> dict[str, Any]:
    """Runs all cases of a reader, with a new worker after each crash.

    Returns:
        cases, counts of refused and answered, failures, CPU seconds and peak memory.
    """
    counts, failures, cpu, memory = {"refused": 0, "answered": 0}, [], 0.0, 0.0
    with tempfile.TemporaryDirectory() as folder:
        first = 0
        while first < cases:
            shutil.rmtree(folder)  # a crash leaves a damaged file
            Path(folder).mkdir()
            command = [sys.executable, __file__, "--worker", name, folder, str(first), str(cases)]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            last: dict[str, Any] = {}
            for record in map(json.loads, done.stdout.splitlines()):
                last |= record
                outcome = record.get("outcome")
                if outcome in counts:
                    counts[outcome] += 1
                elif outcome is not None:
                    failures.append({"case": last["case"], "file": last["file"], "what": outcome})
            if "cpu_s" in last:
                cpu, memory = cpu + last["cpu_s"], max(memory, last["memory_mib"])
                break
            if "case" not in last:
                raise RuntimeError(f"{name}: the worker did not start: {done.stderr[-2000:]}")
            cause = signal.Signals(-done.returncode).name if done.returncode < 0 else done.stderr[-300:]
            failures.append({"case": last["case"], "file": last["file"], "what": f"the worker ended: {cause}"})
            first = last["case"] + 1
        for failure in failures:
            if keep is not None:
                _keep(name, Path(folder), failure, keep)
    return {"reader": name, "cases": cases, **counts, "failures": failures, "cpu_s": cpu, "memory_mib": memory}


def _keep(name: str, folder: Path, failure: dict[str, Any], keep: Path) -> None:
    """Saves the damaged file of a failed case."""
    keep.mkdir(parents=True, exist_ok=True)
    shutil.rmtree(folder)
    folder.mkdir()
    SUBJECTS[name].make(folder)
    random = Random(f"{name} {failure['case']}")
    path = random.choice(files_of(folder))
    damaged = SUBJECTS[name].damage(random, path.read_bytes())
    (keep / f"{name}-{failure['case']}-{path.name}").write_bytes(damaged)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=10_000, help="damaged files for each reader")
    parser.add_argument("--readers", nargs="+", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--keep", type=Path, help="folder in which to save the files of failed cases")
    parser.add_argument("--output", type=Path, help="JSON-lines file to append to")
    options = parser.parse_args()
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
    failed = 0
    for name in options.readers:
        if name in NEEDED and find_spec(NEEDED[name][0]) is None:
            module, package = NEEDED[name]
            print(f"skipped {name}: it needs {module}; run pip install {package}", file=sys.stderr)
            continue
        row = fuzz(name, options.cases, options.keep)
        print(json.dumps(row | {"failures": len(row["failures"])}), flush=True)
        for failure in row["failures"][:20]:
            print("   ", failure)
        failed += len(row["failures"])
        if options.output:
            with options.output.open("a") as file:
                file.write(json.dumps(row) + "\n")
    return int(failed > 0)


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    if sys.argv[1:2] == ["--worker"]:
        worker(sys.argv[2], Path(sys.argv[3]), int(sys.argv[4]), int(sys.argv[5]))
    else:
        sys.exit(main())

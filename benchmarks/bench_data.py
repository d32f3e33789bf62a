"""Batches of 32 crops of 128×128 per second, from a prepared store and directly from the .mat files.

    python benchmarks/bench_data.py [--download DIR --store DIR] [--batches 200] [--output FILE]

Without --download and --store it creates a few scenes of 482×512×31 in the NTIRE 2022 layout and prepares them. Each
measurement runs in its own process, which gives it its own peak memory. Wall time depends on the machine's other work;
CPU time per batch, over all threads, depends on it less. `batches_per_s_by_cpu` is the upper limit, cores / CPU time.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from measure import parser, save, show

SIZE = (482, 512)


def main() -> None:
    """Measures the store, the files, and the store again with its pages in the system's cache."""
    options = parser(__doc__)
    options.add_argument("--download", type=Path, help="NTIRE 2022 as downloaded")
    options.add_argument("--store", type=Path, help="the store that m3sr prepare wrote")
    options.add_argument("--batches", type=int, default=200, help="batches timed from the store")
    options.add_argument("--raw-batches", type=int, default=5, help="batches timed from the files")
    options.add_argument("--only", type=Path, help="measure this folder in this process and print JSON (internal)")
    arguments = options.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments.only, arguments.batches)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        download, store = arguments.download, arguments.store
        if download is None or store is None:
            download, store = make_scenes(Path(temporary))
        rows = []
        for name, folder, batches in (
            ("store", store, arguments.batches),
            ("mat files", download, arguments.raw_batches),
            ("store again", store, arguments.batches),
        ):
            command = [sys.executable, __file__, "--only", str(folder), "--batches", str(batches)]
            printed = subprocess.run(command, capture_output=True, text=True, check=True).stdout
            rows.append({"from": name, **json.loads(printed.splitlines()[-1])})
            show(rows[-1])
    save(rows, "data", arguments.output)


def measure(folder: Path, batches: int) -> dict[str, float | int | str]:
    """Times training batches, after two for warm-up."""
    from m3sr_jax.config import DataConfig
    from m3sr_jax.data.open import open_dataset
    from m3sr_jax.data.pipeline import train_batches
    from m3sr_jax.environment import peak_memory

    start = time.perf_counter()
    source = open_dataset(DataConfig(name="ntire2022", root=str(folder))).train
    opened = time.perf_counter() - start
    stream = train_batches(source, batch_size=32, crop_size=128, seed=0)
    for _ in range(2):
        next(stream)
    wall, cpu, load = time.perf_counter(), time.process_time(), os.getloadavg()[0]
    seconds = []
    for _ in range(batches):
        start = time.perf_counter()
        next(stream)
        seconds.append(time.perf_counter() - start)
    wall, cpu = (time.perf_counter() - wall) / batches, (time.process_time() - cpu) / batches
    stream.close()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return {
        "scenes": len(source),
        "batches": batches,
        "open_s": opened,
        "batches_per_s": 1 / wall,
        "cpu_s_per_batch": cpu,
        "batches_per_s_by_cpu": cores / cpu,
        "slowest_s": max(seconds),
        "peak_resident_gib": peak_memory()["host"] / 2**30,  # the store's mapped pages included
        "cores": cores,
        "load": load,
    }


def make_scenes(folder: Path, train: int = 24) -> tuple[Path, Path]:
    """Writes scenes of noise in the NTIRE 2022 layout and prepares them."""
    from PIL import Image

    from m3sr_jax.cli import main as m3sr
    from m3sr_jax.io import write_cube

    download, store = folder / "download", folder / "store"
    rng = np.random.default_rng(0)
    for part in ("Train_Spec", "Train_RGB"):
        (download / part).mkdir(parents=True)
    for number in [*range(1, train + 1), 901]:
        name = f"ARAD_1K_{number:04d}"
        cube = rng.random((*SIZE, 31), np.float32)
        write_cube(download / "Train_Spec" / f"{name}.mat", cube, np.arange(400.0, 701.0, 10.0))
        Image.fromarray((cube[..., 5:30:10] * 255).astype(np.uint8)).save(download / "Train_RGB" / f"{name}.jpg")
    assert m3sr(["prepare", "--dataset", "ntire2022", "--data-root", str(download), "--output", str(store)]) == 0
    return download, store


if __name__ == "__main__":
    main()

"""benchmarks/gpu_all.sh, which only a machine with a GPU can run, does not fail on a mistake in a script."""

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

SCRIPT = Path(__file__).parents[1] / "benchmarks" / "gpu_all.sh"


def gpu_all(*arguments, **variables):
    strict = {"JAX_NUMPY_DTYPE_PROMOTION": "standard", "JAX_NUMPY_RANK_PROMOTION": "allow"}  # as users have them
    environment = os.environ | strict | {"PYTHON": sys.executable} | variables
    return subprocess.run(["sh", SCRIPT, *arguments], capture_output=True, text=True, env=environment)


def test_every_command_runs_on_a_cpu(tmp_path):
    done = gpu_all("--dry-run", OUT=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.endswith("failed: none\n")
    rows = [json.loads(line) for line in (tmp_path / "gpu.jsonl").read_text().splitlines()]
    assert all(row["dry_run"] for row in rows)
    assert not [row for row in rows if "error" in row]
    scans = [row for row in rows if row["benchmark"] == "scans" and "case" in row]
    assert {(row["case"], row["implementation"], row.get("mode")) for row in scans} == {
        (case, implementation, mode)
        for case in ("s6_scan photo, full", "ss2d_scan photo, spatial, full", "ss2d_scan photo, frequency, full")
        for implementation in ("pallas_triton", "pallas_mosaic", "xla", "associative", "torch")
        for mode in ("forward", "gradient")
        if implementation != "torch" or find_spec("torch")
    }
    assert all(row["over_floor"] > 0 for row in scans if row["implementation"] != "torch")
    assert all(row["difference"] < 1e-5 for row in scans if row["implementation"] == "torch")
    model = [(row["mode"], row["scans"], row["matmul_precision"]) for row in rows if row["benchmark"] == "model"]
    kinds = [("pallas_triton", "float32"), ("xla", "float32"), ("pallas_triton", "tf32")]
    assert model == [(mode, *kind) for kind in kinds for mode in ("forward", "forward", "training step")]
    assert "step 2" in (tmp_path / "gpu_train.log").read_text()
    assert "skipped" in (tmp_path / "gpu_tests.log").read_text()


def test_it_needs_a_gpu_and_a_folder_for_a_dry_run(tmp_path):
    assert gpu_all(OUT=str(tmp_path), JAX_PLATFORMS="cpu").returncode == 1
    dry = gpu_all("--dry-run")
    assert dry.returncode != 0
    assert "set OUT to a folder" in dry.stderr
    wrong = gpu_all("--dryrun")
    assert (wrong.returncode, wrong.stderr) == (2, "error: found --dryrun, expected --dry-run or nothing\n")

"""M3SR, MST++ and the pixel network on CAVE at an equal, small budget: with the paper's recipe and with a base.

Command:  python benchmarks/study_cave.py --scenes FILE_OR_FOLDER [--parts main folds ablation long] [--split tuning]
          python benchmarks/study_cave.py --table

--scenes is a folder of CAVE as downloaded, or an HDF5 file with a cube of 16-bit codes (31, H, W) for each scene as
/cube/NAME_ms, which is laid out under runs/study/cave. The split is that of docs/results.md: 20 scenes to train and six
to test. --split tuning, or tuning_2 with its strong colours, trains on 16 of the 20 and scores the other four: choose
options there, never on the test scenes. Six scenes are few, so "folds" scores the other 20 as well, each by a run that
has not seen it.

  main      {M3SR, MST++, pixel} × {paper, base, full}, seeds 0 to 2, 1,000 steps of 2 crops of 64². "paper" is MAE and
            Adam at 4e-4; "full" is configs/cave_fast.py; "base" is the same without exposure, mosaics and angle.
  folds     {M3SR, MST++, pixel} with "full" and MST++ with "paper" on three other splits of the 26 scenes, seed 0: each
            tests on every third of the 20 scenes, in alphabetical order, and trains on the rest. With --steps 5000 they
            are as long as "long", which has the six test scenes.
  ablation  M3SR with "full" at 300 steps: without each branch, other groups, wavelets and losses, seeds 0 to 2.
  long      {M3SR, MST++, pixel} with "full" for 5,000 steps, seeds 0 to 2.

Runs are trained one after the other in folders of runs/study. Stop the script whenever you like: the same command
continues the unfinished run and skips what is done. Scores are those of the last step; the best evaluation would be
chosen on the test scenes. A row in benchmarks/results/study_cave.jsonl has all metrics, their intervals, the
scores at half and twice the exposure, those of the fits, the CPU seconds of every process that trained the run, and its
curve: PSNR and SAM at every evaluation.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import json
import multiprocessing
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from measure import save
from PIL import Image
from study_tables import curves, paired, table

from m3sr_jax.cli.xla_flags import plan_for_memory
from m3sr_jax.config import Config, load_config
from m3sr_jax.config.recipes import VARIANTS
from m3sr_jax.data.cave import SPLIT
from m3sr_jax.errors import InputError

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "study_cave.jsonl"
TEST = ("balloons", "egyptian_statue", "fake_and_real_lemons", "fake_and_real_peppers")
TEST += ("fake_and_real_tomatoes", "real_and_fake_apples")
TUNING = {
    "tuning": ("fake_and_real_lemon_slices", "flowers", "oil_painting", "pompoms"),
    "tuning_2": ("beads", "feathers", "sponges", "superballs"),
}
FOLDS = {f"fold_{i + 1}": SPLIT["train"][i::3] for i in range(3)}
NETWORKS = ("m3sr", "mst_plus_plus", "pixel")
EXPOSURES = (0.5, 1.0, 2.0)
# Recipe → variants and fields on top of configs/cave_fast.py.
PAPER = {"optim.name": "adam", "optim.learning_rate": 4e-4, "optim.warmup_steps": 0, "model.base": "none"}
PLAIN = {"data.exposure": (), "data.patch_size": None, "loss.spectral_angle": 0.0, "model.normalise_exposure": False}
RECIPES: dict[str, dict[str, Any]] = {"paper": PAPER | PLAIN, "base": PLAIN, "full": {}}
PIXEL_RATE = 0.05  # with a base; the pixel network is small
ABLATIONS: dict[str, dict[str, Any]] = {
    "full": {},
    **{f"no_{off}": VARIANTS[f"no_{off}"] for off in ("spatial", "frequency", "spectral")},
    **{f"groups{count}": VARIANTS[f"groups{count}"] for count in (2, 8, 16)},
    **{wavelet: {"model.wavelet": wavelet} for wavelet in ("db2", "sym4", "bior2.2")},
    "mae alone": {"loss.spectral_angle": 0.0},
    "angle 0.1": {"loss.spectral_angle": 0.1},
    "wavelet loss": {"loss.wavelet": 0.5},
}


@dataclasses.dataclass(frozen=True)
class Job:
    """One run of the study."""

    part: str
    network: str
    recipe: str
    steps: int
    seed: int
    split: str
    changes: tuple[tuple[str, Any], ...] = ()

    def key(self, options: argparse.Namespace) -> dict[str, Any]:
        """What tells this run from all others in the results."""
        names = ("part", "network", "recipe", "steps", "seed", "split")
        given = {"features": options.features, "learning_rate": options.learning_rate, "set": options.set}
        return {name: getattr(self, name) for name in names} | given

    def folder(self, options: argparse.Namespace) -> Path:
        key = self.key(options)
        parts = (str(value).replace(" ", "_") for value in key.values() if value is not None)
        return options.runs / "-".join(parts)

    def config(self, options: argparse.Namespace) -> Config:
        """Returns the run's configuration, which begins as configs/cave_fast.py."""
        variant = "" if self.network == "m3sr" else f":{self.network}"
        base = load_config(f"{ROOT / 'configs' / 'cave_fast.py'}{variant}")
        values = {group: dict(fields) for group, fields in dataclasses.asdict(base).items() if group != "seed"}
        changes = dict(self.changes) | {
            "data.root": str(options.root),
            "data.split_file": str(options.runs / f"{self.split}.txt"),
            "train.num_steps": self.steps,
            "train.eval_every_steps": max(1, self.steps // 4),
            "train.checkpoint_every_steps": max(1, min(50, self.steps // 4)),
        }
        if self.network != "pixel" and options.features is not None:
            changes["model.features"] = options.features
        if self.network == "pixel" and self.recipe != "paper":
            changes["optim.learning_rate"] = PIXEL_RATE
        if options.learning_rate is not None:
            changes["optim.learning_rate"] = options.learning_rate
        changes |= json.loads(options.set) if options.set else {}
        for name, value in changes.items():
            group, _, field = name.partition(".")
            values[group][field] = value
        return Config.from_config_dict(values | {"seed": self.seed})


def jobs(options: argparse.Namespace) -> Iterator[Job]:
    """Yields the runs of the chosen parts, those that decide first: seed 0 of every row, then the other seeds."""
    networks, split, seeds = options.networks, options.split, options.seeds
    if "main" in options.parts:
        for seed, recipe, network in itertools.product(seeds, options.recipes, networks):
            yield Job("main", network, recipe, options.steps or 1000, seed, split, tuple(RECIPES[recipe].items()))
    if "folds" in options.parts:
        rows = (("full", "m3sr"), ("full", "pixel"), ("full", "mst_plus_plus"), ("paper", "mst_plus_plus"))
        chosen = [row for row in rows if row[0] in options.recipes and row[1] in networks]
        for fold, (recipe, network) in itertools.product(FOLDS, chosen):
            yield Job("folds", network, recipe, options.steps or 1000, 0, fold, tuple(RECIPES[recipe].items()))
    if "ablation" in options.parts:
        for seed, (name, changes) in itertools.product(seeds, ABLATIONS.items()):
            yield Job("ablation", "m3sr", name, options.steps or 300, seed, split, tuple(changes.items()))
    if "long" in options.parts:
        for seed, network in itertools.product(seeds, networks):
            yield Job("long", network, "full", options.steps or 5000, seed, split)


def prepare(options: argparse.Namespace) -> None:
    """Lays out the scenes, if they come as one file, and writes the split files."""
    train = SPLIT["train"]
    scenes = (*train, *TEST)
    options.runs.mkdir(parents=True, exist_ok=True)
    splits = {name: (scenes, held_out) for name, held_out in ({"test": TEST} | FOLDS).items()}
    splits |= {name: (train, held_out) for name, held_out in TUNING.items()}
    for name, (known_scenes, held_out) in splits.items():
        kept = (scene for scene in known_scenes if scene not in held_out)
        (options.runs / f"{name}.txt").write_text("\n".join(["[train]", *kept, "[valid]", *held_out]) + "\n")
    options.root = options.scenes
    if options.scenes.is_file():
        options.root = options.runs / "cave"
        lay_out(options.scenes, options.root)


def lay_out(source: Path, root: Path) -> None:
    """Writes the cubes of an HDF5 file as CAVE's download has them, one 16-bit PNG for each band."""
    import h5py

    with h5py.File(source) as file:
        cubes: Any = file["cube"]
        for name in cubes:
            folder = root / name
            if (folder / f"{name}_31.png").exists():
                continue
            folder.mkdir(parents=True, exist_ok=True)
            for number, band in enumerate(np.asarray(cubes[name]), 1):
                Image.fromarray(band).save(folder / f"{name}_{number:02d}.png")


def train(config: Config, folder: Path) -> None:
    """Trains in a process of its own, and notes the CPU seconds that it took, also when it is interrupted."""
    plan_for_memory()
    from m3sr_jax.training.loop import train_and_evaluate

    code = 1
    try:
        code = train_and_evaluate(config, folder)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
    finally:
        with (folder / "cpu_seconds.txt").open("a") as file:
            file.write(f"{time.process_time():.1f}\n")
    sys.exit(code)


def score(config: Config, folder: Path, rows: Any) -> None:
    """Scores the last step of a run and puts its numbers into the queue `rows`."""
    from m3sr_jax.data.open import open_dataset
    from m3sr_jax.evaluation.evaluate import fit_baselines
    from m3sr_jax.evaluation.exposures import evaluate_exposures, exposure_means
    from m3sr_jax.evaluation.protocols import get_protocol
    from m3sr_jax.evaluation.tables import intervals
    from m3sr_jax.inference.predictor import load, run_network

    predictor, dataset = load(folder, "latest"), open_dataset(config.data)
    methods = {"network": lambda rgb: run_network(predictor.model, predictor.params, rgb)} | fit_baselines(dataset)
    reports = evaluate_exposures(methods, dataset, get_protocol("cave"), EXPOSURES)
    ours, means = reports[1.0][0], exposure_means(reports)
    rows.put(
        {
            "mean": means["1"]["network"],
            "interval_95": intervals(ours),
            "scenes": ours.scenes,
            "exposures": {name: methods["network"] for name, methods in means.items()},
            "fits": {name: scores for name, scores in means["1"].items() if name != "network"},
            "rate": config.optim.learning_rate,
            "cpu_s": sum(map(float, (folder / "cpu_seconds.txt").read_text().split())),
        }
    )


def run(job: Job, options: argparse.Namespace) -> dict[str, Any]:
    """Trains what is left of a run and returns its row.

    Raises:
        SystemExit: the run was stopped or failed.
    """
    config, folder, spawn = job.config(options), job.folder(options), multiprocessing.get_context("spawn")
    child = spawn.Process(target=train, args=(config, folder))
    child.start()
    try:
        child.join()
    except KeyboardInterrupt:  # a terminal's Ctrl-C also reaches the child, which saves its state
        child.join()
    if child.exitcode:
        raise SystemExit(child.exitcode)
    rows = spawn.Queue()
    scorer = spawn.Process(target=score, args=(config, folder, rows))
    scorer.start()
    row = rows.get()
    scorer.join()
    return job.key(options) | row | {"curve": curve(folder)}


def curve(folder: Path) -> dict[str, dict[str, float]]:
    """Returns step → PSNR in dB and SAM in degrees, as evaluated while a run was trained."""
    from m3sr_jax.training.metric_writer import read_metrics

    evaluated = (record for record in read_metrics(folder / "metrics.jsonl") if "eval/psnr" in record)
    return {str(record["step"]): {name: record[f"eval/{name}"] for name in ("psnr", "sam")} for record in evaluated}


def known(path: Path) -> list[dict[str, Any]]:
    """Returns the rows that are done."""
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scenes", type=Path, help="CAVE as downloaded, or an HDF5 file of cubes")
    parser.add_argument("--parts", nargs="+", default=["main"], choices=["main", "folds", "ablation", "long"])
    parser.add_argument("--networks", nargs="+", default=list(NETWORKS), choices=NETWORKS)
    parser.add_argument("--recipes", nargs="+", default=list(RECIPES), choices=RECIPES)
    parser.add_argument("--split", default="test", choices=["test", *TUNING], help="scenes that are scored")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--steps", type=int, help="another number of steps")
    parser.add_argument("--features", type=int, help="another width of M3SR and MST++")
    parser.add_argument("--learning-rate", type=float, help="another learning rate")
    parser.add_argument("--set", help='other fields, such as {"data.patch_size": 16}, for tuning')
    parser.add_argument("--runs", type=Path, default=ROOT / "runs" / "study")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--table", action="store_true", help="print the results so far and stop")
    options = parser.parse_args()
    if not options.table and (options.scenes is None or not options.scenes.exists()):
        parser.error("--scenes: expected an existing file or folder")
    return options


def main() -> None:
    options = parse()
    if not options.table:
        prepare(options)
        for job in jobs(options):
            key = job.key(options)
            if any(key == {name: row.get(name) for name in key} for row in known(options.output)):
                continue
            print(f"\n{job.folder(options).name}", flush=True)
            save([run(job, options)], "study_cave", options.output)
    rows = known(options.output)
    print(table(rows), paired(rows), curves(rows), sep="\n\n")


if __name__ == "__main__":
    main()

"""What a training run tells its user."""

from __future__ import annotations

from collections.abc import Mapping

import jax

from m3sr_jax.config import ModelConfig
from m3sr_jax.data.check import first_oddities
from m3sr_jax.data.open import located
from m3sr_jax.data.store import is_store
from m3sr_jax.io.wavelengths import span
from m3sr_jax.training.setup import Run


def greeting(run: Run) -> list[str]:
    """Returns the lines that a run begins with: what it trains, on what, from where, and what to watch out for."""
    model, dataset = run.config.model, run.dataset
    count = sum(leaf.size for leaf in jax.tree.leaves(run.state.params))
    scenes = f"{len(dataset.train)} training and {len(dataset.valid)} held-out scenes"
    nm = dataset.train.wavelengths
    lines = [
        f"model    {model.name}{_base(model)}, {count:,} parameters, {_arithmetic(model)}, scans: {run.scans}",
        f"device   {run.devices.describe()}, jax {jax.__version__}",
        f"data     {dataset.name}: {scenes}, {len(nm)} bands of {span(nm)}, camera {dataset.train.camera_name}",
    ]
    if dataset.missing:
        lines += [
            f"WARNING  {len(dataset.missing)} files or scenes of the official split are missing, the first is "
            f"{dataset.missing[0]}: scores of",
            "         this run are not comparable with published ones; `m3sr check` lists what is missing",
        ]
    lines += [f"WARNING  {oddity}" for oddity in first_oddities(dataset.train)]
    lines += [f"note     {note}" for note in (*dataset.notes, *run.notes)]
    if dataset.name.startswith("ntire") and not is_store(located(run.config.data).root):
        lines.append("hint     every crop reads a whole .mat file; `m3sr prepare` makes batches 20 times as fast")
    lines.append(f"workdir  {run.workdir}")
    lines += [f"WARNING  deleted a damaged checkpoint: {fault}" for fault in run.damaged]
    if run.step == run.num_steps:
        return [*lines, f"finished: all {run.num_steps} steps are done"]
    return [*lines, f"steps    {run.num_steps}, {f'resuming from step {run.step}' if run.step else 'a new run'}"]


def _base(model: ModelConfig) -> str:
    bases = [model.base] * (model.base != "none") + ["a pixel head"] * model.pixel_head
    base = f" on {' and '.join(bases)}" if bases else ""
    return base + " of normalised exposure" * model.normalise_exposure + " in exact colours" * model.exact_colour


def _arithmetic(model: ModelConfig) -> str:
    """Only products of float32 numbers have a choice of precision."""
    return f"float32, products in {model.matmul_precision}" if model.dtype == "float32" else model.dtype


def evaluated(step: int, scores: Mapping[str, float]) -> str:
    """Reports the scores of an evaluation."""
    return f"step {step}  held-out scenes: " + "  ".join(f"{name} {value:.4f}" for name, value in scores.items())


def stopped(step: int, num_steps: int) -> str:
    """Says where a signal stopped the run and how to resume it."""
    return f"stopped and saved at step {step} of {num_steps}; run the same command to resume"


def not_finite(step: int, loss: float, grad_norm: float, kept: int | None) -> str:
    """Says that a run diverged, which checkpoint is kept (None: none was saved), and what to try."""
    checkpoint = "no checkpoint was saved yet" if kept is None else f"the checkpoint of step {kept} is kept"
    return (
        f"step {step}: found loss {loss} and gradient norm {grad_norm}, expected finite numbers; training stopped, "
        f"{checkpoint}; check the data for wrong values, or lower optim.learning_rate or set optim.grad_clip in a new "
        "--workdir"
    )

"""The training loop.

Exactly resumable: a checkpoint holds parameters, optimiser state, step and the data iterator's position, and the lines
of a step are in metrics.jsonl before its checkpoint exists. A kill at any moment neither repeats nor skips a line.

Several processes run the same loop, each on its own devices and its part of each batch; process 0 alone reads and
writes the workdir and prints.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

import jax

from m3sr_jax.checkpoint import load_params
from m3sr_jax.config import Config
from m3sr_jax.errors import InputError
from m3sr_jax.processes import gather, is_writer, on_writer
from m3sr_jax.training import messages
from m3sr_jax.training.devices import memory_errors_as_input_errors
from m3sr_jax.training.recording import Recorder
from m3sr_jax.training.setup import Run
from m3sr_jax.training.signals import StopError, StopRequest
from m3sr_jax.training.step import Batch
from m3sr_jax.training.workdir import disk_errors_as_input_errors

INTERRUPTED = 130
LESS_MEMORY = (
    "run the same command with a larger optim.accumulate_steps or with model.remat=True, or lower data.batch_size or "
    "data.crop_size in a new --workdir"
)
SMALLER_SCENES = "held-out scenes are predicted whole: leave large ones out with data.split_file, in a new --workdir"


def train_and_evaluate(config: Config, workdir: str | Path) -> int:
    """Trains to the last step, evaluating and saving on the way, and writes WORKDIR/report.

    Called again with the same arguments it resumes exactly from the newest checkpoint; a finished run only has its
    report restored if that is missing.

    Args:
        config: everything the run depends on.
        workdir: gets config.json, model.json, checkpoints/, metrics.jsonl and report/.

    Returns:
        0 when the last step is done, 130 when a signal stopped it and the state is saved.

    Raises:
        InputError: the workdir or the data cannot be used, or the loss is no longer finite.
    """
    workdir = Path(workdir)
    with StopRequest() as stop, disk_errors_as_input_errors(workdir), contextlib.ExitStack() as closing:
        run = Run(config, workdir, closing)
        for line in messages.greeting(run):
            run.progress.say(line)
        _score_before_first_step(run, stop)
        with run.progress, stop.deferred():
            _train(run, stop)
        evaluated = run.step == run.num_steps and _is_written(run, "eval/psnr", run.step)
        if not evaluated or any(gather(lambda: stop.requested)):
            closing.close()  # waits until the state is on disk
            run.progress.say(messages.stopped(run.step, run.num_steps))
            return INTERRUPTED
        _report(run)
    return 0


def _score_before_first_step(run: Run, stop: StopRequest) -> None:
    """Scores the fits to beat, and repeats an evaluation that a signal stopped."""
    if not _is_written(run, "baseline/least_squares/psnr"):
        scores = run.validation.score_baselines()
        run.writer.write_scalars(run.step, {f"baseline/{name}": value for name, value in scores.items()})
    if run.step and run.is_due("eval") and not _is_written(run, "eval/psnr", run.step):
        _evaluate(run, stop)


def _train(run: Run, stop: StopRequest) -> None:
    """Runs the steps that remain, or those until a signal, and saves the last state."""
    if run.step < run.num_steps and is_writer():  # an earlier report is not of this training
        (run.workdir / "report" / "report.json").unlink(missing_ok=True)
    recorder = Recorder(run)
    # StopError is raised between steps and between the scenes of an evaluation.
    with contextlib.suppress(StopError), memory_errors_as_input_errors("training", LESS_MEMORY):
        while run.step < run.num_steps:
            run.state, metrics = run.train_step(run.state, _next_batch(run, stop))
            run.step += 1
            recorder.add(run.step, metrics)
            due = run.is_due("eval") or run.is_due("checkpoint")
            recorder.record(pending=0 if due else 1)
            if recorder.stop_agreed:
                raise StopError
            if run.is_due("eval"):
                _evaluate(run, stop)
            if due:
                _save(run)
                recorder.restart_clock()
    recorder.record()
    _save(run)


def _next_batch(run: Run, stop: StopRequest) -> Batch:
    """Returns this process's part of the next batch, on its devices."""
    single = jax.process_count() == 1  # several processes stop together, see `Devices.shard`
    if single:
        stop.check()
    try:
        batch = next(run.batches)
    except RuntimeError as error:  # Ctrl-C in a terminal also reaches the data workers and ends them
        if single:
            stop.check()
        if not stop.requested:
            run.progress.say(f"WARNING  the data workers ended and were restarted: {error}")
        run.batches.set_state(run.batches.get_state())
        try:
            batch = next(run.batches)
        except RuntimeError as again:
            raise InputError(f"the data workers keep ending ({again}); set data.num_workers=0") from again
    _report_skipped_scenes(run)
    return run.devices.shard(batch, stop=stop.requested)


def _report_skipped_scenes(run: Run) -> None:
    train = run.dataset.train
    for index in run.batches.skipped.keys() - run.reported_scenes:
        run.reported_scenes.add(index)
        reason = "it is readable by now"
        try:
            train[index]
        except InputError as error:
            reason = str(error)
        name = train.names[index]
        run.progress.say(f"WARNING  scene {name} is skipped, crops of other scenes replace its own: {reason}")


def _evaluate(run: Run, stop: StopRequest) -> None:
    run.progress.describe("evaluating")
    params = run.devices.local(run.state.scored)
    with memory_errors_as_input_errors("evaluation", SMALLER_SCENES):
        scores = run.validation.score(run.validation.predictor(params, before_scene=stop.check))
    run.writer.write_scalars(run.step, {f"eval/{name}": value for name, value in scores.items()})
    run.writer.flush()
    run.progress.say(messages.evaluated(run.step, scores))
    run.checkpoints.save_if_best(run.state, run.facts | {"psnr": scores["psnr"]})


def _save(run: Run) -> None:
    run.writer.flush()
    run.checkpoints.save_latest(run.state, run.facts | {"batches": run.batches.get_state()})


def _is_written(run: Run, name: str, step: int | None = None) -> bool:
    return on_writer(lambda: run.writer.has(name, step))


def _report(run: Run) -> None:
    """Writes WORKDIR/report on the best checkpoint, unless it exists."""
    from m3sr_jax.evaluation.published import published_rows
    from m3sr_jax.evaluation.report import FIGURE, model_facts, write_report
    from m3sr_jax.evaluation.tables import score_table

    folder = run.workdir / "report"
    if not on_writer(lambda: all((folder / name).exists() for name in ("report.json", FIGURE))):
        for unfinished in folder.glob(".*") if is_writer() else ():  # by a process that was killed
            unfinished.unlink()
        predict = run.validation.predictor(on_writer(lambda: load_params(run.workdir, run.model)))
        name, facts = run.config.model.name, model_facts(run.card)
        reports = write_report(folder, predict, run.dataset, run.validation.protocol, name=name, model=facts)
        run.progress.console.print(score_table(reports, published_rows(run.dataset.name, facts)))
    run.progress.say(f"report   {folder}")

"""Trains M3SR: python train.py --config configs/demo.py [--workdir runs/demo] [--config.group.field=value].

Run the same command again to resume. Exit codes: 0 done; 1 one of several processes was lost,
or the reader of the output left; 2 bad usage or input; 130 interrupted.
"""

from __future__ import annotations

from pathlib import Path

from absl import app, flags
from ml_collections import config_flags

from m3sr_jax.cli import exit_code
from m3sr_jax.cli.flags import default_workdir, parse_flags
from m3sr_jax.cli.huge_pages import with_huge_pages
from m3sr_jax.cli.xla_flags import plan_for_memory
from m3sr_jax.config import Config
from m3sr_jax.errors import InputError
from m3sr_jax.processes import join

CONFIG = config_flags.DEFINE_config_file(
    "config", help_string="Config file, such as configs/demo.py.", lock_config=True
)
COORDINATOR = flags.DEFINE_string("coordinator_address", None, "With several processes: HOST:PORT of process 0.")
NUM_PROCESSES = flags.DEFINE_integer("num_processes", None, "Number of processes.", lower_bound=1)
PROCESS_ID = flags.DEFINE_integer("process_id", None, "Number of this process, from 0.", lower_bound=0)
DISTRIBUTED = flags.DEFINE_bool("distributed", False, "Let JAX detect the processes of a cluster.")
WORKDIR = flags.DEFINE_string(
    "workdir", None, "Folder of the run: config, checkpoints, metrics and report. By default runs/NAME of the config."
)


def main(_: list[str]) -> int:
    plan_for_memory()
    return exit_code(train)


def train() -> int:
    if CONFIG.value is None:
        raise InputError(
            "usage: python train.py --config configs/NAME.py [--workdir DIR] [--config.group.field=value ...]"
        )
    config = Config.from_config_dict(CONFIG.value)
    join(COORDINATOR.value, NUM_PROCESSES.value, PROCESS_ID.value, distributed=DISTRIBUTED.value)

    # Late: JAX takes a second, and a typo should not.
    from m3sr_jax.data.open import located
    from m3sr_jax.training.loop import train_and_evaluate

    workdir = WORKDIR.value
    if not workdir:
        located(config.data)  # missing data leave no folder behind
        workdir = default_workdir(config_flags.get_config_filename(flags.FLAGS["config"]))
    return train_and_evaluate(config, Path(workdir))


if __name__ == "__main__":
    with_huge_pages()
    app.run(main, flags_parser=parse_flags)

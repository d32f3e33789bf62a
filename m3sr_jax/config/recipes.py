"""The paper's recipe, and the variants that `--config FILE.py:VARIANT` selects.

no_spatial, no_frequency, no_spectral  without that branch (the paper's V1, V2, V3)
groups2, groups4, groups8, groups16    that many spectral groups
mst_plus_plus, hrnet, …                another network of `m3sr_jax.networks` instead of M3SR
mstpp_recipe                           training as in the MST++ toolbox: MRAE, batches of 20, 300 × 1000 updates,
                                       learning rate 4e-4 to 1e-6

Commas join variants that change different fields, as in FILE.py:groups8,mstpp_recipe.
"""

from __future__ import annotations

from typing import Any

from m3sr_jax.config.fields import default_config
from m3sr_jax.config.names import BRANCHES
from m3sr_jax.errors import InputError
from m3sr_jax.networks import NETWORKS


def paper_recipe(dataset: str, variant: str = "", *, log_every_steps: int, eval_every_steps: int) -> Any:
    """Returns the paper's recipe: MAE, Adam from 4e-4 with a cosine schedule, 100 epochs, batches of 32 crops of 128².

    Args:
        dataset: name of the data set.
        variant: a variant of the module docstring, or several; "" for none.
        log_every_steps: steps between lines of metrics.jsonl.
        eval_every_steps: steps between evaluations, and between checkpoints.

    Returns:
        A ConfigDict; flags may override its fields.

    Source: paper section "Implementation details".
    """
    config = default_config()
    config.data.name = dataset
    config.data.batch_size = 32
    config.data.crop_size = 128
    config.optim.learning_rate = 4e-4
    config.train.num_epochs = 100
    config.train.log_every_steps = log_every_steps
    config.train.eval_every_steps = eval_every_steps
    config.train.checkpoint_every_steps = eval_every_steps
    apply_variant(config, variant)
    return config


# Variant → the fields it changes.
VARIANTS: dict[str, dict[str, Any]] = {
    **{f"no_{off}": {"model.branches": tuple(b for b in BRANCHES if b != off)} for off in BRANCHES},
    **{f"groups{count}": {"model.num_groups": count} for count in (2, 4, 8, 16)},
    **{name: {"model.name": name} for name in NETWORKS if name != "m3sr"},
    "mstpp_recipe": {
        "loss.mae": 0.0,
        "loss.mrae": 1.0,
        "optim.learning_rate": 4e-4,
        "optim.final_learning_rate": 1e-6,
        "data.batch_size": 20,
        "data.crop_size": 128,
        "train.num_steps": 300_000,
        "train.eval_every_steps": 1000,
        "train.checkpoint_every_steps": 1000,
    },
}


def apply_variant(config: Any, variant: str) -> None:
    """Changes a configuration as a variant, or several joined by commas, says; see the module docstring.

    Args:
        config: a ConfigDict from `default_config`.
        variant: names of `VARIANTS`; "" changes nothing.

    Raises:
        InputError: a name is unknown, or two variants set the same field.
    """
    changed: dict[str, str] = {}
    for name in filter(None, variant.split(",")):
        if name not in VARIANTS:
            raise InputError(f"config variant {name}: no such variant; expected one of {', '.join(VARIANTS)}")
        for field, value in VARIANTS[name].items():
            if field in changed:
                raise InputError(f"config variants {changed[field]} and {name} both set {field}; choose one of them")
            changed[field] = name
            group, _, key = field.partition(".")
            config[group][key] = value

"""Models on disk: cards and parameters, round trips, and directories that are something else."""

import dataclasses
import json
import sys
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import jaxtyping
import numpy as np
import pytest

from m3sr_jax import checkpoint
from m3sr_jax.checkpoint import load_model, load_params, save_model, saved_steps
from m3sr_jax.config import ModelConfig
from m3sr_jax.errors import InputError
from m3sr_jax.model_card import ModelCard
from m3sr_jax.models import build_model

FIELDS = ModelConfig(features=6, num_groups=2, num_bands=5)
CARD = ModelCard(FIELDS, (400.0, 450.0, 500.0, 550.0, 600.0), "minmax", "cie1964", {"from": "a test", "seed": 1})


@pytest.fixture(scope="module")
def params():
    """Numbers of the right shapes: which ones does not matter here."""
    shapes = jax.eval_shape(build_model(FIELDS).init, jax.random.key(0), jnp.zeros((1, 16, 16, 3)))["params"]
    generator = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: generator.standard_normal(leaf.shape).astype(leaf.dtype), shapes)


@pytest.fixture
def saved(params, tmp_path):
    save_model(tmp_path / "model", CARD, params)
    return tmp_path / "model"


def test_a_model_comes_back_bit_for_bit(saved, params):
    model, restored, card = load_model(saved)
    assert card == CARD
    assert model == build_model(FIELDS)
    assert jax.tree.structure(restored) == jax.tree.structure(params)
    assert jax.tree.all(jax.tree.map(np.array_equal, restored, params))


def test_a_misspelled_choice_of_the_checkpoint_is_refused(saved, monkeypatch):
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # as for users, whose types nobody checks
    with pytest.raises(InputError, match='which: found "last", expected "best" or "latest"'):
        load_model(saved, "last")


def test_the_card_is_plain_json_without_choices_of_the_machine(saved):
    values = json.loads((saved / "model.json").read_text())
    assert values["model"]["num_blocks"] == [1, 1, 1]
    assert values["rgb_normalization"] == "minmax"
    assert not {"implementation", "remat"} & set(values["model"])
    fixed = dataclasses.replace(FIELDS, implementation="reference", remat=True)
    assert dataclasses.replace(CARD, model=fixed) == CARD


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"wavelengths": (400.0,)}, "found 1 wavelengths, expected one for each of 5 bands"),
        ({"rgb_normalization": "255"}, 'found rgb_normalization "255", expected unit or minmax'),
    ],
)
def test_a_card_that_contradicts_itself_is_refused(fields, told):
    with pytest.raises(InputError, match=told):
        dataclasses.replace(CARD, **fields)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"model": {"num_bandz": 3}, "wavelengths": []}', '{"model": {}}'])
def test_a_card_that_is_none_costs_one_line(saved, text):
    (saved / "model.json").write_text(text)
    with pytest.raises(InputError, match=r"model\.json: "):
        load_model(saved)


def test_directories_that_hold_no_model_cost_one_line(saved, tmp_path):
    with pytest.raises(InputError, match="no such directory"):
        load_model(tmp_path / "none")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"no model\.json"):
        load_model(tmp_path / "empty")
    with pytest.raises(InputError, match=f"is a file; pass its folder {saved}"):
        load_model(saved / "model.json")
    for name in ("m.safetensors", "m.pth"):
        (tmp_path / name).touch()
        with pytest.raises(InputError, match=rf"is a file; m3sr convert \S+{name} DIR makes a model folder of it"):
            load_model(tmp_path / name)
    (tmp_path / "empty" / "model.jaxexport").touch()
    with pytest.raises(InputError, match=r"is an exported program; run its run\.py"):
        load_model(tmp_path / "empty")
    (saved / "params").rename(tmp_path / "elsewhere")
    with pytest.raises(InputError, match="no checkpoint yet"):
        load_model(saved)
    (saved / "params").mkdir()
    with pytest.raises(InputError, match="not a readable Orbax checkpoint"):
        load_model(saved)


def test_changed_numbers_are_noticed_and_models_without_a_checksum_still_load(saved, params):
    largest = max((saved / "params").rglob("*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    with pytest.raises(InputError, match="its checksum does not match its numbers"):
        load_model(saved)
    save_model(saved, CARD, params, overwrite=True)
    (saved / "params.crc32").unlink()
    assert jax.tree.all(jax.tree.map(np.array_equal, load_model(saved)[1], params))


def test_parameters_of_another_model_are_listed(saved):
    with pytest.raises(InputError, match=r"do not fit the model .*conv_in/kernel .* instead of "):
        load_params(saved, build_model(dataclasses.replace(FIELDS, num_bands=4)))
    with pytest.raises(InputError, match=r"missing: unet_1/.* and \d+ more"):
        load_params(saved, build_model(dataclasses.replace(FIELDS, num_stages=2)))


def test_a_model_with_parameters_in_bfloat16_loads_numbers_with_all_their_digits(saved, params):
    half = build_model(dataclasses.replace(FIELDS, param_dtype="bfloat16"))
    assert jax.tree.all(jax.tree.map(np.array_equal, load_params(saved, half), params))


def test_a_checkpoint_that_a_run_replaces_while_it_is_read_gives_way_to_the_new_one(saved, params, monkeypatch):
    best = saved / "checkpoints" / "best"
    (best / "5").mkdir(parents=True)
    (saved / "params").rename(best / "5" / "params")
    read_checksum = checkpoint._saved_checksum

    def replaced(path):
        if path.parts[-2] == "5":
            (best / "5").rename(best / "8")
            raise FileNotFoundError(path)
        return read_checksum(path)

    monkeypatch.setattr(checkpoint, "_saved_checksum", replaced)
    assert jax.tree.all(jax.tree.map(np.array_equal, load_params(saved, build_model(FIELDS)), params))


def test_nothing_is_overwritten_unasked(saved, params, tmp_path):
    with pytest.raises(InputError, match="not empty"):
        save_model(saved, CARD, params)
    other = dataclasses.replace(CARD, camera="another")
    save_model(saved, other, params, overwrite=True)
    (saved / "checkpoints").mkdir()
    with pytest.raises(InputError, match=r"holds more than a model \(checkpoints\)"):  # a training run
        save_model(saved, CARD, params, overwrite=True)
    (saved / "checkpoints").rmdir()
    assert load_model(saved)[2] == other
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis.tex").touch()
    with pytest.raises(InputError, match="not empty and no model"):
        save_model(tmp_path / "home", CARD, params, overwrite=True)
    with pytest.raises(InputError, match="found a file"):
        save_model(tmp_path / "home" / "thesis.tex", CARD, params)
    with pytest.raises(InputError, match="cannot be written"):
        save_model(tmp_path / "home" / "thesis.tex" / "model", CARD, params)


def test_a_failed_save_leaves_nothing(tmp_path):
    with pytest.raises(ValueError, match="object"):
        save_model(tmp_path / "model", CARD, {"weights": object()})
    assert list(tmp_path.iterdir()) == []


def test_unfinished_checkpoints_do_not_count(tmp_path):
    for name in ("5", "40", "100.orbax-checkpoint-tmp", "notes"):
        (tmp_path / name).mkdir()
    assert saved_steps(tmp_path) == [5, 40]
    assert saved_steps(tmp_path / "none") == []


def test_only_what_abandoned_transfers_say_is_hidden(monkeypatch):
    told = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    checkpoint._hide_abandoned_transfers.__wrapped__()
    failures = [SimpleNamespace(exc_value=RuntimeError(message)) for message in ("Event loop is closed", "no memory")]
    for failure in failures:
        sys.unraisablehook(failure)
    assert told == failures[1:]

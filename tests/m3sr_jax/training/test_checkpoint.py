"""Checkpoints: bits come back, the newest is always kept, the best beside it."""

import math
import os
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from m3sr_jax.checkpoint import load_model, saved_steps
from m3sr_jax.config import OptimConfig
from m3sr_jax.errors import InputError
from m3sr_jax.model_card import ModelCard
from m3sr_jax.models import build_model, init_params, parameter_shapes
from m3sr_jax.training.checkpoint import Checkpoints
from m3sr_jax.training.optimizer import make_optimizer
from m3sr_jax.training.state import create_train_state
from m3sr_jax.training.step import jit_train_step


@pytest.fixture
def made(toy):
    model, optimizer = build_model(toy.model), make_optimizer(OptimConfig(), 10)
    return jit_train_step(model, optimizer), create_train_state(optimizer, init_params(model, jax.random.key(0)))


def batch(seed):
    generator = np.random.default_rng(seed)
    shapes = {"rgb": (1, 16, 16, 3), "cube": (1, 16, 16, 31)}
    return {name: jnp.asarray(generator.uniform(size=shape), jnp.float32) for name, shape in shapes.items()}


def test_restored_it_takes_the_identical_next_steps(made, tmp_path):
    step, state = made
    template = jax.eval_shape(lambda: state)
    for seed in range(3):
        state, _ = step(state, batch(seed))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_latest(state, {"batches": {"next_batch": 3}})
    losses = []
    for seed in range(3, 6):  # the steps reuse the memory of what is being written
        state, metrics = step(state, batch(seed))
        losses.append(float(metrics["loss"]))
    checkpoints.close()

    again = Checkpoints(tmp_path)
    restored, run, damaged = again.restore_latest(template)
    again.close()
    assert run == {"batches": {"next_batch": 3}}
    assert not damaged
    assert int(restored.step) == 3
    for seed in range(3, 6):
        restored, metrics = step(restored, batch(seed))
        assert float(metrics["loss"]) == losses[seed - 3]
    assert jax.tree.all(jax.tree.map(np.array_equal, restored, state))


def test_the_newest_is_kept_and_the_best_beside_it(made, tmp_path):
    _, state = made
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.latest_step() is None
    assert checkpoints.best_psnr() == float("-inf")
    for number, psnr in ((1, 20.0), (2, 25.0), (3, 22.0), (4, None)):
        state = state.replace(step=jnp.array(number))
        if psnr is not None:
            checkpoints.save_if_best(state, {"psnr": psnr})
        checkpoints.save_latest(state, {})
    assert checkpoints.best_psnr() == 25.0
    checkpoints.close()
    assert saved_steps(tmp_path / "checkpoints" / "latest") == [3, 4]
    assert saved_steps(tmp_path / "checkpoints" / "best") == [2]


def test_after_a_kill_between_the_two_the_best_is_not_ahead_of_the_run(made, tmp_path):
    _, state = made
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_latest(state.replace(step=jnp.array(5)), {})
    checkpoints.save_if_best(state.replace(step=jnp.array(8)), {"psnr": 30.0})
    checkpoints.close()
    (tmp_path / "checkpoints" / "latest" / "8.orbax-checkpoint-tmp-1").mkdir()

    again = Checkpoints(tmp_path)
    assert again.latest_step() == 5
    assert again.best_psnr() == float("-inf")
    again.save_if_best(state.replace(step=jnp.array(7)), {"psnr": 10.0})
    assert again.best_psnr() == 10.0
    again.close()


def test_a_state_of_another_model_is_refused_in_one_line(made, tmp_path):
    _, state = made
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_latest(state.replace(step=jnp.array(1)), {})
    checkpoints.close()
    again = Checkpoints(tmp_path)
    other = jax.eval_shape(lambda: state.replace(params={"other": jnp.zeros(3)}))
    with pytest.raises(InputError, match=r"no checkpoint can be restored \(step 1: ") as caught:
        again.restore_latest(other)
    again.close()
    assert "\n" not in str(caught.value)


def flip_a_bit(folder):
    largest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)


def cut_in_half(folder):
    for path in folder.rglob("*"):
        if path.is_file():
            os.truncate(path, path.stat().st_size // 2)


@pytest.mark.parametrize("damage", [flip_a_bit, cut_in_half, shutil.rmtree])
def test_a_damaged_state_gives_way_to_the_one_before(tmp_path, damage):
    optimizer = make_optimizer(OptimConfig(), 10)
    numbers = np.random.default_rng(0).uniform(size=4000).astype(np.float32)
    state = create_train_state(optimizer, {"kernel": jnp.asarray(numbers)})
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save_latest(state.replace(step=jnp.array(step)), {"batches": step})
    checkpoints.save_if_best(state.replace(step=jnp.array(2)), {"psnr": 20.0})
    checkpoints.close()
    damage(tmp_path / "checkpoints" / "latest" / "2" / "params")

    again = Checkpoints(tmp_path)
    restored, run, (told,) = again.restore_latest(jax.eval_shape(lambda: state))
    assert (int(restored.step), run["batches"], again.latest_step()) == (1, 1, 1)
    assert told.startswith(f"{tmp_path / 'checkpoints' / 'latest' / '2'}: ")
    assert "\n" not in told
    assert again.best_psnr() == float("-inf")  # of a step that the run will reach again
    np.testing.assert_array_equal(restored.params["kernel"], numbers)
    again.save_latest(state.replace(step=jnp.array(2)), {})
    again.close()
    assert saved_steps(tmp_path / "checkpoints" / "latest") == [1, 2]


def symbolic_loop(folder):
    largest = max((path for path in folder.rglob("*") if path.is_file()), key=lambda path: path.stat().st_size)
    largest.unlink()
    largest.symlink_to(largest.name)


def out_of_memory(_):
    raise MemoryError


def no_permission(_):
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("failure", [symbolic_loop, out_of_memory, no_permission])
def test_no_state_is_deleted_for_a_reason_that_may_pass(made, tmp_path, monkeypatch, failure):
    _, state = made
    checkpoints = Checkpoints(tmp_path)
    for step in (1, 2):
        checkpoints.save_latest(state.replace(step=jnp.array(step)), {})
    checkpoints.close()
    latest = tmp_path / "checkpoints" / "latest"
    if failure is symbolic_loop:  # an error of the system that TensorStore reports
        symbolic_loop(latest / "2" / "params")
    else:
        monkeypatch.setattr("m3sr_jax.training.checkpoint.checksum", failure)
    again = Checkpoints(tmp_path)
    with pytest.raises(InputError, match=rf"{latest}/2: cannot be read now \(.*run the same command again"):
        again.restore_latest(jax.eval_shape(lambda: state))
    again.close()
    assert saved_steps(latest) == [1, 2]


@pytest.mark.parametrize(("scores", "best"), [((30.0, math.nan, 5.0), 30.0), ((math.nan, 5.0), 5.0)])
def test_a_score_that_is_no_number_is_never_better(made, tmp_path, scores, best):
    _, state = made
    checkpoints = Checkpoints(tmp_path)
    for step, psnr in enumerate(scores, 1):
        checkpoints.save_if_best(state.replace(step=jnp.array(step)), {"psnr": psnr})
        assert saved_steps(tmp_path / "checkpoints" / "best")  # the first becomes best, whatever it is
    assert checkpoints.best_psnr() == best
    checkpoints.close()


def test_a_best_checkpoint_that_cannot_be_read_gives_way_to_the_next(made, tmp_path):
    _, state = made
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_latest(state.replace(step=jnp.array(1)), {})
    checkpoints.save_if_best(state.replace(step=jnp.array(1)), {"psnr": 20.0})
    checkpoints.close()
    shutil.rmtree(tmp_path / "checkpoints" / "best" / "1" / "run")
    again = Checkpoints(tmp_path)
    assert again.best_psnr() == float("-inf")
    again.save_if_best(state.replace(step=jnp.array(2)), {"psnr": 10.0})
    assert again.best_psnr() == 10.0
    again.close()


@pytest.mark.parametrize(("ema", "which"), [(False, "best"), (False, "latest"), (True, "best"), (True, "latest")])
def test_a_flipped_bit_is_noticed_by_whoever_loads_the_parameters(toy, tmp_path, ema, which):
    shapes, rng = parameter_shapes(build_model(toy.model)), np.random.default_rng(0)
    params = jax.tree.map(lambda leaf: jnp.asarray(rng.random(leaf.shape, np.float32)), shapes)
    state = create_train_state(make_optimizer(OptimConfig(), 10), params, ema=ema)
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_if_best(state.replace(step=jnp.array(1)), {"psnr": 20.0})
    checkpoints.save_latest(state.replace(step=jnp.array(1)), {})
    checkpoints.close()
    (tmp_path / "model.json").write_text(ModelCard(toy.model, tuple(map(float, range(400, 701, 10)))).to_json())
    load_model(tmp_path, which)
    flip_a_bit(tmp_path / "checkpoints" / which / "1" / ("ema" if ema and which == "latest" else "params"))
    with pytest.raises(InputError, match=r"its checksum does not match its numbers; .* --which latest"):
        load_model(tmp_path, which)


def test_the_latest_parameters_of_schedule_free_are_its_averages(toy, tmp_path):
    model, optimizer = build_model(toy.model), make_optimizer(OptimConfig(name="schedule_free"), 10)
    step, state = jit_train_step(model, optimizer), create_train_state(optimizer, init_params(model, jax.random.key(0)))
    for seed in range(3):
        state, _ = step(state, batch(seed))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_latest(state, {})
    checkpoints.close()
    (tmp_path / "model.json").write_text(ModelCard(toy.model, tuple(map(float, range(400, 701, 10)))).to_json())
    loaded = load_model(tmp_path, "latest")[1]
    assert jax.tree.all(jax.tree.map(np.array_equal, loaded, state.scored))
    assert not jax.tree.all(jax.tree.map(np.array_equal, loaded, state.params))
    again = Checkpoints(tmp_path)
    restored, _, damaged = again.restore_latest(jax.eval_shape(lambda: state))
    again.close()
    assert not damaged
    assert jax.tree.all(jax.tree.map(np.array_equal, restored, state))


def test_a_running_mean_is_kept_and_is_what_the_best_parameters_are(toy, made, tmp_path):
    _, state = made
    state = state.replace(ema=jax.tree.map(lambda leaf: leaf + 1, state.params), step=jnp.array(1))
    checkpoints = Checkpoints(tmp_path)
    checkpoints.save_if_best(state, {"psnr": 20.0})
    checkpoints.save_latest(state, {})
    checkpoints.close()
    again = Checkpoints(tmp_path)
    restored, _, _ = again.restore_latest(jax.eval_shape(lambda: state))
    again.close()
    assert jax.tree.all(jax.tree.map(np.array_equal, restored, state))
    card = ModelCard(toy.model, tuple(map(float, range(400, 701, 10))))
    (tmp_path / "model.json").write_text(card.to_json())
    for which in ("best", "latest"):
        assert jax.tree.all(jax.tree.map(np.array_equal, load_model(tmp_path, which)[1], state.ema))

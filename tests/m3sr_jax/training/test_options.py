"""Runs with a base, augmentation and other optimisers: they resume bit for bit, and a base is fitted once and stays."""

import dataclasses
import shutil

import jax
import numpy as np
import pytest

from m3sr_jax.checkpoint import load_model
from m3sr_jax.config import Config, DataConfig, ModelConfig, OptimConfig
from m3sr_jax.data.open import open_dataset
from m3sr_jax.errors import InputError
from m3sr_jax.models import build_model, init_params
from m3sr_jax.regression import fit
from m3sr_jax.training import fitting, loop
from m3sr_jax.training.fitting import with_fit
from m3sr_jax.training.loop import train_and_evaluate
from m3sr_jax.training.metric_writer import read_metrics

pytestmark = pytest.mark.usefixtures("compiled_once_and_quickly")

AUGMENTED = {"exposure": (-2.0, 1.0), "noise": 0.01, "jpeg_quality": (70, 95)}
OPTIONS = {
    "everything": (
        {"base": "root2_weighted", "pixel_head": True, "normalise_exposure": True},
        AUGMENTED | {"patch_size": 8},
        {"warmup_steps": 3, "name": "adamw", "weight_decay": 0.1, "ema_decay": 0.9},
    ),
    "muon": ({"base": "cubic"}, {}, {"name": "muon", "weight_decay": 0.1, "grad_clip": 1.0}),
    "schedule_free": ({"base": "root1"}, {"exposure": (-1.0, 1.0)}, {"name": "schedule_free", "warmup_steps": 2}),
}


def configured(toy: Config, name: str) -> Config:
    model, data, optim = OPTIONS[name]
    return dataclasses.replace(
        toy,
        model=dataclasses.replace(toy.model, **model),
        data=dataclasses.replace(toy.data, **data),
        optim=dataclasses.replace(toy.optim, **optim),
        train=dataclasses.replace(toy.train, num_steps=8, eval_every_steps=4, checkpoint_every_steps=3),
    )


def without_timings(workdir):
    records = read_metrics(workdir / "metrics.jsonl")
    return [{name: value for name, value in r.items() if name != "train/images_per_second"} for r in records]


@pytest.fixture(autouse=True)
def few_pixels(monkeypatch):
    monkeypatch.setattr(fitting, "FITTED_PIXELS", 20_000)


@pytest.mark.parametrize("name", OPTIONS)
def test_a_killed_run_resumes_bit_for_bit_and_the_base_stays(toy, name, tmp_path, monkeypatch):
    config, next_batch = configured(toy, name), loop._next_batch
    assert train_and_evaluate(config, tmp_path / "whole") == 0

    def die(run, stop):
        if run.step == 5:
            raise ConnectionError("killed")
        return next_batch(run, stop)

    monkeypatch.setattr(loop, "_next_batch", die)
    with pytest.raises(ConnectionError):
        train_and_evaluate(config, tmp_path / "killed")
    monkeypatch.setattr(loop, "_next_batch", next_batch)
    assert train_and_evaluate(config, tmp_path / "killed") == 0
    assert without_timings(tmp_path / "killed") == without_timings(tmp_path / "whole")
    (_, ours, card), (_, theirs, _) = (load_model(tmp_path / run, "latest") for run in ("killed", "whole"))
    for mine, other in zip(jax.tree.leaves(ours), jax.tree.leaves(theirs), strict=True):
        np.testing.assert_array_equal(mine, other)
    assert card.model.base == config.model.base

    fitted = with_fit(config, open_dataset(config.data), {})["regression"]
    np.testing.assert_allclose(ours["regression"], fitted, rtol=1e-5, atol=1e-6)  # the running mean rounds
    assert np.abs(ours["gain"] - 0.1).max() > 0
    losses = [record["train/loss"] for record in without_timings(tmp_path / "whole") if "train/loss" in record]
    assert np.isfinite(losses).all()


@pytest.mark.parametrize("optim", [{}, {"ema_decay": 0.9}, {"name": "schedule_free"}])
def test_parameters_in_bfloat16_are_trained_resumed_reported_and_loaded(toy, optim, tmp_path):
    config = dataclasses.replace(
        toy,
        model=ModelConfig("pixel", param_dtype="bfloat16"),
        optim=dataclasses.replace(toy.optim, **optim),
        train=dataclasses.replace(toy.train, num_steps=4, eval_every_steps=2, checkpoint_every_steps=2),
    )
    assert train_and_evaluate(config, tmp_path) == 0
    whole = without_timings(tmp_path)
    shutil.rmtree(tmp_path / "checkpoints" / "latest" / "4")
    assert train_and_evaluate(config, tmp_path) == 0
    assert without_timings(tmp_path) == whole
    for which in ("best", "latest"):  # a running mean has more digits
        types = {leaf.dtype.name for leaf in jax.tree.leaves(load_model(tmp_path, which)[1])}
        assert types == {"float32" if "ema_decay" in optim else "bfloat16"}


def test_a_base_is_scored_from_the_start_as_well_as_the_regression(toy):
    config = configured(toy, "muon")
    dataset = open_dataset(config.data)
    coefficients = np.asarray(with_fit(config, dataset, {})["regression"], np.float64)
    scenes = [dataset.train[index] for index in range(len(dataset.train))]
    whole = fit(((scene.rgb, scene.cube) for scene in scenes), "cubic")
    errors = [
        np.mean(np.square(dataclasses.replace(whole, coefficients=weights).predict(scene.rgb) - scene.cube))
        for weights in (coefficients, whole.coefficients)
        for scene in scenes
    ]
    assert np.mean(errors[:3]) == pytest.approx(np.mean(errors[3:]), rel=0.1)  # crops show the same pixels, not equally


def test_init_from_continues_with_the_base_of_the_other_run(toy, tmp_path):
    config = configured(toy, "muon")
    assert train_and_evaluate(config, tmp_path / "first") == 0
    train = dataclasses.replace(config.train, init_from=str(tmp_path / "first"), num_steps=4)
    later = dataclasses.replace(config, train=train, seed=5)
    assert train_and_evaluate(later, tmp_path / "second") == 0
    first, second = (load_model(tmp_path / run, "latest")[1]["regression"] for run in ("first", "second"))
    np.testing.assert_array_equal(first, second)
    plain = dataclasses.replace(later, model=dataclasses.replace(later.model, base="none"))
    with pytest.raises(InputError, match=r"pass --config\.model\.base=cubic$"):
        train_and_evaluate(plain, tmp_path / "third")


def test_exact_colour_needs_linear_photos_and_reflectance(toy, tmp_path):
    model = dataclasses.replace(toy.model, num_bands=31, exact_colour=True)
    with pytest.raises(InputError, match=r'model\.exact_colour: found encoding "codes"'):
        train_and_evaluate(dataclasses.replace(toy, model=model), tmp_path / "run")
    data = DataConfig(
        name="photo", root=str(tmp_path), num_train_scenes=2, num_valid_scenes=1, scene_size=16, crop_size=8
    )
    photos = open_dataset(data)
    params = with_fit(dataclasses.replace(toy, model=model, data=data), photos, {})
    assert params.keys() == {"colour_matrix", "colour_inverse"}
    np.testing.assert_allclose(params["colour_matrix"].sum(0), 1, atol=1e-6)  # white is white


def test_clipped_pixels_have_no_part_in_the_fit(toy, monkeypatch):
    data = dataclasses.replace(toy.data, exposure=(2.0, 2.0), augment_probability=1.0)
    config = dataclasses.replace(toy, data=data, model=dataclasses.replace(toy.model, base="root1"))
    seen = []
    monkeypatch.setattr(fitting, "fit", lambda pixels, name: seen.extend(pixels) or fit(seen, name))
    with_fit(config, open_dataset(data), {})
    assert max(rgb.max() for rgb, _ in seen) <= 1
    assert np.mean([np.mean(rgb == 1) for rgb, _ in seen]) < 0.01
    assert max(cube.max() for _, cube in seen) > 1


@pytest.mark.parametrize(
    ("model", "train", "told"),
    [
        ({"name": "hrnet"}, {}, "m3sr or mst_plus_plus without a base"),
        ({"base": "cubic"}, {}, "m3sr or mst_plus_plus without a base"),
        ({}, {"init_from": "runs/a"}, "both are set"),
    ],
)
def test_a_linear_start_is_refused_where_it_means_nothing(model, train, told):
    with pytest.raises(InputError, match=told):
        Config.from_config_dict({"model": model, "train": {"start": "least_squares"} | train})


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"weight_decay": 0.1}, r"optim\.weight_decay"),
        ({"name": "schedule_free", "ema_decay": 0.9}, r"optim\.ema_decay"),
        ({"name": "schedule_free", "final_learning_rate": 1e-6}, r"optim\.final_learning_rate"),
        ({"name": "sgd"}, "adam, adamw, muon, schedule_free"),
    ],
)
def test_options_that_contradict_each_other_are_refused(fields, told):
    with pytest.raises(InputError, match=told):
        OptimConfig(**fields)


def test_a_linear_start_is_the_first_state_of_a_run(toy):
    config = dataclasses.replace(
        toy,
        model=dataclasses.replace(toy.model, name="m3sr", features=4),
        train=dataclasses.replace(toy.train, start="least_squares"),
    )
    params = with_fit(config, open_dataset(config.data), init_params(build_model(config.model), jax.random.key(0)))
    kernel = np.array(params["conv_in"]["kernel"])
    assert np.abs(kernel[1, 1]).max() > 0.1
    kernel[1, 1] = 0
    assert not kernel.any()
    assert not np.any(params["conv_out"]["kernel"])

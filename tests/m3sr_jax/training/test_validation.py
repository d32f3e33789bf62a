"""Scores in training: the model's through the compiled step, and the baselines under their short names."""

import jax
import numpy as np
import pytest

from m3sr_jax.data.open import open_dataset
from m3sr_jax.evaluation.protocols import METRICS, PROTOCOLS, evaluate_pair
from m3sr_jax.models import build_model
from m3sr_jax.regression import fit
from m3sr_jax.training.signals import StopError
from m3sr_jax.training.validation import Validation


@pytest.fixture(scope="module")
def scored(toy):
    dataset, model = open_dataset(toy.data), build_model(toy.model)
    params = model.init(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))["params"]
    return Validation(model, dataset), dataset, model, params


def test_the_models_scores_are_means_over_the_held_out_scenes(scored):
    validation, dataset, model, params = scored
    pairs = [
        (model.apply({"params": params}, scene.rgb[None])[0], scene.cube)
        for scene in map(dataset.valid.__getitem__, range(2))
    ]
    expected = [evaluate_pair(PROTOCOLS["synthetic"], prediction, cube) for prediction, cube in pairs]
    scores = validation.score(validation.predictor(params))
    assert scores == pytest.approx({name: np.mean([row[name] for row in expected]) for name in METRICS}, rel=1e-5)


def test_the_linear_fit_has_the_plain_name(scored):
    validation, dataset, _, _ = scored
    scores = validation.score_baselines()
    linear = fit(((scene.rgb, scene.cube) for scene in map(dataset.train.__getitem__, range(3))), "linear")
    expected = validation.score(linear.predict)
    assert {f"least_squares/{name}": value for name, value in expected.items()}.items() <= scores.items()
    assert {name.split("/")[0] for name in scores} >= {"least_squares", "least_squares_quadratic"}


def test_it_can_be_broken_off_between_scenes(scored):
    validation, _, _, params = scored
    seen = []

    def stop_at_the_second() -> None:
        seen.append(1)
        if len(seen) == 2:
            raise StopError

    with pytest.raises(StopError):
        validation.score(validation.predictor(params, before_scene=stop_at_the_second))
    assert len(seen) == 2

"""Evaluation reads each scene once, scores it under the protocol, and averages over scenes."""

import time

import numpy as np
import pytest

from m3sr_jax.data.scenes import CodedScene, Scene, SceneSource
from m3sr_jax.errors import InputError
from m3sr_jax.evaluation.evaluate import evaluate, evaluate_all, fit_baselines
from m3sr_jax.evaluation.protocols import METRICS, PROTOCOLS, evaluate_pair
from m3sr_jax.regression import fit

PROTOCOL = PROTOCOLS["synthetic"]


def grey(rgb):
    return np.repeat(rgb.mean(-1, keepdims=True), 31, axis=-1)


def test_scores_are_the_protocols_and_means_are_over_scenes(dataset):
    steps = []
    report = evaluate(grey, dataset.valid, PROTOCOL, lambda done, total: steps.append((done, total)), name="grey")
    assert dataset.valid.reads == [0, 1, 2]
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert (report.name, list(report.scenes)) == ("grey", ["valid0", "valid1", "valid2"])
    assert report.seconds_per_image > 0
    scene = dataset.valid[1]
    assert report.scenes["valid1"] == evaluate_pair(PROTOCOL, grey(scene.rgb), scene.cube)
    assert set(report.means) == set(METRICS)
    assert report.means["sam"] == pytest.approx(sum(scores["sam"] for scores in report.scenes.values()) / 3)


def test_several_methods_share_one_reading_of_each_scene(dataset):
    seen = []
    methods = {"grey": grey, "dark": lambda rgb: 0.5 * grey(rgb)}
    reports = evaluate_all(methods, dataset.valid, PROTOCOL, observe=lambda scene, cubes: seen.append((scene, cubes)))
    assert dataset.valid.reads == [0, 1, 2]
    assert [report.name for report in reports] == ["grey", "dark"]
    assert [scene.name for scene, _ in seen] == ["valid0", "valid1", "valid2"]
    np.testing.assert_array_equal(seen[2][1]["dark"], 0.5 * grey(dataset.valid[2].rgb))
    errors = [np.square(cubes["dark"] - scene.cube).mean((0, 1)) for scene, cubes in seen]
    np.testing.assert_allclose(reports[1].band_rmse, np.mean(np.sqrt(errors), axis=0), rtol=1e-5)


@pytest.mark.parametrize(
    ("sizes", "calls"), [([(24, 28), (28, 24), (24, 28)], 3), ([(24, 28), (24, 28)], 2), ([(24, 28), (28, 24)], 3)]
)
def test_the_time_per_image_excludes_the_compilation_for_each_size(sizes, calls, monkeypatch):
    clock, compiled, made = [0.0], set(), []

    def predict(rgb):
        clock[0] += 1 if rgb.shape in compiled else 60
        compiled.add(rgb.shape)
        made.append(rgb.shape)
        return grey(rgb)

    def read(index):
        codes = np.full((*sizes[index], 31), 100, np.uint16)
        return CodedScene(f"scene{index}", codes[..., :3].astype(np.uint8), codes)

    monkeypatch.setattr(time, "perf_counter", lambda: clock[0])
    names = [f"scene{i}" for i in range(len(sizes))]
    nm = np.linspace(400, 700, 31)
    scenes = SceneSource(names, sizes, read, wavelengths=nm, camera_name="", fingerprint="", cache_bytes=0)
    assert evaluate(predict, scenes, PROTOCOL).seconds_per_image == 1
    assert len(made) == calls


def test_large_sets_are_fitted_on_every_kth_pixel(dataset, monkeypatch):
    from m3sr_jax.evaluation import evaluate as module

    monkeypatch.setattr(module, "MAX_FITTED_PIXELS", 24 * 28 * 5 // 4)
    thinned = [
        Scene(scene.name, scene.rgb[::2, ::2], scene.cube[::2, ::2], scene.wavelengths) for scene in dataset.train
    ]
    rgb = dataset.valid[0].rgb
    expected = fit(((scene.rgb, scene.cube) for scene in thinned), "quadratic").predict(rgb)
    np.testing.assert_array_equal(fit_baselines(dataset)["least_squares_quadratic"](rgb), expected)


def test_baselines_are_fitted_on_the_training_scenes_alone(dataset):
    baselines = fit_baselines(dataset)
    assert list(baselines)[:2] == ["least_squares_linear", "least_squares_quadratic"]
    assert len(baselines) == 3
    assert dataset.valid.reads == []
    linear = fit(((scene.rgb, scene.cube) for scene in map(dataset.train.__getitem__, range(5))), "linear")
    rgb = dataset.valid[0].rgb
    np.testing.assert_array_equal(baselines["least_squares_linear"](rgb), linear.predict(rgb))
    quadratic = evaluate(baselines["least_squares_quadratic"], dataset.train, PROTOCOL).means["rmse"]
    assert quadratic < evaluate(baselines["least_squares_linear"], dataset.train, PROTOCOL).means["rmse"]


def test_errors_say_why_nothing_can_be_evaluated(dataset, empty_source):
    with pytest.raises(InputError, match="no scenes"):
        evaluate(grey, empty_source, PROTOCOL)
    with pytest.raises(InputError, match=r"valid0.*28\).*31\)"):
        evaluate(lambda rgb: grey(rgb)[..., :28], dataset.valid, PROTOCOL)
    with pytest.raises(InputError, match="24×28"):
        evaluate(grey, dataset.valid, PROTOCOLS["ntire2022"])

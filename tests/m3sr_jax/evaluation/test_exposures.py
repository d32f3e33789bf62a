"""Scores on photos of other exposures."""

import numpy as np
import pytest

from m3sr_jax.data.camera import Shot, quantise
from m3sr_jax.data.scenes import decode
from m3sr_jax.errors import InputError
from m3sr_jax.evaluation.evaluate import evaluate
from m3sr_jax.evaluation.exposures import (
    check_exposures,
    evaluate_exposures,
    exposure_means,
    exposure_rows,
    exposure_table,
)
from m3sr_jax.evaluation.protocols import PROTOCOLS, evaluate_pair

PROTOCOL = PROTOCOLS["synthetic"]
THIRDS = np.zeros((31, 3))
THIRDS[20:, 0], THIRDS[10:20, 1], THIRDS[:10, 2] = 1 / 11, 1 / 10, 1 / 10


def grey(rgb):
    return np.repeat(rgb.mean(-1, keepdims=True), 31, axis=-1)


def square(rgb):
    return grey(rgb) ** 2


@pytest.mark.parametrize("camera", [None, Shot(THIRDS)])
def test_photos_are_rounded_again_and_predictions_divided(dataset, camera):
    dataset.valid.take = camera
    reports = evaluate_exposures({"grey": grey, "square": square}, dataset, PROTOCOL, (0.5, 1.0, 2.0))
    assert reports[1.0][0].scenes == evaluate(grey, dataset.valid, PROTOCOL).scenes
    scene = dataset.valid.coded_window(1, 0, 0, 24, 28)
    for exposure in (0.5, 2.0):
        light = decode(scene.rgb) if camera is None else decode(scene.cube) @ THIRDS.astype(np.float32)
        rgb = decode(quantise(exposure * light))
        expected = evaluate_pair(PROTOCOL, square(rgb) / np.float32(exposure), decode(scene.cube))
        assert reports[exposure][1].scenes["valid1"] == pytest.approx(expected, rel=1e-5)
    errors = {exposure: methods[0].means["rmse"] for exposure, methods in reports.items()}
    assert errors[0.5] == pytest.approx(errors[1.0], rel=0.02)  # a linear method
    assert errors[2.0] > errors[1.0]  # clipped


def test_rows_and_means_name_method_and_exposure(dataset):
    reports = evaluate_exposures({"m3sr": grey, "least_squares_cubic": square}, dataset, PROTOCOL, (0.5, 1.0))
    rows = exposure_rows(reports)
    assert [row[0] for row in rows] == [
        "M3SR, ×0.5",
        "M3SR, ×1",
        "cubic least squares, ×0.5",
        "cubic least squares, ×1",
    ]
    means = exposure_means(reports)
    assert means["0.5"]["m3sr"] == reports[0.5][0].means
    assert exposure_table(reports).row_count == 4


def test_exposures_that_mean_nothing_are_refused(dataset):
    with pytest.raises(InputError, match="--exposures: found 0, expected numbers"):
        check_exposures((0.0,), dataset)
    dataset.valid.rgb_normalization = "minmax"
    check_exposures((), dataset)
    with pytest.raises(InputError, match="undoes any exposure"):
        check_exposures((0.5,), dataset)

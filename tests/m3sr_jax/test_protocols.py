"""Protocols: what is cropped, clipped and floored, and that it is said."""

import json

import numpy as np
import pytest

from m3sr_jax import metrics
from m3sr_jax.errors import InputError
from m3sr_jax.protocols import METRICS, PROTOCOLS, Protocol, evaluate_pair, get_protocol


@pytest.fixture
def pair():
    rng = np.random.default_rng(0)
    target = rng.random((482, 512, 31), np.float32) * 0.9 + 0.05
    return target + 0.1 * rng.standard_normal(target.shape, np.float32), target


def test_ntire2022_scores_the_226_by_256_centre(pair):
    prediction, target = pair
    centre = (slice(128, 354), slice(128, 384))
    scores = evaluate_pair(PROTOCOLS["ntire2022"], prediction, target)
    assert tuple(scores) == METRICS
    assert target[centre].shape[:2] == (226, 256)
    for name, score in scores.items():
        expected = getattr(metrics, name)(prediction[centre][None], target[centre][None])[0]
        np.testing.assert_allclose(score, expected, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize(
    ("name", "crop", "epsilon"), [("ntire2022", 128, 0), ("ntire2020", 0, 0), ("cave", 0, 1e-3), ("synthetic", 0, 1e-3)]
)
def test_presets_are_the_benchmarks_terms(name, crop, epsilon):
    protocol = get_protocol(name)
    assert (protocol.name, protocol.crop, protocol.epsilon) == (name, crop, epsilon)
    assert (protocol.clamp, protocol.psnr_mode, protocol.ssim_window) == (False, "cube", 11)


def test_every_term_changes_the_scores_it_should(pair):
    prediction, target = pair[0][:64, :64], pair[1][:64, :64]
    plain = evaluate_pair(Protocol("plain"), prediction, target)
    for protocol, touched in [
        (Protocol("clamped", clamp=True), {"mrae", "rmse", "sam", "mssim"}),
        (Protocol("floored", epsilon=0.5), {"mrae"}),
        (Protocol("per band", psnr_mode="band"), {"psnr"}),
        (Protocol("narrow", ssim_window=7), {"mssim"}),
    ]:
        scores = evaluate_pair(protocol, prediction, target)
        assert {name for name in METRICS if abs(scores[name] - plain[name]) > 1e-6} == touched


def test_terms_can_be_printed_and_stored():
    for protocol in PROTOCOLS.values():
        assert json.loads(json.dumps(protocol.terms()))["name"] == protocol.name
        assert protocol.describe().startswith(f"{protocol.name}: ")
    assert "128 pixels off every side" in PROTOCOLS["ntire2022"].describe()
    assert "0.001" in PROTOCOLS["cave"].describe()


def test_what_cannot_be_scored_says_why(pair):
    prediction, target = pair
    with pytest.raises(InputError, match="ntire2022, ntire2020, cave"):
        get_protocol("ntire")
    with pytest.raises(InputError, match="256×260"):
        evaluate_pair(PROTOCOLS["ntire2022"], prediction[:256, :260], target[:256, :260])

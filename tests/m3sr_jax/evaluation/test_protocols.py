"""Protocols: what they crop, clip and floor, and that they state it."""

import json

import numpy as np
import pytest
from skimage.metrics import structural_similarity

from m3sr_jax.errors import InputError
from m3sr_jax.evaluation import metrics
from m3sr_jax.evaluation.protocols import METRICS, PROTOCOLS, Protocol, band_rmse, evaluate_pair, get_protocol

# Agreement of a score in float32 with the same in float64; of PSNR with RMSE.
INDEPENDENT, PSNR_RMSE_DB = 1e-5, 1e-4
# scikit-image crops half a window at the border, as `mssim` does.
SSIM = {
    "gaussian_weights": True,
    "sigma": 1.5,
    "use_sample_covariance": False,
    "data_range": 1.0,
}


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
    ("name", "crop", "mrae_floor"),
    [("ntire2022", 128, 0), ("ntire2020", 0, 0), ("cave", 0, 1e-3), ("synthetic", 0, 1e-3)],
)
def test_presets_are_the_benchmarks_terms(name, crop, mrae_floor):
    protocol = get_protocol(name)
    assert get_protocol("ntire2020_clean") is get_protocol("ntire2020_real") is PROTOCOLS["ntire2020"]
    assert (protocol.name, protocol.crop, protocol.mrae_floor) == (name, crop, mrae_floor)
    assert (protocol.clamp, protocol.psnr_mode, protocol.ssim_window) == (False, "cube", 11)


def test_every_term_changes_the_scores_it_should(pair):
    prediction, target = pair[0][:64, :64], pair[1][:64, :64]
    plain = evaluate_pair(Protocol("plain"), prediction, target)
    for protocol, touched in [
        (Protocol("clamped", clamp=True), {"mrae", "rmse", "sam", "sam_bright", "mssim"}),
        (Protocol("floored", mrae_floor=0.5), {"mrae"}),
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


def test_errors_say_why_nothing_can_be_scored(pair):
    prediction, target = pair
    with pytest.raises(InputError, match="ntire2022, ntire2020, cave"):
        get_protocol("ntire")
    with pytest.raises(InputError, match="256×260"):
        evaluate_pair(PROTOCOLS["ntire2022"], prediction[:256, :260], target[:256, :260])


def by_numpy(x, y, mrae_floor):
    """The scores in float64, by their definitions, with none of our code."""
    x, y = x.astype(np.float64), y.astype(np.float64)
    error = np.mean((np.clip(x, 0, 1) - np.clip(y, 0, 1)) ** 2)
    cosine = (x * y).sum(-1) / np.linalg.norm(x, axis=-1) / np.linalg.norm(y, axis=-1)
    angles = np.degrees(np.arccos(np.clip(cosine, -1, 1)))
    structure = [
        structural_similarity(a, b, **SSIM) for a, b in zip(np.moveaxis(x, -1, 0), np.moveaxis(y, -1, 0), strict=True)
    ]
    return {
        "mrae": np.mean(np.abs(x - y) / np.maximum(y, mrae_floor)),
        "rmse": np.sqrt(np.mean((x - y) ** 2)),
        "psnr": 10 * np.log10(1 / error),
        "sam": angles.mean(),
        "sam_bright": angles[np.linalg.norm(y, axis=-1) > 0.05 * np.sqrt(y.shape[-1])].mean(),
        "mssim": np.mean(structure),
    }


@pytest.mark.parametrize(
    ("name", "crop", "mrae_floor"), [("ntire2022", 128, 0), ("ntire2020_real", 0, 0), ("cave", 0, 1e-3)]
)
def test_a_protocols_numbers_are_those_of_an_independent_computation(pair, name, crop, mrae_floor):
    prediction, target = (cube[..., ::10] for cube in pair)
    region = (slice(crop, 482 - crop), slice(crop, 512 - crop))
    scores = evaluate_pair(get_protocol(name), prediction, target)
    assert scores == pytest.approx(by_numpy(prediction[region], target[region], mrae_floor), rel=INDEPENDENT)
    unclipped = np.clip(prediction, 0, 1)
    scores = evaluate_pair(get_protocol(name), unclipped, target)
    assert abs(scores["psnr"] + 20 * np.log10(scores["rmse"])) < PSNR_RMSE_DB
    bands = band_rmse(get_protocol(name), prediction, target)
    gaps = prediction[region].astype(np.float64) - target[region]
    np.testing.assert_allclose(bands, np.sqrt((gaps**2).mean((0, 1))), rtol=INDEPENDENT)

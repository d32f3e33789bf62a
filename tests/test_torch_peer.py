"""The PyTorch MST++ that bench_model.py compares with computes what the release computed, in float64."""

import importlib.util
import sys
from pathlib import Path

import numpy as np
import pytest
from release_numbers import channels_last, check_probes, draw_images, parity_file

from tests.m3sr_jax.test_baseline_parity import CASES, GRADIENT_BARS, LOSS_BARS, OUTPUT_BARS, draw_state_dict

torch = pytest.importorskip("torch", reason="needs the extra torch")
SCRIPT = Path(__file__).parents[1] / "benchmarks" / "torch_peer.py"


@pytest.fixture(scope="module")
def peer():
    spec = importlib.util.spec_from_file_location("torch_peer", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    sys.modules["torch_peer"] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("size", ["odd", "even"])
def test_mst_plus_plus_has_the_releases_loss_gradients_and_output(peer, size):
    case = CASES["mstpp"][f"mstpp_{size}"]
    model = peer.MSTPlusPlus().double()
    model.load_state_dict({key: torch.tensor(value) for key, value in draw_state_dict(case).items()})
    images = (np.asarray(image).transpose(0, 3, 1, 2) for image in draw_images(case, "float32"))
    rgb, target = (torch.tensor(image, dtype=torch.float64) for image in images)
    output = model(rgb)
    loss = torch.nn.functional.l1_loss(output, target)
    loss.backward()
    assert loss.item() == pytest.approx(case["loss"], rel=LOSS_BARS["float64"])
    gradients = {key: parameter.grad.numpy() for key, parameter in model.named_parameters()}
    check_probes(case, {key: gradients[key] for key in case["grads"]}, GRADIENT_BARS["float64"])
    with np.load(parity_file(f"mstpp_{size}.npz", "baselines")) as stored:
        expected = channels_last(stored["output"])
    error = np.linalg.norm(channels_last(output.detach().numpy()) - expected) / np.linalg.norm(expected)
    assert error <= OUTPUT_BARS["float64"]

"""Release checkpoints on disk, good and bad."""

import pickle
import sys

import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import save_file

from m3sr_jax.convert import params_from_release, read_release
from m3sr_jax.errors import InputError

SMALL = {"conv_in.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "conv_in.bias": np.ones(2, np.float32)}


def assert_same(got, expected):
    assert list(got) == list(expected)
    for key, value in expected.items():
        np.testing.assert_array_equal(got[key], value)
        assert isinstance(got[key], np.ndarray)


@pytest.fixture
def torch():
    return pytest.importorskip("torch", reason="reading .pth files takes PyTorch")


def test_safetensors_need_no_torch(tmp_path, state_dict, model, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    path = tmp_path / "weights.safetensors"
    save_file(state_dict, path)
    params = params_from_release(read_release(path), model)
    np.testing.assert_array_equal(params["unet_0"]["up_0"]["bias"], state_dict["body.0.decoder_layers.1.0.bias"])


@pytest.mark.parametrize("prefix", ["", "module."])
@pytest.mark.parametrize("wrapped", [False, True])
def test_pth_with_and_without_prefix_and_wrapper(tmp_path, torch, prefix, wrapped):
    content = {prefix + key: torch.from_numpy(value) for key, value in SMALL.items()}
    if wrapped:
        content = {"epoch": 3, "iter": 12, "state_dict": content, "optimizer": {"state": {}, "param_groups": []}}
    torch.save(content, tmp_path / "net.pth")
    assert_same(read_release(tmp_path / "net.pth"), SMALL)


def test_half_precision_and_trained_tensors_are_read(tmp_path, torch):
    half = torch.nn.Parameter(torch.tensor([1.5, -2.25], dtype=torch.bfloat16))
    torch.save({"weights": half}, tmp_path / "net.pth")
    assert_same(read_release(tmp_path / "net.pth"), {"weights": np.array([1.5, -2.25], np.float32)})


def test_bfloat16_safetensors_become_float32(tmp_path):
    save_file({"weights": np.array([1.5, -2.25], jnp.bfloat16)}, tmp_path / "net.safetensors")
    (weights,) = read_release(tmp_path / "net.safetensors").values()
    assert weights.dtype == np.float32
    np.testing.assert_array_equal(weights, [1.5, -2.25])


def test_hostile_pickle_is_not_run(tmp_path, torch):
    witness = tmp_path / "witness"

    class Hostile:
        def __reduce__(self):
            return (open, (str(witness), "w"))

    torch.save({"state_dict": Hostile()}, tmp_path / "zip.pth")
    (tmp_path / "plain.pth").write_bytes(pickle.dumps(Hostile(), protocol=2))
    for name in ("zip.pth", "plain.pth"):
        with pytest.raises(InputError, match=f"{name}: not a complete PyTorch checkpoint .* no code in it was run"):
            read_release(tmp_path / name)
    assert not witness.exists()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.95])
def test_truncated_files_are_refused(tmp_path, torch, share):
    torch.save({key: torch.from_numpy(value) for key, value in SMALL.items()}, tmp_path / "net.pth")
    save_file(SMALL, tmp_path / "net.safetensors")
    for name in ("net.pth", "net.safetensors"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(InputError, match=f"{name}: not a complete"):
            read_release(tmp_path / name)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list; expected a state dict"),
        ({"epoch": 3, "iter": 5}, "its state dict holds epoch, iter; expected plain tensors only, by name"),
        ({"state_dict": {}}, "holds no tensors"),
    ],
)
def test_other_content_is_refused(tmp_path, torch, content, message):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(InputError, match=message):
        read_release(tmp_path / "net.pth")


def test_files_of_another_kind_are_refused(tmp_path):
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    with pytest.raises(InputError, match=r"found \.png, expected a release checkpoint \(\.pth or \.safetensors\)"):
        read_release(tmp_path / "photo.png")
    (tmp_path / "page.safetensors").write_text("<html>404</html>")
    with pytest.raises(InputError, match=r"not a complete \.safetensors file"):
        read_release(tmp_path / "page.safetensors")
    with pytest.raises(InputError, match="no such file"):
        read_release(tmp_path / "missing.pth")
    with pytest.raises(InputError, match="no such file"):
        read_release(tmp_path)


def test_missing_torch_is_said(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    (tmp_path / "net.pth").write_bytes(b"")
    with pytest.raises(InputError, match="this format needs PyTorch; run `pip install torch`"):
        read_release(tmp_path / "net.pth")

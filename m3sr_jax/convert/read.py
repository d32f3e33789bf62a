"""Reads a release checkpoint from disk without running any code in it."""

from __future__ import annotations

import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from m3sr_jax.errors import InputError, one_line
from m3sr_jax.io.files import BoundedFile, check_claim

PREFIX = "module."
TORCH_SUFFIXES = (".pth", ".pt", ".ckpt")


def read_release(path: str | Path) -> dict[str, np.ndarray]:
    """Reads the state dict of a checkpoint as the authors' training code writes it.

    Reads `.safetensors` (without PyTorch) and `.pth`, `.pt`, `.ckpt` (through `torch.load(weights_only=True)`, which
    refuses to run code). It takes the entry `state_dict` if there is one, and drops a `module.` before every key.

    Args:
      path: the checkpoint.

    Returns:
      Key → array in the release's layout, with the file's order and types (bfloat16 becomes float32).

    Raises:
      InputError: the file is missing, damaged, hostile or of another kind, or PyTorch is needed and not installed.

    Source: the checkpoint format of the authors' release.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected a release checkpoint (.pth or .safetensors)")
    if path.suffix == ".safetensors":
        state_dict = _read_safetensors(path)
    elif path.suffix in TORCH_SUFFIXES:
        state_dict = _read_torch(path)
    else:
        raise InputError(
            f"{path}: found {path.suffix or 'no suffix'}, expected a release checkpoint (.pth or .safetensors)"
        )
    if not state_dict:
        raise InputError(f"{path}: holds no tensors; expected the state dict of a release checkpoint")
    if all(key.startswith(PREFIX) for key in state_dict):
        return {key.removeprefix(PREFIX): value for key, value in state_dict.items()}
    return state_dict


def _read_safetensors(path: Path) -> dict[str, np.ndarray]:
    import ml_dtypes  # comes with JAX; safetensors needs it for bfloat16
    from safetensors.numpy import load_file

    try:
        tensors = load_file(path)
    except Exception as error:  # safetensors documents no closed set
        raise InputError(f"{path}: not a complete .safetensors file of float tensors ({one_line(error)})") from error
    return {k: v.astype(np.float32) if v.dtype == ml_dtypes.bfloat16 else v for k, v in tensors.items()}


def _read_torch(path: Path) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path}: this format needs PyTorch; run `pip install torch`, or save the weights as .safetensors"
        ) from error
    try:
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as archive:
                check_claim(path, (sum(entry.file_size for entry in archive.infolist()),), 1)
        with BoundedFile(path) as file:
            content = torch.load(file, map_location="cpu", weights_only=True)
        return _tensors(path, content)
    except InputError:
        raise
    except Exception as error:  # a damaged or hostile file can make the unpickler raise anything
        raise InputError(
            f"{path}: not a complete PyTorch checkpoint of plain tensors; no code in it was run ({one_line(error)})"
        ) from error


def _tensors(path: Path, content: Any) -> dict[str, np.ndarray]:
    import torch

    if isinstance(content, Mapping) and "state_dict" in content:
        content = content["state_dict"]
    if not isinstance(content, Mapping):
        raise InputError(
            f"{path}: holds a {type(content).__name__}; expected a state dict, or one under the key state_dict"
        )
    wrong = [str(key) for key, value in content.items() if not (isinstance(key, str) and _is_plain(value))]
    if wrong:
        raise InputError(f"{path}: its state dict holds {', '.join(wrong[:10])}; expected plain tensors only, by name")
    return {
        key: (value.float() if value.dtype == torch.bfloat16 else value).detach().numpy()
        for key, value in content.items()
    }


def _is_plain(value: Any) -> bool:
    import torch

    if not isinstance(value, torch.Tensor) or value.layout != torch.strided or value.is_quantized or value.is_meta:
        return False
    # A view may claim many times the numbers that its storage holds.
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()

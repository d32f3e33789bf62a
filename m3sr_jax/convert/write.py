"""Writes release checkpoints: .pth and .safetensors."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from m3sr_jax.errors import InputError
from m3sr_jax.io.files import written_whole

SUFFIXES = (".pth", ".safetensors")


def write_release(path: Path, state_dict: Mapping[str, np.ndarray]) -> None:
    """Writes a state dict as the release reads it; the file appears whole or not at all.

    Args:
        path: ends in .pth, which takes PyTorch, or in .safetensors.
        state_dict: key → array in the release's layout, as `params_to_release` returns it.

    Raises:
        InputError: the file cannot be written, or PyTorch is missing.
    """
    from safetensors.numpy import save

    content = save(dict(state_dict)) if path.suffix == ".safetensors" else _pth(path, state_dict)
    with written_whole(path) as unfinished:
        unfinished.write_bytes(content)


def _pth(path: Path, state_dict: Mapping[str, np.ndarray]) -> bytes:
    try:
        import torch
    except ImportError as error:
        raise InputError(
            f"{path}: a .pth file takes PyTorch; run `pip install torch`, or choose a .safetensors file"
        ) from error
    content = io.BytesIO()
    torch.save({"state_dict": {key: torch.from_numpy(value) for key, value in state_dict.items()}}, content)
    return content.getvalue()

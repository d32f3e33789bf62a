"""Keeps a launch with its inputs and outputs in a file, so that it can run again without a compiler."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np

from tools.ptx.execute import Launch


def save(path: Path, launch: Launch, arrays: Sequence[np.ndarray], outputs: Sequence[np.ndarray]) -> None:
    """Writes a launch to an .npz file, without what its text says to debuggers."""
    ptx = re.sub(r"//[^\n]*|^\s*\.(?:loc|file)\b[^\n]*$", "", launch.ptx, flags=re.MULTILINE)
    ptx = re.sub(r"\n\s*\n+", "\n", ptx.partition("\t.section")[0])
    described = [[list(shape), dtype.name] for side in (launch.inputs, launch.outputs) for shape, dtype in side]
    facts = {
        "name": launch.name,
        "entry": launch.entry,
        "grid": launch.grid,
        "threads": launch.threads,
        "inputs": len(launch.inputs),
        "arrays": described,
        "aliases": list(launch.aliases.items()),
        "shared_bytes": launch.shared_bytes,
        "order": launch.order,
    }
    content = {f"array{number}": array.tobytes() for number, array in enumerate([*arrays, *outputs])}
    content |= {"ptx": ptx.encode(), "facts": json.dumps(facts).encode()}
    arrays_of_bytes: dict[str, Any] = {name: np.frombuffer(data, np.uint8) for name, data in content.items()}
    np.savez_compressed(path, **arrays_of_bytes)


def load(path: Path) -> tuple[Launch, list[np.ndarray], list[np.ndarray]]:
    """The launch, its inputs and its outputs."""
    with np.load(path) as file:
        facts: dict[str, Any] = json.loads(bytes(file["facts"]))
        described = [
            (tuple(shape), np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name))
            for shape, name in facts.pop("arrays")
        ]
        arrays = [file[f"array{number}"].view(dtype).reshape(shape) for number, (shape, dtype) in enumerate(described)]
        ptx = bytes(file["ptx"]).decode()
    count = facts.pop("inputs")
    facts |= {name: tuple(facts[name]) for name in ("grid", "threads", "order")}
    facts |= {"aliases": dict(facts["aliases"]), "inputs": tuple(described[:count])}
    launch = Launch(ptx=ptx, outputs=tuple(described[count:]), **facts)
    return launch, arrays[:count], arrays[count:]

"""How many machine instructions ptxas makes of a kernel."""

from __future__ import annotations

import functools
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

from tools.gpu_target import DEVICES
from tools.ptx.errors import PtxError
from tools.ptx.parser import Instruction, parse

INSTRUCTION_BYTES = 16  # since compute capability 7.0


@functools.cache
def machine_instructions_per_ptx(ptx: str, entry: str, gpu: str) -> float:
    """Machine instructions in a kernel's code over PTX instructions in its text.

    Times the PTX instructions that ran, it estimates the machine instructions that would: as if ptxas shortened every
    loop alike.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx)
        command = [_ptxas(), f"-arch={DEVICES[gpu][1]}", source, "-o", target]
        subprocess.run(command, check=True, capture_output=True)
        code = _section_size(target.read_bytes(), f".text.{parse(ptx, entry).name}")
    statements = sum(isinstance(statement, Instruction) for statement in parse(ptx, entry).statements)
    return code / INSTRUCTION_BYTES / statements


def _ptxas() -> Path:
    """The assembler in the CUDA packages that jax installed."""
    folders = [Path(folder) for folder in sys.path if folder.endswith("site-packages")]
    return next(path for folder in folders for path in folder.glob("nvidia/*/bin/ptxas"))


def _section_size(elf: bytes, name: str) -> int:
    """Bytes of a section of a 64-bit ELF file."""
    [start] = struct.unpack_from("<Q", elf, 0x28)
    size, count, names = struct.unpack_from("<HHH", elf, 0x3A)
    headers = [struct.unpack_from("<IIQQQQ", elf, start + size * number) for number in range(count)]
    strings = headers[names][4]
    for label, _, _, _, _, length in headers:
        if elf[strings + label :].startswith(name.encode() + b"\0"):
            return length
    raise PtxError(f"the machine code has no section {name}")

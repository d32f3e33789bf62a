"""The CPU that kernels are compiled for: instruction set, lanes of its vectors, tiles that fit its registers."""

from __future__ import annotations

import dataclasses
import functools
import os

SUPPORTED = ("x86_64", "amd64", "aarch64", "arm64")


@dataclasses.dataclass(frozen=True)
class Target:
    """What LLVM needs to know of a CPU.

    Attributes:
      triple: "x86_64-unknown-linux-gnu" and the like.
      cpu: LLVM's name of the processor.
      features: its instruction set extensions, "+avx2,-avx512f,…".
    """

    triple: str
    cpu: str
    features: str

    def has(self, feature: str) -> bool:
        """Whether the CPU has an extension."""
        return f"+{feature}" in self.features.split(",")

    @property
    def lanes(self) -> int:
        """Float32 numbers in a vector: 16 with AVX-512, 8 with AVX, 4 with NEON or SSE."""
        if self.has("avx512f"):
            return 16
        return 8 if self.has("avx") else 4

    @property
    def registers(self) -> int:
        """Vector registers that a kernel can name."""
        return 16 if self.triple.startswith("x86_64") and self.lanes < 16 else 32

    @property
    def tile(self) -> tuple[int, int]:
        """Rows and vectors of a matrix product's accumulators, which must stay in registers."""
        return (8, 3) if self.registers == 32 else (4, 2)


@functools.cache
def host() -> Target:
    """The CPU of this process.

    M3SR_NATIVE_FEATURES overrides its features, for tests of narrower vectors: "-avx512f" gives AVX2 code.
    """
    import llvmlite.binding as llvm

    features = dict(llvm.get_host_cpu_features())
    for override in filter(None, os.environ.get("M3SR_NATIVE_FEATURES", "").split(",")):
        features[override[1:]] = override[0] == "+"
    if not features.get("avx512f", False):  # LLVM would still use what builds on it
        features |= {name: False for name in features if name.startswith("avx512")}
    flags = ",".join(f"{'+' if on else '-'}{name}" for name, on in sorted(features.items()))
    return Target(llvm.get_process_triple(), llvm.get_host_cpu_name(), flags)

"""The geometry of a scan by the SSD kernels, and how they are launched."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping
from typing import Any

import jax
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

# Pixels whose step sizes are computed side by side, one a lane of the warp.
LANES = 32


@dataclasses.dataclass(frozen=True)
class Geometry:
    """The static facts of a scan.

    Arrays are flat after their batch axis: x is (B, L·channels), dt (B, L·slots·R), b and c (B, L·slots·N). A unit is
    what one program scans: an axis of an image, forward and reverse (slots `unit` and `unit + 2`), or one group of
    heads of a sequence (slot `unit`).
    """

    batch: int
    height: int
    width: int
    heads: int
    head_width: int
    states: int
    units: int
    passes: int  # 2: an image, forward and reverse; 1: a sequence
    dtype: Any  # of states and sums
    chunk: int  # pixels a program, a multiple of LANES
    head_block: int  # most heads a program
    unroll: int  # pixels loaded at once
    snapshot: int  # pixels between the states that the gradient keeps; divides LANES
    rebuild: int  # states that the gradient rebuilds at once; divides `snapshot`
    num_warps: int
    num_stages: int
    interpret: bool  # runs on any platform, slowly

    @property
    def length(self) -> int:
        return self.height * self.width

    @property
    def slots(self) -> int:
        return self.units * self.passes

    @property
    def channels(self) -> int:
        """Channels of a pixel of x: shared by the directions of an image, separate for the groups of a sequence."""
        return self.heads * self.head_width * (1 if self.passes == 2 else self.units)

    @property
    def chunks(self) -> int:
        return pl.cdiv(self.length, self.chunk)

    @property
    def tile(self) -> tuple[int, int]:
        return min(self.head_block, pl.next_power_of_2(self.heads)), pl.next_power_of_2(self.head_width)

    @property
    def blocks(self) -> int:
        return pl.cdiv(self.heads, self.tile[0])

    @property
    def launches(self) -> tuple[int | None, ...]:
        """The unit of each launch, None for all: the axes of an image take turns, since they add to the same pixels."""
        return (None,) if self.passes == 1 else tuple(range(self.units))

    @property
    def even(self) -> bool:
        """Whether every chunk is full: then nothing is masked for its place in time."""
        return self.length % self.chunk == 0

    @property
    def steps_size(self) -> int:
        """Elements of the step sizes of a batch entry, and of the decays."""
        return self.chunks * self.slots * self.heads * self.chunk

    @property
    def states_shape(self) -> tuple[int, ...]:
        """The shape of the chunk states."""
        return self.batch, self.chunks, self.slots, self.states, self.heads, self.head_width

    @property
    def states_size(self) -> int:
        """Elements of the chunk states of a batch entry."""
        return math.prod(self.states_shape[1:])

    @property
    def log_decay_size(self) -> int:
        """Elements of the logarithms of the chunks' decays of a batch entry, (chunks, slots, heads)."""
        return self.chunks * self.slots * self.heads

    def grid(self, units: int) -> tuple[int, int, int]:
        """(blocks of heads, chunks, batch × units): one program each."""
        return self.blocks, self.chunks, self.batch * units


def launch(
    name: str,
    kernel: Callable[[dict[str, Any]], None],
    geometry: Geometry,
    grid: tuple[int, int, int],
    inputs: Mapping[str, jax.Array],
    outputs: Mapping[str, tuple[int, Any]],
    continued: Mapping[str, jax.Array] | None = None,
    *,
    num_warps: int | None = None,
) -> dict[str, jax.Array]:
    """Runs `kernel(references by name)` in every program of a grid.

    Args:
      name: name of the kernel, for profiles.
      kernel: stores its results through the references named in `outputs` and `continued`.
      geometry: of the scan.
      grid: programs along each axis.
      inputs: arrays by name; the kernel sees them as (batch, everything else).
      outputs: new arrays by name: elements a batch entry, and dtype.
      continued: arrays of an earlier launch, which the kernel changes in place.
      num_warps: warps a program; None for those of the geometry.

    Returns:
      The arrays of `outputs` and `continued`, (batch, elements).

    Raises:
      ValueError: an array is too large for the kernel's indices.
    """
    continued = continued or {}
    arrays = [array.reshape(array.shape[0], -1) for array in (*inputs.values(), *continued.values())]
    shapes = [jax.ShapeDtypeStruct((geometry.batch, size), dtype) for size, dtype in outputs.values()]
    shapes += [jax.ShapeDtypeStruct(array.shape, array.dtype) for array in continued.values()]
    names = [*inputs, *(f"begun {name}" for name in continued), *outputs, *continued]
    _check_sizes(geometry, dict(zip(names, [*arrays, *shapes], strict=True)))

    def body(*refs: Any) -> None:
        kernel(dict(zip(names, refs, strict=True)))

    body.__name__ = body.__qualname__ = name
    results = pl.pallas_call(
        body,
        out_shape=shapes,
        grid=grid,
        input_output_aliases={len(inputs) + i: len(outputs) + i for i in range(len(continued))},
        compiler_params=plt.CompilerParams(num_warps=num_warps or geometry.num_warps, num_stages=geometry.num_stages),
        interpret=geometry.interpret,
        name=name,
    )(*arrays)
    return dict(zip([*outputs, *continued], results, strict=True))


def _check_sizes(geometry: Geometry, arrays: Mapping[str, Any]) -> None:
    """Indices into a batch entry wrap at 2³², and Pallas reads them as unsigned; times end at 2³¹."""
    for name, array in arrays.items():
        if array.shape[1] >= 2**32 or geometry.length > 2**31 - geometry.chunk:
            raise ValueError(
                f"ss2d_scan and ssd_scan: found {geometry.length:,} pixels and {array.shape[1]:,} elements of {name} "
                "in one batch entry; the Triton kernels index fewer than 2^31 and 2^32; scan a smaller image or "
                "sequence, or use implementation='xla'"
            )

"""What the SSD kernels share: a program's place in a scan, its loads and stores, and the loops over its pixels.

A program owns a block of heads and one chunk of a path through the pixels. Its state is N register tiles of (heads,
channels a head), both rounded up to powers of two and masked. Every step is element-wise: nothing is flipped,
transposed or multiplied as matrices; a direction is a map from time to pixel.

Triton's rules shape this code: loads and stores need integer indices on all dimensions, loops carry whole tiles, and
tiles cannot be sliced. So what is the same for many channels comes from memory, several numbers a load:

- b and c, by `Program.numbers`.
- Step sizes and decays. The kernels of phase 1 compute them for `LANES` pixels side by side and store them in the order
  of each pass, (chunks, slots, R, chunk); later kernels and the rest of phase 1 load them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl
from jax.experimental.pallas import triton as plt

from m3sr_kernels.arithmetic import divide, softplus
from m3sr_kernels.ssd_scan.triton_geometry import LANES, Geometry
from m3sr_kernels.triton_tile import multiply_add


class Program:
    """A program of the grid, inside a kernel: its indices, and its loads and stores at a time step.

    A time step is an offset into the chunk; `pixel` maps it to the image. Scalars are int32.
    """

    def __init__(self, geometry: Geometry, refs: Mapping[str, Any], unit: int | None) -> None:
        """`unit` is the one that all programs of the launch share; None if it comes from the grid."""
        self.geometry, self.refs = geometry, refs
        self.block, self.chunk, self.batch = (pl.program_id(axis) for axis in range(3))
        self.unit: Any = unit or 0
        if unit is None and geometry.units > 1:
            self.batch, self.unit = divide(self.batch, geometry.units)
        self.in_order = geometry.passes == 1 or unit == 0  # time is the number of a pixel
        # Always 0, which Triton does not know. Where channels are aligned, it would give a thread two neighbours, and
        # what all channels share would have to be shuffled.
        unaligned = jnp.minimum(self.chunk, 0)
        shape = geometry.tile
        self.row = jax.lax.broadcasted_iota(jnp.int32, shape, 0)
        columns = jax.lax.broadcasted_iota(jnp.int32, shape, 1) + unaligned
        self.head = self.row + self.block * shape[0]
        self.inside = (self.head < geometry.heads) & (columns < geometry.head_width)
        self.head_channel = self.head * geometry.head_width + columns
        self.padded_channel = self.head * shape[1] + columns  # unmasked, for scratch arrays
        lanes = (shape[0], LANES)
        self.lane_head = jax.lax.broadcasted_iota(jnp.int32, lanes, 0) + self.block * shape[0]
        self.lane = jax.lax.broadcasted_iota(jnp.int32, lanes, 1) + unaligned

    def slot(self, index: jax.Array | int) -> jax.Array | int:
        """The direction or group of pass `index`."""
        return self.unit + index * self.geometry.units

    def pixel(self, offset: jax.Array) -> jax.Array:
        """The pixel at an offset into this program's chunk; steps past the end stay on the last pixel."""
        g = self.geometry
        time = self.chunk * g.chunk + offset
        time = time if g.even else jnp.minimum(time, g.length - 1)
        if self.in_order:
            return time
        column, row = divide(time, g.height)
        down = row * g.width + column
        return down if isinstance(self.unit, int) else jnp.where(self.unit == 0, time, down)

    def pixels(self, first: jax.Array, count: int, reverse: Any) -> list[jax.Array]:
        """The pixels at `count` places of a pass; `first` is a multiple of `count`."""
        g = self.geometry
        if not g.even or (g.height % count and not self.in_order):
            return [self.pixel(place(first + i, g.chunk, reverse)) for i in range(count)]
        # They lie in one row or column, so that one division finds them all.
        pixel = self.pixel(place(first, g.chunk, reverse))
        if self.in_order:
            stride = jnp.int32(1)
        elif isinstance(self.unit, int):
            stride = jnp.int32(g.width)
        else:
            stride = jnp.where(self.unit == 0, jnp.int32(1), jnp.int32(g.width))
        stride = place(stride, 1, reverse)  # negative in a reverse pass
        return [pixel + jnp.int32(i) * stride for i in range(count)]

    def read(self, name: str, index: Any, mask: Any = None, *, batch: Any = None) -> jax.Array:
        """Elements at flat indices, in the dtype of the sums; 0 where masked."""
        ref = self.refs[name]
        batch = self.batch if batch is None else batch
        other = None if mask is None else jnp.zeros((), ref.dtype)
        return plt.load(ref.at[batch, index], mask=mask, other=other).astype(self.geometry.dtype)

    def write(self, name: str, index: Any, value: jax.Array, mask: Any = None) -> None:
        ref = self.refs[name]
        if self.geometry.interpret and mask is not None:  # a masked element would store what it read
            index = jnp.where(mask, index, ref.shape[-1])
        plt.store(ref.at[self.batch, index], value.astype(ref.dtype), mask=mask)

    def numbers(self, name: str, first: jax.Array, count: int) -> list[jax.Array]:
        """`count` elements from flat index `first` on, each over the tile, up to 16 bytes a load."""
        ref, tile = self.refs[name], self.geometry.tile
        width = min(16 // ref.dtype.itemsize, count & -count)
        shape = (tile[1], width)  # every lane loads the same: a thread then holds all numbers of a load
        found = []
        for start in range(0, count, width):
            index = first + start + jax.lax.broadcasted_iota(jnp.int32, shape, 1)
            found += jnp.split(plt.load(ref.at[self.batch, index]).astype(self.geometry.dtype), width, axis=1)
        return [jax.lax.broadcast_in_dim(n.reshape(tile[1]), tile, (1,)) for n in found]

    def numbers_by_head(self, name: str, slot: Any, first: Any, count: int) -> list[jax.Array]:
        """Δ or the decays of `count` time steps from place `first` of a pass on, each over the tile."""
        g = self.geometry
        found: list[jax.Array] = []
        for row in range(g.tile[0]):
            head = jnp.minimum(self.block * g.tile[0] + row, g.heads - 1)
            own = self.numbers(name, ((self.chunk * g.slots + slot) * g.heads + head) * g.chunk + first, count)
            found = [jnp.where(self.row == row, new, old) for new, old in zip(own, found or own, strict=True)]
        return found

    def moments(self, slot: Any, first: Any, count: int, reverse: Any) -> list[Moment]:
        """`count` time steps of this program, for one direction or group.

        Args:
          slot: the direction or group.
          first: the place of the first one in the order of the pass, a multiple of `count`.
          count: a power of two.
          reverse: 1 if the pass visits the last pixel first, else 0.
        """
        g = self.geometry
        deltas, decays = (self.numbers_by_head(name, slot, first, count) for name in ("delta", "decay"))
        pixels = self.pixels(first, count, reverse)
        exist: list[Any] = [True] * count
        if not g.even:
            times = [self.chunk * g.chunk + place(first + i, g.chunk, reverse) for i in range(count)]
            exist = [time < g.length for time in times]
        return [Moment(self, slot, *facts) for facts in zip(pixels, exist, deltas, decays, strict=True)]

    def write_steps(self, slot: Any, block: jax.Array, reverse: int, delta: jax.Array) -> None:
        """Stores Δ and the decays of the `LANES` pixels of a block, in the order of the pass."""
        g = self.geometry
        inside = self.lane_head < g.heads
        rate = self.read("a", slot * g.heads + self.lane_head, inside, batch=0)
        row = (self.chunk * g.slots + slot) * g.heads + self.lane_head
        index = row * g.chunk + place(block * LANES + self.lane, g.chunk, reverse)
        self.write("delta", index, delta, inside)
        self.write("decay", index, jnp.exp(delta * rate), inside)

    def state_index(self, index: jax.Array | int, state: int) -> jax.Array:
        """Flat index into the chunk states; `index` is the pass."""
        g = self.geometry
        row = (self.chunk * g.slots + self.slot(index)) * g.states + state
        return row * (g.heads * g.head_width) + self.head_channel

    def by_head(self, name: str, slot: Any) -> jax.Array:
        """A parameter with one number a head, such as a, over the tile."""
        return self.read(name, slot * self.geometry.heads + self.head, self.inside, batch=0)

    def steps_index(self, slot: Any, block: jax.Array) -> jax.Array:
        """Flat index into dt for the `LANES` pixels of a block, (heads, LANES)."""
        g = self.geometry
        return (self.pixel(block * LANES + self.lane) * g.slots + slot) * g.heads + self.lane_head

    def steps_exist(self, block: jax.Array) -> jax.Array:
        time = self.chunk * self.geometry.chunk + block * LANES + self.lane
        return (self.lane_head < self.geometry.heads) & (time < self.geometry.length)

    def raw_steps(self, slot: Any, block: jax.Array) -> jax.Array:
        """dt + dt_bias for the pixels of a block, (heads, LANES)."""
        mask = self.lane_head < self.geometry.heads
        bias = self.read("dt_bias", slot * self.geometry.heads + self.lane_head, mask, batch=0)
        return self.read("dt", self.steps_index(slot, block), mask) + bias

    def steps(self, slot: Any, block: jax.Array) -> jax.Array:
        """Δ for the pixels of a block, (heads, LANES); 0 past the end, which leaves the state unchanged."""
        delta = softplus(self.raw_steps(slot, block))
        return jnp.where(self.steps_exist(block), delta, jnp.zeros_like(delta))

    def multiply_add(self, a: jax.Array, b: jax.Array, c: jax.Array) -> jax.Array:
        return multiply_add(a, b, c, interpret=self.geometry.interpret)

    def advance(self, state: Sequence[jax.Array], decay: jax.Array, maps: Sequence[jax.Array], term: jax.Array):
        """One step of each state: decay·h + b·term."""
        return tuple(self.multiply_add(decay, h, b * term) for h, b in zip(state, maps, strict=True))

    def add_products(self, start: jax.Array, left: Sequence[jax.Array], right: Sequence[jax.Array]) -> jax.Array:
        """start + Σ_n left_n·right_n."""
        for a, b in zip(left, right, strict=True):
            start = self.multiply_add(a, b, start)
        return start

    def zeros(self) -> list[jax.Array]:
        """A state of zeros."""
        return [jnp.zeros(self.geometry.tile, self.geometry.dtype) for _ in range(self.geometry.states)]


class Moment:
    """One time step of a program: the elements of the arrays that belong to it.

    Attributes:
      delta, decay: Δ and exp(Δ·a), over the tile; 0 and 1 past the end, which leaves the state unchanged.
    """

    def __init__(self, program: Program, slot: Any, pixel: jax.Array, exists: Any, delta: jax.Array, decay: jax.Array):
        """`exists` is False past the end."""
        g = program.geometry
        self.program, self.exists, self.delta, self.decay = program, exists, delta, decay
        self.mask = program.inside & exists
        self.first_map = (pixel * g.slots + slot) * g.states
        first_channel = pixel * g.channels
        if g.passes == 1:
            first_channel += program.unit * (g.heads * g.head_width)
        self.channel = first_channel + program.head_channel

    def channels(self, name: str, where: Any = True) -> jax.Array:
        """A tile of x or of an array shaped like it; 0 past the end and where `where` is false."""
        return self.program.read(name, self.channel, self.mask & where)

    def maps(self, name: str) -> list[jax.Array]:
        """The N numbers of b or c, each over the tile."""
        return self.program.numbers(name, self.first_map, self.program.geometry.states)

    def write_channels(self, name: str, value: jax.Array, where: Any = True) -> None:
        self.program.write(name, self.channel, value, self.mask & where)

    def write_map(self, name: str, state: int, tile: jax.Array) -> None:
        """Writes the sum of a tile: this block of heads' part of the gradient of b or c."""
        g = self.program.geometry
        first = self.program.block * (g.length * g.slots * g.states) + self.first_map
        total = jax.lax.reduce_sum(jax.lax.reduce_sum(tile, (0,)), (0,))
        self.program.write(name, first + state, total, None if self.exists is True else self.exists)


def loop(count: int | jax.Array, body: Callable[[jax.Array, Any], Any], carry: Any) -> Any:
    """`lax.fori_loop` from 0, counting in int32 even where jax defaults to int64."""
    return jax.lax.fori_loop(jnp.int32(0), jnp.asarray(count, jnp.int32), body, carry)


def for_each_pass(geometry: Geometry, body: Callable[[jax.Array], None]) -> None:
    """Runs `body(index)` for each pass; a pass may load what the one before has stored. Both share one body."""

    def step(index, carry):
        body(index)
        if not geometry.interpret:
            plt.debug_barrier()
        return carry

    if geometry.passes == 1:
        body(jnp.int32(0))
    else:
        loop(geometry.passes, step, ())


def place(index: Any, count: int, reverse: Any) -> Any:
    """The `index`-th of `count` places in the order of a pass; `reverse` is 0 or 1."""
    if isinstance(reverse, int):
        return count - 1 - index if reverse else index
    return jnp.where(reverse > 0, count - 1 - index, index)

"""Single directions of M3SR's scans, for tests and benchmarks."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """Sizes of an `ssd_scan`: batch, length, heads, channels a head, groups of b and c, states."""

    batch: int
    length: int
    heads: int
    head_width: int
    groups: int
    states: int

    @property
    def arguments(self) -> dict[str, tuple[int, ...]]:
        """The shape of each argument, by name."""
        pixels = (self.batch, self.length)
        return {
            "x": (*pixels, self.heads, self.head_width),
            "dt": (*pixels, self.heads),
            "a": (self.heads,),
            "b": (*pixels, self.groups, self.states),
            "c": (*pixels, self.groups, self.states),
            "d": (self.heads, self.head_width),
            "dt_bias": (self.heads,),
        }


SHAPES = {
    "photo, spatial, full": Shape(1, 482 * 512, 2, 31, 1, 8),
    "photo, four directions stacked, 16 states": Shape(1, 122 * 128, 4 * 8, 31, 4, 16),
    "training, spatial, full": Shape(32, 128 * 128, 2, 31, 1, 8),
}

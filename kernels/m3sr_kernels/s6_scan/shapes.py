"""The scans that M3SR runs, for tests and benchmarks: a sequence is a pixel, a token a spectral group."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """Sizes of an `s6_scan`: sequences, tokens, channels, states."""

    batch: int
    length: int
    channels: int
    states: int = 16

    @property
    def arguments(self) -> dict[str, tuple[int, ...]]:
        """The shape of each argument, by name."""
        like_x, maps, channels = (*self[:3],), (*self[:2], self.states), (self.channels,)
        sizes = {"x": like_x, "dt": like_x, "a": (self.channels, self.states), "b": maps, "c": maps}
        return sizes | {"d": channels, "z": like_x, "dt_bias": channels}


# A photo of 482×512 pixels is padded to 488×512; a training batch is 32 crops of 128×128. A level of the U-Net has a
# quarter of the pixels and twice the channels of the one above; "wide" has four times the default's features.
SHAPES = {
    "photo, full": Shape(488 * 512, 4, 62),
    "photo, half": Shape(244 * 256, 4, 124),
    "photo, quarter": Shape(122 * 128, 4, 248),
    "photo, quarter, wide": Shape(122 * 128, 4, 992),
    "photo, full, 2 groups": Shape(488 * 512, 2, 62),
    "photo, full, 8 groups": Shape(488 * 512, 8, 62),
    "photo, full, 16 groups": Shape(488 * 512, 16, 62),
    "training, full": Shape(32 * 128 * 128, 4, 62),
    "training, half": Shape(32 * 64 * 64, 4, 124),
    "training, quarter": Shape(32 * 32 * 32, 4, 248),
}

"""The images that M3SR scans at its default size, for tests and benchmarks."""

from __future__ import annotations

from typing import NamedTuple


class Shape(NamedTuple):
    """Sizes of an `ss2d_scan`: batch, image, heads a direction, channels a head, states."""

    batch: int
    height: int
    width: int
    heads: int
    head_width: int
    states: int

    @property
    def arguments(self) -> dict[str, tuple[int, ...]]:
        """The shape of each argument, by name."""
        pixels, parameters = (self.batch, self.height, self.width), (4, self.heads)
        return {
            "x": (*pixels, self.heads * self.head_width),
            "dt": (*pixels, *parameters),
            "a": parameters,
            "b": (*pixels, 4, self.states),
            "c": (*pixels, 4, self.states),
            "d": (*parameters, self.head_width),
            "dt_bias": parameters,
        }


# A photo of 482×512 pixels is padded to 488×512; a training batch is 32 crops of 128×128. The spatial branch scans
# every level of the U-Net, the frequency branch the Haar bands of each: half the size, four times the channels.
SHAPES = {
    "photo, spatial, full": Shape(1, 488, 512, 2, 31, 8),
    "photo, spatial, half": Shape(1, 244, 256, 4, 31, 8),
    "photo, spatial, quarter": Shape(1, 122, 128, 8, 31, 8),
    "photo, frequency, full": Shape(1, 244, 256, 8, 31, 8),
    "photo, frequency, half": Shape(1, 122, 128, 16, 31, 8),
    "photo, frequency, quarter": Shape(1, 61, 64, 31, 32, 8),
    "training, spatial, full": Shape(32, 128, 128, 2, 31, 8),
    "training, spatial, half": Shape(32, 64, 64, 4, 31, 8),
    "training, spatial, quarter": Shape(32, 32, 32, 8, 31, 8),
    "training, frequency, full": Shape(32, 64, 64, 8, 31, 8),
    "training, frequency, half": Shape(32, 32, 32, 16, 31, 8),
    "training, frequency, quarter": Shape(32, 16, 16, 31, 32, 8),
}

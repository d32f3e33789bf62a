"""The sequences that every implementation of `ssd_scan` must scan."""

from m3sr_kernels.ssd_scan.shapes import Shape

from ..comparison import Case

BARE = {name: size for name, size in Shape(1, 9, 2, 2, 1, 3).arguments.items() if name not in ("d", "dt_bias")}
CASES = {
    "heads in groups": Case(Shape(2, 7, 4, 3, 2, 2).arguments),
    "hard steps": Case(Shape(2, 7, 4, 3, 2, 2).arguments, hard_steps=True),
    "chunks that are not full": Case(Shape(1, 131, 3, 2, 1, 2).arguments),
    "no skip or bias": Case(BARE),
}
TOLERANCE = 1e-12

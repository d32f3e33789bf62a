"""The scans that every implementation of `s6_scan` must do."""

from m3sr_kernels.s6_scan.shapes import Shape
from m3sr_kernels.s6_scan.xla import MAX_PAIRWISE, MAX_UNROLLED

from ..comparison import Case

BARE = {name: size for name, size in Shape(3, 5, 3, 2).arguments.items() if name not in ("d", "z", "dt_bias")}
CASES = {
    "four tokens": Case(Shape(4, 4, 5).arguments),
    "one token": Case(Shape(5, 1, 3).arguments),
    "a prime number of channels, two blocks of them and of sequences": Case(Shape(9, 4, 67, 3).arguments),
    "hard steps, over 128 sequences": Case(Shape(130, 3, 3, 2).arguments, hard_steps=True),
    "no skip, gate or bias": Case(BARE),
    "as many tokens as pairs allow": Case(Shape(5, MAX_PAIRWISE, 2, 3).arguments),
    "one more, the last segment not full": Case(Shape(5, MAX_PAIRWISE + 1, 2, 3).arguments),
    "channels of two loop bodies": Case(Shape(5, 2, 2 * MAX_UNROLLED, 3).arguments),
}
TOLERANCE = 1e-12

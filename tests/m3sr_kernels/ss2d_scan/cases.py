"""The images that every implementation of `ss2d_scan` must scan."""

from m3sr_kernels.ss2d_scan.shapes import Shape

from ..comparison import Case

CASES = {
    # No multiple of a chunk, no powers of two, three blocks of heads in the gradient.
    "odd": Case(Shape(2, 5, 19, 3, 5, 2).arguments),
    "hard steps, fewer pixels than a chunk": Case(Shape(2, 3, 5, 2, 3, 2).arguments, hard_steps=True),
    "square": Case(Shape(1, 16, 16, 1, 2, 2).arguments),
    "padded to a square": Case(Shape(1, 19, 21, 1, 2, 2).arguments),
    "too long for a square": Case(Shape(1, 11, 40, 1, 2, 2).arguments),
}
TOLERANCE = 1e-12

"""The partition of the scans: enough units for all threads, no further pass where there are enough anyway."""

import jaxtyping
import pytest
from m3sr_kernels.native.sequence import head_blocks, segments
from m3sr_kernels.ss2d_scan.shapes import SHAPES

from .kernels import make

LANES = 16


class Number(int):
    """An integer as kernels see one: `/` rounds towards zero."""

    def __truediv__(self, other):
        return Number(int(self) // int(other))

    for name in ("add", "radd", "sub", "rsub", "mul", "rmul", "mod", "floordiv"):
        locals()[f"__{name}__"] = lambda self, other, name=name: Number(getattr(int, f"__{name}__")(self, other))


class Numbers:
    """What a partition needs of a `Code`, for Python's integers."""

    lanes, int = LANES, staticmethod(Number)
    minimum, maximum = staticmethod(min), staticmethod(max)

    @staticmethod
    def select(condition, yes, no):
        return yes if condition else no


class Sizes:
    """What a partition needs of a `Job`."""

    def __init__(self, threads, **letters):
        self.lanes = LANES
        self.__dict__ |= {name: Number(size) for name, size in (letters | {"threads": threads}).items()}


PHOTO = {"B": 1, "H": 482, "W": 512}
IMAGE = PHOTO | {"P": 31, "N": 8}
BLOCK = {"M": 482 * 512, "L": 4, "C": 31, "E": 64, "O": 32, "Q": 48, "K": 2, "T": 2**14}
KERNELS = {
    "ss2d": [IMAGE | {"R": 2, "I": 62}, IMAGE | {"H": 60, "W": 64, "R": 31, "P": 32, "I": 992}],
    "ssd": [{"B": 1, "L": 482 * 512, "G": 1, "H": 2, "P": 31, "N": 8}],
    "mix": [BLOCK],
    "conv": [PHOTO | {"C": 62}],
    "norm": [{"M": 482 * 512, "C": 31}, {"M": 60 * 64, "C": 992}],
    "s6": [{"M": 1, "L": 482 * 512, "D": 20, "E": 32, "N": 16}, {"M": 482 * 512, "L": 4, "D": 62, "E": 64, "N": 16}],
}


@pytest.mark.parametrize("threads", [2, 4, 16])
@pytest.mark.parametrize("which", ["forward", "backward"])
@pytest.mark.parametrize("op", KERNELS)
def test_every_phase_has_a_unit_for_every_thread_at_the_size_of_a_photo(op, which, threads, monkeypatch):
    """But for the last phase of a gradient, which adds up the parameters' sums."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)  # numbers stand for values of a kernel
    for letters in KERNELS[op]:
        phases = make(op, which, letters.get("N", 8)).phases(Numbers, Sizes(threads, **letters))
        busy = [units for units in phases if units] if which == "forward" else [units for units in phases[:-1] if units]
        assert busy
        assert min(busy) >= threads, phases


@pytest.mark.parametrize("which", ["forward", "backward"])
def test_every_pass_of_group_norm_over_memory_has_a_unit_for_every_thread(which, monkeypatch):
    """Every third phase; those between add up the sums of blocks."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)
    for letters in ({"B": 1, "L": 482 * 512, "C": 124}, {"B": 1, "L": 120 * 128, "C": 496}):
        phases = make("groupnorm", which, 8).phases(Numbers, Sizes(16, **letters))
        assert min(phases[: 7 if which == "backward" else 4 : 3]) >= 16, phases


def partition(batch, heads, pixels, threads):
    blocks = head_blocks(Numbers, batch, heads, threads)
    parts = segments(Numbers, batch * blocks, -(-pixels // LANES), threads)
    return blocks, parts, batch * blocks * parts


@pytest.mark.parametrize("threads", [2, 4, 16, 64])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_every_thread_has_a_unit(shape, threads):
    blocks, _, units = partition(shape.batch, shape.heads, shape.height * shape.width, threads)
    assert units >= threads
    assert blocks <= shape.heads


def test_two_threads_need_no_segments_and_sixteen_get_as_many_units():
    assert partition(1, 2, 482 * 512, 2) == (2, 1, 2)
    assert partition(1, 2, 482 * 512, 16)[2] >= 16
    assert partition(32, 2, 128 * 128, 16)[1] == 1


def test_segments_are_never_shorter_than_a_few_chunks():
    assert partition(1, 1, 5, 64) == (1, 1, 1)
    assert partition(1, 1, 100, 64)[1] == 2


@pytest.mark.parametrize("units", [1, 2, 3, 7])
def test_segments_cover_every_chunk_once(units):
    """The arithmetic of `Share` and `Scan.walk`."""
    for chunks in (1, 5, 64):
        edges = [chunks * segment // units for segment in range(units + 1)]
        assert edges[0] == 0
        assert edges[-1] == chunks
        assert edges == sorted(edges)

"""The partition of the scans: enough units for all threads, no further pass where there are enough anyway."""

import pytest
from m3sr_kernels.native.sequence import PythonNumbers, head_blocks, segments
from m3sr_kernels.ss2d_scan.shapes import SHAPES

LANES = 16


def partition(batch, heads, pixels, threads):
    blocks = head_blocks(PythonNumbers, batch, heads, threads)
    parts = segments(PythonNumbers, batch * blocks, -(-pixels // LANES), threads)
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

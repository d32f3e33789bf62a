"""Branches, loops, blocks, and instructions that a warp executes together."""

import ml_dtypes
import numpy as np
import pytest

from .handwritten import run

A = np.arange(32, dtype=np.uint32) * 3 + 1
STORE = "add.s64 %rd11, %rd2, %rd0; st.global.b32 [%rd11], %r30;"
LOAD = "add.s64 %rd10, %rd1, %rd0; ld.global.b32 %r1, [%rd10];"


def on_lanes(body, values=A, **options):
    [output], report = run(LOAD + body + STORE, [values], [(values.shape, "u4")], **options)
    assert not report.faults, report
    return output, report


def test_threads_of_a_branch_meet_again_and_both_sides_are_counted():
    output, report = on_lanes("""
        and.b32 %r2, %r0, 1;
        setp.eq.s32 %p1, %r2, 0;
        @%p1 bra $even;
        add.s32 %r30, %r1, 100;
        bra $end;
    $even:
        sub.s32 %r30, %r1, 1;
    $end:
        add.u32 %r30, %r30, 5;
    """)
    np.testing.assert_array_equal(output, np.where(np.arange(32) % 2, A + 105, A + 4))
    assert [report.opcodes[name] for name in ("add.s32", "sub.s32", "add.u32")] == [1, 1, 1]


def test_threads_leave_a_loop_one_by_one():
    output, report = on_lanes("""
        mov.b32 %r30, 0;
        mov.b32 %r2, 0;
    $loop:
        add.u32 %r30, %r30, %r1;
        add.s32 %r2, %r2, 1;
        setp.le.u32 %p1, %r2, %r0;
        @%p1 bra $loop;
    """)
    np.testing.assert_array_equal(output, A * (np.arange(32) + 1))
    assert report.opcodes["add.u32"] == 32


def test_some_threads_end_early():
    body = LOAD + "setp.gt.u32 %p1, %r0, 20; @%p1 ret; mov.b32 %r30, %r1;" + STORE
    [output], report = run(body, [A], [((32,), "u4")])
    np.testing.assert_array_equal(output[:21], A[:21])
    assert (output[21:] == 0xFFFFFFFF).all()
    assert not report.faults


def test_blocks_know_their_place():
    body = """
        mov.u32 %r1, %ctaid.x; mov.u32 %r2, %nctaid.x; mov.u32 %r3, %laneid; mov.u32 %r4, %warpid;
        mad.lo.s32 %r30, %r1, 1000, %r3; mad.lo.s32 %r30, %r2, 100000, %r30; mad.lo.s32 %r30, %r4, 10000000, %r30;
        add.s64 %rd11, %rd1, %rd0; st.global.b32 [%rd11], %r30;
    """
    [output], report = run(body, [], [((3, 64), "u4")], threads=64, blocks=3)
    lane, warp, block = np.arange(64) % 32, np.arange(64) // 32, np.arange(3)[:, None]
    np.testing.assert_array_equal(output, block * 1000 + lane + 300000 + warp * 10000000)
    assert report.warps == 6


LANES = np.arange(32)
SHUFFLES = {
    "bfly.b32 %r30, %r1, 5, 31, -1": A[LANES ^ 5],
    "idx.b32 %r30, %r1, 7, 31, -1": A[np.full(32, 7)],
    "idx.b32 %r30, %r1, 1, 6175, -1": A[LANES // 8 * 8 + 1],  # segments of 8: 0x181F
    "up.b32 %r30, %r1, 3, 0, -1": A[np.where(LANES >= 3, LANES - 3, LANES)],
    "down.b32 %r30, %r1, 3, 31, -1": A[np.where(LANES <= 28, LANES + 3, LANES)],
}


@pytest.mark.parametrize("shuffle", SHUFFLES)
def test_shuffles(shuffle):
    output, _ = on_lanes(f"shfl.sync.{shuffle};")
    np.testing.assert_array_equal(output, SHUFFLES[shuffle])


def test_a_shuffle_says_whether_there_is_a_source():
    output, _ = on_lanes("shfl.sync.down.b32 %r2|%p1, %r1, 3, 31, -1; selp.b32 %r30, 1, 0, %p1;")
    np.testing.assert_array_equal(output, LANES <= 28)


@pytest.mark.parametrize("members", ["-1", "0xFFFF"])
def test_a_shuffle_with_an_absent_thread_is_noticed(members):
    guard = "setp.lt.u32 %p1, %r0, 16; @%p1 " if members == "-1" else ""
    body = LOAD + f"mov.b32 %r30, 0; {guard}shfl.sync.bfly.b32 %r30, %r1, 16, 31, {members};" + STORE
    _, report = run(body, [A], [((32,), "u4")])
    assert report.kinds == {"shuffle with a thread that is not there": 16}


COLLECTIVES = {
    "redux.sync.add.s32 %r30, %r1, -1": A.sum(),
    "redux.sync.max.u32 %r30, %r1, -1": A.max(),
    "setp.gt.u32 %p1, %r1, 50; vote.sync.ballot.b32 %r30, %p1, -1": sum(1 << k for k in range(32) if A[k] > 50),
    "setp.gt.u32 %p1, %r1, 50; vote.sync.any.pred %p2, %p1, -1; selp.b32 %r30, 1, 0, %p2": 1,
    "setp.gt.u32 %p1, %r1, 50; vote.sync.all.pred %p2, %p1, -1; selp.b32 %r30, 1, 0, %p2": 0,
    "elect.sync %r30|%p1, 0xF0": 4,
}


@pytest.mark.parametrize("body", COLLECTIVES)
def test_collectives(body):
    output, _ = on_lanes(f"{body};")
    np.testing.assert_array_equal(output, COLLECTIVES[body])


@pytest.mark.parametrize("trans", ["", ".trans"])
def test_matrices_go_through_shared_memory(trans):
    """Lane r holds the address of row r; a lane gets two neighbours of row lane div 4, or of that column."""
    output, _ = on_lanes(
        f"""
        and.b32 %r2, %r0, 7; shl.b32 %r2, %r2, 4; cvt.u64.u32 %rd20, %r2;
        stmatrix.sync.aligned.m8n8.x1.shared.b16 [%rd20], {{%r1}};
        bar.warp.sync -1;
        ldmatrix.sync.aligned.m8n8.x1{trans}.shared.b16 {{%r30}}, [%rd20];
        """,
        shared=128,
    )
    stored = A.view(np.uint16).reshape(8, 8)  # two numbers a lane, four lanes a row
    np.testing.assert_array_equal(output.view(np.uint16).reshape(8, 8), stored.T if trans else stored)


def registers_of(matrix, rows, columns):
    """Fragments of a matrix: its elements at these places, an array of lanes for each register."""
    return [np.ascontiguousarray(matrix[row, column]) for row, column in zip(rows, columns, strict=True)]


@pytest.mark.parametrize("kind", ["tf32", "bf16"])
def test_a_product_of_matrices_has_the_layout_of_the_isa(kind):
    """Small integers, which both types represent; lane 4g + p has a[g, p] or, in bfloat16, a[g, 2p] and a neighbour."""
    rng, lane = np.random.default_rng(0), np.arange(32)
    g, p = lane // 4, lane % 4
    depth = 8 if kind == "tf32" else 16
    a, b, c = (rng.integers(-8, 9, size).astype(np.float32) for size in ((16, depth), (depth, 8), (16, 8)))
    if kind == "tf32":
        left = registers_of(a, [g, g + 8, g, g + 8], [p, p, p + 4, p + 4])
        right = registers_of(b, [p, p + 4], [g, g])
    else:
        pairs = lambda matrix: matrix.astype(ml_dtypes.bfloat16)  # noqa: E731
        at = [(g, 2 * p), (g + 8, 2 * p), (g, 2 * p + 8), (g + 8, 2 * p + 8)]
        left = [np.stack([pairs(a)[r, k], pairs(a)[r, k + 1]], 1).view(np.uint32)[:, 0] for r, k in at]
        right = [np.stack([pairs(b)[k, g], pairs(b)[k + 1, g]], 1).view(np.uint32)[:, 0] for k in (2 * p, 2 * p + 8)]
    start = registers_of(c, [g, g, g + 8, g + 8], [2 * p, 2 * p + 1, 2 * p, 2 * p + 1])
    inputs = [register.view(np.uint32) for register in [*left, *right, *start]]
    body = "".join(f"add.s64 %rd20, %rd{n}, %rd0; ld.global.b32 %r{n}, [%rd20];" for n in range(1, 11))
    body += f"mma.sync.aligned.m16n8k{depth}.row.col.f32.{kind}.{kind}.f32 "
    body += "{%r20, %r21, %r22, %r23}, {%r1, %r2, %r3, %r4}, {%r5, %r6}, {%r7, %r8, %r9, %r10};"
    body += "".join(f"add.s64 %rd20, %rd{11 + n}, %rd0; st.global.b32 [%rd20], %r{20 + n};" for n in range(4))
    outputs, report = run(body, inputs, [((32,), "f4")] * 4)
    assert not report.faults
    expected = registers_of(a @ b + c, [g, g, g + 8, g + 8], [2 * p, 2 * p + 1, 2 * p, 2 * p + 1])
    np.testing.assert_array_equal(outputs, expected)


def test_a_kernel_that_does_not_end_is_an_error(monkeypatch):
    monkeypatch.setattr("tools.ptx.scheduler.MAX_STEPS", 100)
    with pytest.raises(RuntimeError, match="has run 100 basic blocks and has not ended"):
        run("$loop: bra $loop;", [A], [((32,), "u4")])

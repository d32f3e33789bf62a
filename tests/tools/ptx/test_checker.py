"""Faulty kernels are noticed, and correct ones are not accused."""

import numpy as np
import pytest

from tools.ptx.execute import execute, execute_addresses

from .handwritten import launch_of, run

A = np.arange(64, dtype=np.float32)
COPY = """
    setp.lt.u32 %p1, %r39, 60;
    add.s64 %rd11, %rd1, %rd0; add.s64 %rd12, %rd2, %rd0;
    @%p1 ld.global.b32 %r1, [%rd11];
    @%p1 st.global.b32 [%rd12], %r1;
"""
# Each thread passes its number on to the next thread of the block but one, through shared memory.
PASS_ON = """
    shl.b32 %r2, %r0, 2; cvt.u64.u32 %rd20, %r2;
    add.s32 %r3, %r0, {distance}; rem.u32 %r3, %r3, {threads}; shl.b32 %r3, %r3, 2; cvt.u64.u32 %rd21, %r3;
    st.shared.b32 [%rd20], %r0;
    {first}
    ld.shared.b32 %r4, [%rd21];
    {second}
    st.shared.b32 [%rd20], %r4;
    add.s64 %rd11, %rd1, %rd0; st.global.b32 [%rd11], %r4;
"""


def kinds(body, inputs=(A[:60],), outputs=(((60,), "f4"),), **options):
    return set(run(body, list(inputs), list(outputs), **options)[1].kinds)


def test_a_masked_copy_has_no_faults():
    outputs, report = run(COPY, [A[:60]], [((60,), "f4")], blocks=2)
    np.testing.assert_array_equal(outputs[0], A[:60])
    assert not report.faults
    assert str(report) == "no faults"


@pytest.mark.parametrize(
    ("old", "new", "fault"),
    [
        ("@%p1 ld", "ld", "load out of bounds of global memory"),
        ("@%p1 st", "st", "store out of bounds of global memory"),
        ("[%rd12]", "[%rd12+2]", "store not aligned in global memory"),
        ("[%rd12]", "[%rd11]", "store to an input"),
        ("[%rd11]", "[%rd12]", "load of uninitialised global memory"),
        ("[%rd11]", "[%rd11+-4]", "load out of bounds of global memory"),
    ],
)
def test_a_damaged_copy_is_noticed(old, new, fault):
    assert fault in kinds(COPY.replace(old, new), blocks=2)


def test_a_fault_says_where():
    _, report = run(COPY.replace("@%p1 st", "st"), [A[:60]], [((60,), "f4")], blocks=2)
    assert str(report).startswith("4 × store out of bounds of global memory: `st.global.b32 [%rd12], %r1`, first in ")
    assert "block 1, thread 28, address 0x" in str(report)


def test_neighbouring_blocks_have_their_own_shared_memory():
    body = "cvt.u64.u32 %rd20, %r39; shl.b64 %rd20, %rd20, 2; st.shared.b32 [%rd20], %r0;"
    assert kinds(body, shared=128) == set()
    assert kinds(body, shared=128, blocks=2) == {"store out of bounds of shared memory"}


def pass_on(first="", second="", *, threads=64, distance=40, **options):
    body = PASS_ON.format(first=first, second=second, threads=threads, distance=distance)
    outputs, report = run(
        body, [], [((threads,), "u4")], threads=threads, declarations=".extern .shared .align 16 .b8 tile[];",
        shared=4 * threads, **options,
    )  # fmt: skip
    correct = (np.arange(threads) + distance) % threads
    return bool((outputs[0] == correct).all()), set(report.kinds)


@pytest.mark.parametrize("order", ["together", "first", "last"])
def test_two_barriers_order_two_warps(order):
    assert pass_on("bar.sync 0;", "bar.sync 0;", order=order) == (True, set())


RACE = "race in shared memory: "


@pytest.mark.parametrize(
    ("first", "second", "fault"),
    [("", "bar.sync 0;", "load after store, same block"), ("bar.sync 0;", "", "store after load, same block")],
)
def test_a_missing_barrier_is_a_race_and_changes_numbers(first, second, fault):
    results = [pass_on(first, second, order=order) for order in ("together", "first", "last")]
    assert all(RACE + fault in faults or faults for _, faults in results)
    assert RACE + fault in results[0][1]
    assert not all(correct for correct, _ in results)


def test_warp_barriers_order_a_warp_only():
    sync = "bar.warp.sync -1;"
    assert pass_on(sync, sync, threads=32, distance=5) == (True, set())
    assert pass_on("", sync, threads=32, distance=5)[1] == {RACE + "load after store, same warp"}
    assert pass_on(sync, sync)[1]  # two warps


def test_a_warp_loads_for_all_its_threads_before_it_stores_unless_it_has_split():
    sync = "bar.warp.sync -1;"
    assert pass_on(sync, "", threads=32, distance=5) == (True, set())
    split = sync + "setp.lt.u32 %p5, %r0, 16; @%p5 bra $low; ld.shared.b32 %r4, [%rd21]; bra $end; $low:"
    assert RACE + "store after load, same warp" in pass_on(split, "$end:", threads=32, distance=5)[1]


def test_a_shuffle_orders_a_store_after_loads_of_its_warp():
    shuffle = "shfl.sync.bfly.b32 %r9, %r0, 1, 31, -1;"
    assert pass_on("bar.warp.sync -1;", shuffle, threads=32, distance=5) == (True, set())
    assert pass_on(shuffle, shuffle, threads=32, distance=5)[1] == {RACE + "load after store, same warp"}


def test_blocks_are_never_ordered():
    body = "setp.{}.u32 %p1, %r39, 32; @%p1 st.global.b32 [%rd1], 7; bar.sync 0; {} [%rd1]{};"
    accesses = {("ld.global.b32 %r1,", ""): "load after store", ("st.global.b32", ", 7"): "store after store"}
    for (operation, value), fault in accesses.items():
        found = kinds(body.format("lt", operation, value), (), (((1,), "u4"),), blocks=2)
        assert f"race in global memory: {fault}, other block" in found
    assert "race in global memory: store of two threads at once" in found
    body = "add.s64 %rd11, %rd1, %rd0; st.global.b32 [%rd11], %r0; ld.global.b32 %r1, [%rd11];"
    assert kinds(body, (), (((64,), "u4"),), blocks=2) == set()


def test_loads_of_several_warps_are_all_remembered():
    """The last reader is of the writer's own warp, the first is not."""
    body = """
        setp.eq.u32 %p1, %r0, 0; mov.b64 %rd20, 0;
        @%p1 st.shared.b32 [%rd20], 7;
        bar.sync 0;
        ld.shared.b32 %r1, [%rd20];
        setp.eq.u32 %p2, %r0, 63; @%p2 ld.shared.b32 %r2, [%rd20];
        {}
        @%p2 st.shared.b32 [%rd20], 8;
    """
    options = {"threads": 64, "shared": 16}
    assert kinds(body.format(""), (), (((1,), "u4"),), **options) == {RACE + "store after load, same block"}
    assert kinds(body.format("bar.sync 0;"), (), (((1,), "u4"),), **options) == set()


def test_threads_may_store_the_same_number_to_shared_memory():
    body = "mov.b64 %rd20, 0; st.shared.b32 [%rd20], {}; bar.sync 0;"
    assert kinds(body.format(7), (), (((1,), "u4"),), shared=16) == set()
    assert kinds(body.format("%r0"), (), (((1,), "u4"),), shared=16) == {RACE + "store of two threads at once"}


def test_barriers_must_be_reached_by_all():
    split = "setp.lt.u32 %p1, %r0, 40; @%p1 bra $end; bar.sync 0; $end: mov.b32 %r1, 0;"
    assert kinds(split, (), (((1,), "u4"),), threads=64) == {
        "barrier in a warp that has split",
        "barrier that not all threads reach",
    }
    other = "setp.lt.u32 %p1, %r0, 32; @%p1 bra $other; bar.sync 0; bra $end; $other: bar.sync 1; $end: ret;"
    assert kinds(other, (), (((1,), "u4"),), threads=64) == {"barrier that not all threads reach"}


def test_an_output_may_share_the_memory_of_an_input():
    body = "add.s64 %rd11, %rd1, %rd0; ld.global.b32 %r1, [%rd11]; add.f32 %r1, %r1, %r1; st.global.b32 [%rd11], %r1;"
    outputs, report = run(body, [A[:32]], [((32,), "f4")], aliases={0: 0})
    np.testing.assert_array_equal(outputs[0], 2 * A[:32])
    assert not report.faults


def test_addresses_of_arrays_that_fit_into_no_memory():
    """Threads of the last block, whose offsets need 34 bits; in 32 bits they wrap."""
    body = "mul.wide.u32 %rd5, %r39, 4; add.s64 %rd6, %rd1, %rd5; ld.global.b32 %r1, [%rd6];"
    body += "add.s64 %rd7, %rd2, %rd5; st.global.b32 [%rd7], %r1;"
    huge = np.broadcast_to(np.float32(0), (2**32,))
    launch = launch_of(body, [huge], [((2**32,), "f4")], blocks=2**27)
    assert not execute_addresses(launch).faults
    small = np.broadcast_to(np.float32(0), (2**32 - 1,))
    launch = launch_of(body, [small], [((2**32,), "f4")], blocks=2**27)
    assert execute_addresses(launch).kinds == {"load out of bounds of global memory": 1}
    wrapped = body.replace("mul.wide.u32 %rd5, %r39, 4;", "shl.b32 %r5, %r39, 2; cvt.s64.s32 %rd5, %r5;")
    launch = launch_of(wrapped, [huge], [((2**32,), "f4")], blocks=2**27)
    assert execute_addresses(launch).faults


def test_traffic_and_instructions_are_counted():
    report = execute_addresses(launch_of(COPY, [A[:60]], [((60,), "f4")], blocks=2))
    assert report.warps == 2
    assert report.count("ld.global", "st.global") == 4
    traffic = report.traffic["load", "global"]
    assert (traffic.requests, traffic.sectors, traffic.bytes) == (2, 8, 240)


def test_an_input_of_another_shape_is_an_error():
    launch = launch_of(COPY, [A[:60]], [((60,), "f4")])
    with pytest.raises(ValueError, match=r"input 0 is float32\(59,\), the kernel was compiled for float32\(60,\)"):
        execute(launch, [A[:59]])

"""Instructions give the numbers that the PTX ISA defines."""

import ml_dtypes
import numpy as np
import pytest

from tools.ptx.errors import PtxError, UnsupportedError

from .handwritten import compute, run

RNG = np.random.default_rng(0)
EDGES = [0, 1, 2, 31, 32, 33, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFE, 0x12345678, 255]
A = np.array([*EDGES, *RNG.integers(0, 2**32, 20)], np.uint32)
B = np.array([*EDGES[::-1], *RNG.integers(0, 2**32, 20)], np.uint32)
C = RNG.integers(0, 2**32, 32, np.uint32)
A64, B64 = (np.array([*EDGES, *RNG.integers(0, 2**63, 20)], np.uint64) << np.uint64(shift) for shift in (0, 1))
X, Y, Z = (np.float32(RNG.standard_normal(32) * 4.0 ** RNG.integers(-4, 5, 32)) for _ in range(3))
X[:4], Y[:4] = [np.nan, np.inf, -0.0, 1e-40], [1, -np.inf, 0, np.nan]
X64, Y64, Z64 = (RNG.standard_normal(32) for _ in range(3))


def signed(x, bits=32):
    return (int(x) + 2 ** (bits - 1)) % 2**bits - 2 ** (bits - 1)


def to_zero(a, b):
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def each(function, *operands, bits=32):
    """A function of Python integers, lane by lane."""
    results = (function(*map(int, lane)) % 2**bits for lane in zip(*operands, strict=True))
    return np.array(list(results), f"uint{bits}")


INTEGERS = {
    "add.s32 %r30, %r1, %r2;": lambda a, b: a + b,
    "sub.u32 %r30, %r1, %r2;": lambda a, b: a - b,
    "mul.lo.s32 %r30, %r1, %r2;": lambda a, b: a * b,
    "mul.hi.u32 %r30, %r1, %r2;": lambda a, b: a * b >> 32,
    "mul.hi.s32 %r30, %r1, %r2;": lambda a, b: signed(a) * signed(b) >> 32,
    "mad.lo.s32 %r30, %r1, %r2, %r1;": lambda a, b: a * b + a,
    "div.u32 %r30, %r1, %r2;": lambda a, b: a // b if b else -1,
    "div.s32 %r30, %r1, %r2;": lambda a, b: to_zero(signed(a), signed(b)) if b else -1,
    "rem.s32 %r30, %r1, 7;": lambda a, b: signed(a) - 7 * to_zero(signed(a), 7),
    "min.s32 %r30, %r1, %r2;": lambda a, b: min(signed(a), signed(b)),
    "max.u32 %r30, %r1, %r2;": lambda a, b: max(a, b),
    "abs.s32 %r30, %r1;": lambda a, b: abs(signed(a)),
    "neg.s32 %r30, %r1;": lambda a, b: -a,
    "and.b32 %r30, %r1, %r2;": lambda a, b: a & b,
    "xor.b32 %r30, %r1, -1;": lambda a, b: ~a,
    "not.b32 %r30, %r1;": lambda a, b: ~a,
    "shl.b32 %r30, %r1, %r2;": lambda a, b: a << b if b < 32 else 0,
    "shr.u32 %r30, %r1, %r2;": lambda a, b: a >> b if b < 32 else 0,
    "shr.s32 %r30, %r1, %r2;": lambda a, b: signed(a) >> min(b, 31),
    "shf.l.wrap.b32 %r30, %r1, %r2, 5;": lambda a, b: (b << 32 | a) << 5 >> 32,
    "shf.r.clamp.b32 %r30, %r1, %r2, 40;": lambda a, b: b,
    "bfe.u32 %r30, %r1, 4, 9;": lambda a, b: a >> 4 & 511,
    "bfe.s32 %r30, %r1, 5, 1;": lambda a, b: -(a >> 5 & 1),
    "bfe.s32 %r30, %r1, 28, 32;": lambda a, b: signed(a) >> 28,
    "bfi.b32 %r30, %r1, %r2, 4, 9;": lambda a, b: (b & ~(511 << 4)) | (a & 511) << 4,
    "prmt.b32 %r30, %r1, %r2, 0x5410;": lambda a, b: a & 0xFFFF | (b & 0xFFFF) << 16,
    "prmt.b32 %r30, %r1, %r2, 0xB7A3;": lambda a, b: (
        a >> 24 | (255 << 8 if a >> 23 & 1 else 0) | (b >> 24) << 16 | (255 << 24 if a >> 31 else 0)
    ),
    "lop3.b32 %r30, %r1, %r2, 0xF0F0F0F0, 0xCA;": lambda a, b: (a & b) | (~a & 0xF0F0F0F0),
    "popc.b32 %r30, %r1;": lambda a, b: a.bit_count(),
    "clz.b32 %r30, %r1;": lambda a, b: 32 - a.bit_length(),
    "selp.b32 %r30, %r1, %r2, 1;": lambda a, b: a,
    "setp.lt.s32 %p1|%p2, %r1, %r2; selp.b32 %r30, 1, 2, %p2;": lambda a, b: 2 if signed(a) < signed(b) else 1,
    "setp.ge.u32 %p1, %r1, %r2; setp.ne.and.b32 %p2, %r1, 0, %p1; selp.b32 %r30, 1, 0, %p2;": lambda a, b: (
        a >= b > -1 and a != 0
    ),
    "mov.b64 %rd10, {%r1, %r2}; shr.u64 %rd11, %rd10, 16; cvt.u32.u64 %r30, %rd11;": lambda a, b: a >> 16 | b << 16,
    "mov.b32 {%rs1, %rs2}, %r1; mov.b32 %r30, {%rs2, %rs1};": lambda a, b: a >> 16 | (a & 0xFFFF) << 16,
    "cvt.s32.s16 %r30, %r1;": lambda a, b: signed(a % 2**16, 16),
    "cvt.u32.u8 %r30, %r1;": lambda a, b: a % 256,
    "@%p0 mov.b32 %r30, %r1; @!%p0 mov.b32 %r30, %r2;": lambda a, b: b,
    "mov.b32 %r30, WARP_SZ;": lambda a, b: 32,
}
WIDE = {
    "mul.wide.u32 %rd10, %r1, %r2;": lambda a, b: a * b,
    "mul.wide.s32 %rd10, %r1, %r2;": lambda a, b: signed(a) * signed(b),
    "mad.wide.s32 %rd10, %r1, %r2, 5;": lambda a, b: signed(a) * signed(b) + 5,
    "cvt.s64.s32 %rd10, %r1;": lambda a, b: signed(a),
    "cvt.u64.u32 %rd10, %r1;": lambda a, b: a,
}


@pytest.mark.parametrize("instruction", INTEGERS)
def test_integers(instruction):
    np.testing.assert_array_equal(compute(instruction, A, B), each(INTEGERS[instruction], A, B))


@pytest.mark.parametrize("instruction", WIDE)
def test_products_and_conversions_to_64_bits(instruction):
    np.testing.assert_array_equal(compute(instruction, A, B, result="b64"), each(WIDE[instruction], A, B, bits=64))


@pytest.mark.parametrize(
    ("instruction", "function"),
    [
        ("mul.hi.u64 %rd10, %rd11, %rd12;", lambda a, b: a * b >> 64),
        ("mul.lo.s64 %rd10, %rd11, %rd12;", lambda a, b: a * b),
        ("div.s64 %rd10, %rd11, 7;", lambda a, b: to_zero(signed(a, 64), 7)),
        ("clz.b64 %r1, %rd11; cvt.u64.u32 %rd10, %r1;", lambda a, b: 64 - a.bit_length()),
    ],
)
def test_64_bits(instruction, function):
    np.testing.assert_array_equal(compute(instruction, A64, B64, result="b64"), each(function, A64, B64, bits=64))


FLOATS = {
    "add.rn.f32 %r30, %r1, %r2;": lambda x, y, z: x + y,
    "sub.f32 %r30, %r1, %r2;": lambda x, y, z: x - y,
    "mul.rn.f32 %r30, %r1, 0f40400000;": lambda x, y, z: x * np.float32(3),
    "fma.rn.f32 %r30, %r1, %r2, %r3;": lambda x, y, z: np.float32(np.float64(x) * y + z),
    "div.rn.f32 %r30, %r1, %r2;": lambda x, y, z: x / y,
    "div.full.f32 %r30, %r1, %r2;": lambda x, y, z: x / y,
    "rcp.approx.ftz.f32 %r30, %r2;": lambda x, y, z: 1 / y,
    "sqrt.rn.f32 %r30, %r1;": lambda x, y, z: np.sqrt(x),
    "ex2.approx.f32 %r30, %r1;": lambda x, y, z: np.float32(np.exp2(np.float64(x))),
    "lg2.approx.f32 %r30, %r1;": lambda x, y, z: np.float32(np.log2(np.float64(x))),
    "neg.f32 %r30, %r1;": lambda x, y, z: -x,
    "abs.f32 %r30, %r1;": lambda x, y, z: np.abs(x),
    "min.f32 %r30, %r1, %r2;": lambda x, y, z: np.fmin(x, y),
    "max.NaN.f32 %r30, %r1, %r2;": lambda x, y, z: np.maximum(x, y),
    "copysign.f32 %r30, %r1, %r2;": lambda x, y, z: np.copysign(y, x),
    "add.sat.f32 %r30, %r1, %r2;": lambda x, y, z: np.nan_to_num(np.clip(x + y, 0, 1)),
    "add.ftz.f32 %r30, %r1, 0f00000000;": lambda x, y, z: np.where(np.abs(x) < 1e-38, 0, x),
    "cvt.rni.f32.f32 %r30, %r1;": lambda x, y, z: np.rint(x),
    "setp.gt.f32 %p1, %r1, %r2; selp.f32 %r30, %r1, %r2, %p1;": lambda x, y, z: np.where(x > y, x, y),
    "setp.neu.f32 %p1, %r1, %r2; selp.f32 %r30, 0f3F800000, 0f00000000, %p1;": lambda x, y, z: x != y,
    "setp.ne.f32 %p1, %r1, %r1; selp.f32 %r30, 0f3F800000, 0f00000000, %p1;": lambda x, y, z: 0 * z,
    "setp.nan.f32 %p1, %r1, %r2; selp.f32 %r30, 0f3F800000, 0f00000000, %p1;": lambda x, y, z: (
        np.isnan(x) | np.isnan(y)
    ),
    "cvt.rn.bf16.f32 %rs1, %r1; cvt.f32.bf16 %r30, %rs1;": lambda x, y, z: x.astype(ml_dtypes.bfloat16),
    "cvt.rn.bf16x2.f32 %r4, %r1, %r3; and.b32 %r30, %r4, 0xFFFF0000;": lambda x, y, z: x.astype(ml_dtypes.bfloat16),
    "cvt.rna.tf32.f32 %r30, %r3;": lambda x, y, z: ((z.view(np.uint32) + 0x1000) & 0xFFFFE000).view(np.float32),
}


@pytest.mark.parametrize("instruction", FLOATS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_float32(instruction):
    got = compute(instruction, X, Y, Z).view(np.float32)
    np.testing.assert_array_equal(got, np.float32(FLOATS[instruction](X, Y, Z)))


@pytest.mark.parametrize(("mode", "least", "most"), [("rn", -1, 1), ("rm", 0, 1), ("rp", -1, 0), ("rz", 0, 1)])
def test_rounding_modes(mode, least, most):
    """The exact sum lies between the result and its neighbour on the stated side."""
    x, y = np.abs(X64).astype(np.float32), np.abs(Y64).astype(np.float32) / 1000
    exact = x.astype(np.float64) + y
    got = compute(f"add.{mode}.f32 %r30, %r1, %r2;", x, y).view(np.float32)
    error = exact - got
    unit = np.spacing(got).astype(np.float64)
    assert (error >= least * unit).all()
    assert (error <= most * unit).all()
    assert error.any()


@pytest.mark.parametrize("kind", ["s32", "u32"])
def test_floats_become_integers_within_the_limits(kind):
    values = np.float32([1.5, -1.5, 3e9, -3e9, 1e20, np.nan, np.inf, -np.inf, 0.99, 2147483520, *X[8:30]])
    got = compute(f"cvt.rzi.{kind}.f32 %r30, %r1;", values).view(f"{'i' if kind == 's32' else 'u'}4")
    limits = np.iinfo(got.dtype)
    expected = [0 if np.isnan(v) else int(np.clip(np.trunc(np.float64(v)), limits.min, limits.max)) for v in values]
    np.testing.assert_array_equal(got, expected)


def test_a_float64_product_and_sum_are_rounded_once():
    """(1 + ε)² − 1 − 2ε is ε², which two roundings lose."""
    x = 1 + 2.0**-40 * np.arange(1, 33)
    got = compute("fma.rn.f64 %rd10, %rd11, %rd11, %rd12;", x, 1 - 2 * x, result="b64").view(np.float64)
    np.testing.assert_array_equal(got, (x - 1) ** 2)
    got = compute("fma.rn.f64 %rd10, %rd11, %rd12, 0d3FF0000000000000;", X64, Y64, result="b64").view(np.float64)
    np.testing.assert_allclose(got, X64 * Y64 + 1, rtol=1e-15, atol=1e-15)
    got = compute("cvt.rn.f32.f64 %r30, %rd11;", X64).view(np.float32)
    np.testing.assert_array_equal(got, X64.astype(np.float32))


def test_noise_changes_approximate_instructions_only():
    x = np.linspace(1, 2, 32, dtype=np.float32)
    body = """
    add.s64 %rd11, %rd1, %rd0; ld.global.b32 %r1, [%rd11]; {} %r2, %r1;
    add.s64 %rd12, %rd2, %rd0; st.global.b32 [%rd12], %r2;
    """
    for instruction, approximate in {"ex2.approx.f32": True, "rcp.rn.f32": False, "rcp.approx.f32": True}.items():
        [exact], _ = run(body.format(instruction), [x], [((32,), "f4")])
        [wrong], _ = run(body.format(instruction), [x], [((32,), "f4")], noise=2.4e-7)
        error = np.abs(wrong / exact - 1)
        assert error.max() < 4e-7
        assert error.any() == approximate


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("atom.global.add.u32 %r1, [%rd1], 1;", "does not know `atom.global.add.u32"),
        ("add.cc.u32 %r1, %r2, %r3;", "does not know `add.cc"),
        ("wgmma.fence.sync.aligned;", "does not know"),
        ("@%p1 bar.sync 0;", "unconditional barriers only"),
        ("ld.b32 %r1, [%rd1];", "needs to know the memory"),
        ("bar.sync 1, 64;", "all 32 threads of a block"),
    ],
)
def test_what_it_does_not_know_is_an_error(body, message):
    with pytest.raises(UnsupportedError, match=message):
        run(body, [A], [((32,), "u4")])


def test_half_a_warp_is_an_error():
    with pytest.raises(UnsupportedError, match="whole warps only"):
        run("", [A], [((32,), "u4")], threads=48)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("mov.b32 %r1, %x1;", "%x1 is not declared"),
        ("bra $nowhere;", "label that does not exist"),
        ("ld.global.b32 %r1, [%rd1*4];", "cannot read the address"),
    ],
)
def test_text_that_is_wrong_is_an_error(body, message):
    with pytest.raises(PtxError, match=message):
        run(body, [A], [((32,), "u4")])

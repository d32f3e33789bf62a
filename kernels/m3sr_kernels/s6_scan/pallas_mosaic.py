"""S6 by Mosaic GPU, forward only: 128 sequences side by side, one a thread, and channels one after the other.

Mosaic GPU moves multiples of 128 elements and neither masks nor gathers. With the sequences last, (L, D, M), whatever
is read of x, dt, z, b and c is such a multiple for any D, and a, d and dt_bias are scalars. Only M is padded. XLA turns
the arrays round before and after, which moves about as many bytes as the scan itself: why this is nobody's default.

Interpreted, lowered, and compiled for an H200 without one; never run on a GPU.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax.experimental import pallas as pl

from m3sr_kernels.checks import accumulation_dtype
from m3sr_kernels.gpu_call import GpuCall
from m3sr_kernels.tile_access import sigmoid

MAX_TOKENS = 16  # unrolled
LANES = 128  # of a program: a warpgroup, one sequence a thread
CHANNELS = 2  # of a program, which share what it reads of b and c


def s6_scan_mosaic(x, dt, a, b, c, d, z, dt_bias, *, call: GpuCall, gradient_of: Callable) -> jax.Array:
    """Arguments and result as `s6_scan`.

    Args:
      x, dt, a, b, c, d, z, dt_bias: as there.
      call: how the kernel is called.
      gradient_of: the implementation whose gradient is taken, a function of the same eight arguments.

    Raises:
      NotImplementedError: more than 16 tokens, or float64.
    """
    arrays = (x, dt, a, b, c, d, z, dt_bias)
    if x.shape[1] > MAX_TOKENS or accumulation_dtype(*arrays) != jnp.float32:
        raise NotImplementedError(
            f"s6_scan: 'pallas_mosaic' takes at most {MAX_TOKENS} tokens in float32 or bfloat16, got {x.shape[1]} in "
            f"{accumulation_dtype(*arrays)}; use 'pallas_triton' or 'xla'"
        )
    return _scan(call, gradient_of, *arrays)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _scan(call: GpuCall, gradient_of: Callable, *arrays):
    del gradient_of
    return call(functools.partial(_launch, call.interpret), *arrays)


def _fwd(call: GpuCall, gradient_of: Callable, *arrays):
    return _scan(call, gradient_of, *arrays), arrays


def _bwd(call: GpuCall, gradient_of: Callable, arrays, dy: jax.Array):
    del call
    return jax.vjp(gradient_of, *arrays)[1](dy)


_scan.defvjp(_fwd, _bwd)


def _launch(interpret: bool, x, dt, a, b, c, d, z, dt_bias) -> jax.Array:
    from jax.experimental.pallas import mosaic_gpu as plgpu  # a second to import, and nobody else's

    M, _, D = x.shape
    last = lambda array: jnp.pad(jnp.transpose(array, (1, 2, 0)), ((0, 0), (0, 0), (0, -M % LANES)))  # noqa: E731
    arrays = {"x": last(x), "dt": last(dt), "b": last(b), "c": last(c), "a": a.astype(jnp.float32)}
    arrays |= {"z": last(z)} if z is not None else {}
    arrays |= {name: array.astype(jnp.float32) for name, array in (("d", d), ("dt_bias", dt_bias)) if array is not None}

    def body(*refs: Any) -> None:
        _kernel(dict(zip(arrays, refs, strict=False)), refs[-1])

    # One axis: the second of a grid ends at 65,535. Programs of the same sequences follow one another.
    programs = pl.cdiv(M, LANES) * pl.cdiv(D, CHANNELS)
    shape = jax.ShapeDtypeStruct(arrays["x"].shape, x.dtype)
    kernel = plgpu.kernel(
        body,
        out_type=shape,
        grid=(programs,),
        grid_names=("programs",),
        kernel_name="s6_scan_mosaic_forward",
        interpret=_interpreter() if interpret else None,
    )
    y = kernel(*arrays.values())
    return jnp.transpose(y[:, :, :M], (2, 0, 1))


def _interpreter() -> Any:
    """What runs such a kernel on a CPU; jax has not made it public yet."""
    from jax._src.pallas.mosaic_gpu.interpret.params import InterpretGPUParams

    return InterpretGPUParams()


def _kernel(ins: dict[str, Any], y_ref: Any) -> None:
    """`CHANNELS` channels of `LANES` sequences; past the last channel it is done once more, to the same end."""
    L, D, _ = ins["x"].shape
    blocks = pl.cdiv(D, CHANNELS)
    program = jax.lax.axis_index("programs")
    row = jax.lax.div(program, jnp.int32(blocks))
    lanes = pl.ds(row * LANES, LANES)
    first = (program - row * blocks) * CHANNELS
    channels = [jnp.minimum(first + i, D - 1) for i in range(CHANNELS)]
    tokens = range(L)

    def read(name: str, t: int, index: Any) -> jax.Array:
        return ins[name][t, index, lanes].astype(jnp.float32)

    def scalar(name: str, *index: Any) -> jax.Array:
        return ins[name][index] if name in ins else jnp.float32(0)

    x = [[read("x", t, k) for t in tokens] for k in channels]
    steps = [[_softplus(read("dt", t, k) + scalar("dt_bias", k)) for t in tokens] for k in channels]

    def add_state(n, y):
        b, c = ([read(name, t, n) for t in tokens] for name in ("b", "c"))
        out = []
        for k, x_k, steps_k, y_k in zip(channels, x, steps, y, strict=True):
            rate, h, row = ins["a"][k, n], jnp.zeros(LANES, jnp.float32), []
            for t in tokens:
                h = jnp.exp(steps_k[t] * rate) * h + steps_k[t] * x_k[t] * b[t]
                row.append(y_k[t] + c[t] * h)
            out.append(row)
        return out

    start = [[scalar("d", k) * x_t for x_t in x_k] for k, x_k in zip(channels, x, strict=True)]
    y = jax.lax.fori_loop(0, ins["a"].shape[1], add_state, start)
    for k, y_k in zip(channels, y, strict=True):
        for t, value in enumerate(y_k):
            z = read("z", t, k) if "z" in ins else None
            gated = value if z is None else value * z * sigmoid(z)
            y_ref[t, k, lanes] = gated.astype(y_ref.dtype)


def _softplus(x: jax.Array) -> jax.Array:
    """Without log1p, which Mosaic GPU lacks: with u = 1 + e rounded, log(u)·e/(u − 1) is as exact."""
    e = jnp.exp(-jnp.abs(x))
    u = 1 + e
    vanishes = u == 1
    log1p = jnp.where(vanishes, e, jnp.log(u) * e / jnp.where(vanishes, jnp.ones_like(u), u - 1))
    return jnp.maximum(x, 0) + log1p

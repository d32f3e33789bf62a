"""Native kernels within JAX: transformations, platforms, and what they refuse."""

import functools
import importlib
import os
import subprocess
import sys

import jax
import jax.numpy as jnp
import m3sr_kernels
import numpy as np
import pytest
from jax import export
from m3sr_kernels.dispatch import resolve
from m3sr_kernels.native import call

from ..comparison import draw

TARGET = "m3sr_ss2d_scan"


def image(B, H, W, R, P, N):
    maps, heads = (B, H, W, 4, N), (4, R)
    return {"x": (B, H, W, R * P), "dt": (B, H, W, *heads), "a": heads, "b": maps, "c": maps, "d": (*heads, P)} | {
        "dt_bias": heads
    }


def line(B, L, G, H, P, N):
    maps = (B, L, G, N)
    return {"x": (B, L, G * H, P), "dt": (B, L, G * H), "a": (G * H,), "b": maps, "c": maps, "d": (G * H, P)} | {
        "dt_bias": (G * H,)
    }


def tokens(M, L, D, N):
    like_x, maps = (M, L, D), (M, L, N)
    arrays = {"x": like_x, "dt": like_x, "a": (D, N), "b": maps, "c": maps, "d": (D,), "z": like_x}
    return arrays | {"dt_bias": (D,)}


def block(M, L, C, N, rank, taps):
    D = 2 * C
    params = {"in_proj": (C, 2 * D), "conv_kernel": (taps, D), "conv_bias": (D,), "x_proj": (D, rank + 2 * N)}
    params |= {"dt_proj": (rank, D), "dt_bias": (D,), "a_log": (D, N), "d": (D,), "out_proj": (D, C)}
    return {"tokens": (M, L, C), "params": params}


# XLA folds what it can of constant parameters, with another rounding.
close = functools.partial(np.testing.assert_allclose, rtol=1e-5, atol=1e-5)
OPS = ["s6_scan", "ss2d_scan", "ssd_scan", "mamba_token_mix", "depthwise_conv_silu", "layer_norm", "group_norm_silu"]
SMALL = {
    "s6_scan": tokens(3, 7, 5, 8),
    "ss2d_scan": image(2, 5, 6, 2, 5, 8),
    "ssd_scan": line(2, 17, 1, 2, 5, 8),
    "mamba_token_mix": block(6, 4, 7, 16, 1, 4),
    "depthwise_conv_silu": {"x": (2, 5, 6, 19), "kernel": (3, 3, 19)},
    "layer_norm": {"x": (2, 5, 6, 19), "scale": (19,), "bias": (19,)},
    "group_norm_silu": {"x": (2, 5, 6, 18), "scale": (18,), "bias": (18,), "shortcut": (2, 5, 6, 18)},
}
OPTIONS = {"group_norm_silu": {"num_groups": 3}}


def function_of(op, **options):
    return functools.partial(getattr(m3sr_kernels, op), **OPTIONS.get(op, {}), **options)


def native(op, **options):
    return function_of(op, implementation="native", **options)


@pytest.mark.parametrize("op", OPS)
def test_none_takes_the_kernels_under_every_transformation(op):
    arrays = draw(SMALL[op], np.float32)
    name = "tokens" if op == "mamba_token_mix" else "x"
    function = lambda value: function_of(op)(**arrays | {name: value})  # noqa: E731
    x = arrays[name]
    assert f"m3sr_{op}_forward" in jax.jit(function).lower(x).as_text()
    expected = native(op)(**arrays)
    close(jax.jit(function)(x), expected)
    scanned = jax.lax.scan(lambda carry, _: (carry, jax.checkpoint(function)(carry)), x, None, length=2)[1]
    close(scanned[1], expected)
    chosen = jax.jit(lambda flag, x: jax.lax.cond(flag, function, jnp.zeros_like, x))
    close(chosen(True, x), expected)

    objective = lambda x: jnp.sum(jnp.sin(function(x)))  # noqa: E731
    gradient = jax.jit(jax.grad(objective))(x)
    assert f"m3sr_{op}_backward" in jax.jit(jax.grad(objective)).lower(x).as_text()
    again = jax.jit(jax.grad(jax.checkpoint(objective)))(x)
    close(again, gradient)
    stacked = jax.vmap(jax.grad(objective))(jnp.stack([x, 2 * x]))
    close(stacked[0], gradient)


@pytest.mark.parametrize("op", OPS)
def test_exported_programs_and_other_platforms_have_xla_code(op):
    arrays = draw(SMALL[op], np.float32)
    function = function_of(op)
    exported = export.export(
        jax.jit(lambda arrays: function(**arrays)),
        disabled_checks=[export.DisabledSafetyCheck.custom_call("LayoutConstraint")],
    )(arrays)
    assert "m3sr_" + op + "_forward" not in exported.mlir_module()
    np.testing.assert_allclose(exported.call(arrays), native(op)(**arrays), rtol=1e-5, atol=1e-5)
    traced = jax.jit(lambda arrays: function(**arrays)).trace(arrays)
    assert f"m3sr_{op}_forward" not in traced.lower(lowering_platforms=("tpu",)).as_text()
    explicit = jax.jit(lambda arrays: native(op)(**arrays)).trace(arrays)
    with pytest.raises(NotImplementedError, match="compiled for tpu"):
        explicit.lower(lowering_platforms=("tpu",))
    with pytest.raises(NotImplementedError, match="exported"):
        export.export(jax.jit(lambda arrays: native(op)(**arrays)))(arrays)


@pytest.mark.parametrize("op", OPS)
def test_what_the_kernels_do_not_take_goes_to_xla_or_is_refused_by_name(op):
    with jax.enable_x64(True):
        arrays = draw(SMALL[op], np.float64)
        with pytest.raises(NotImplementedError, match="float64"):
            native(op)(**arrays)
        assert jax.tree.leaves(function_of(op)(**arrays))[0].dtype == jnp.float64


def test_more_tokens_than_are_unrolled_are_refused():
    arrays = draw(block(3, 18, 5, 16, 1, 4), np.float32)
    with pytest.raises(NotImplementedError, match="16 tokens"):
        m3sr_kernels.mamba_token_mix(**arrays, implementation="native")
    assert m3sr_kernels.mamba_token_mix(**arrays).shape == (3, 18, 5)


def test_fewer_channels_than_a_vector_are_refused():
    arrays = draw({"x": (1, 4, 5, 8), "kernel": (3, 3, 8)}, np.float32)
    with pytest.raises(NotImplementedError, match="16 channels"):
        native("depthwise_conv_silu")(**arrays)
    assert m3sr_kernels.depthwise_conv_silu(**arrays).shape == (1, 4, 5, 8)


def test_without_llvmlite_xla_runs_and_the_log_says_how_to_get_it(monkeypatch, caplog):
    monkeypatch.setattr(call, "unavailable", lambda: f"llvmlite cannot be imported; {call.HOW_TO_GET_IT}")
    monkeypatch.setattr("m3sr_kernels.dispatch.unavailable", call.unavailable)
    monkeypatch.setattr(call, "_logged", set())
    arrays = draw(SMALL["ss2d_scan"], np.float32)
    for _ in range(2):
        text = jax.jit(lambda arrays: m3sr_kernels.ss2d_scan(**arrays)).lower(arrays).as_text()
    assert TARGET not in text
    assert caplog.text.count("pip install llvmlite") == 1
    with pytest.raises(NotImplementedError, match="pip install llvmlite"):
        native("ss2d_scan")(**arrays)
    assert resolve(None, "cpu") == "xla"
    with pytest.raises(NotImplementedError, match="llvmlite"):
        resolve("native", "cpu")


def test_resolve_names_the_kernels_on_a_cpu_alone():
    assert resolve(None, "cpu") == resolve("native", "cpu") == "native"
    assert resolve(None, "tpu") == "xla"
    with pytest.raises(NotImplementedError, match="runs on gpu"):
        resolve("native", "gpu")


@pytest.mark.parametrize("op", OPS)
def test_nan_spreads_as_in_the_definition(op):
    arrays = draw(SMALL[op], np.float32)
    name = "tokens" if op == "mamba_token_mix" else "x"
    for value in (np.nan, np.inf):
        bad = arrays | {name: arrays[name].at[(0, 2, 1)].set(value)}
        found, expected = (
            function_of(op, implementation=implementation)(**bad) for implementation in ("native", "reference")
        )
        np.testing.assert_array_equal(np.isnan(found), np.isnan(expected))


DEVICES = """
import jax, numpy as np, m3sr_kernels
from jax.sharding import Mesh, PartitionSpec as P
from tests.m3sr_kernels.native.test_call import SMALL, draw
mesh = Mesh(np.array(jax.devices()), ("batch",))
arrays = draw(SMALL["ss2d_scan"], np.float32)
names = {name: P("batch") if array.shape[0] == 2 else P() for name, array in arrays.items()}
one = jax.jit(jax.grad(lambda arrays: jax.numpy.sum(jax.numpy.sin(m3sr_kernels.ss2d_scan(**arrays)))))
def part(arrays):
    found = one(arrays)
    return {name: value if names[name] else jax.lax.psum(value, "batch") for name, value in found.items()}
many = jax.jit(jax.shard_map(part, mesh=mesh, in_specs=(names,), out_specs=names, check_vma=False))
assert len(jax.devices()) == 2
for name, value in one(arrays).items():
    np.testing.assert_allclose(many(arrays)[name], value, rtol=1e-5, atol=1e-5, err_msg=name)
assert "m3sr_ss2d_scan_backward" in many.lower(arrays).as_text()
"""


def test_virtual_devices_share_a_batch():
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "JAX_PLATFORMS": "cpu",
        "PYTHONPATH": ".:kernels:tests",
    }
    subprocess.run([sys.executable, "-c", DEVICES], env=environment, check=True)


def test_every_native_implementation_states_its_limits():
    for op in OPS:
        assert callable(importlib.import_module(f"m3sr_kernels.{op}.native").unsupported)

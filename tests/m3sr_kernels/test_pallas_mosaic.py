"""The scans by Mosaic GPU: interpreted against the definition, lowered for CUDA, refused where they do not reach."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from m3sr_kernels import mamba_token_mix, s6_scan, ss2d_scan, ssd_scan
from m3sr_kernels.mamba_token_mix.shapes import Shape as BlockShape
from m3sr_kernels.s6_scan.shapes import SHAPES as TOKENS
from m3sr_kernels.s6_scan.shapes import Shape as TokenShape
from m3sr_kernels.ss2d_scan.shapes import SHAPES as IMAGES
from m3sr_kernels.ss2d_scan.shapes import Shape as ImageShape
from m3sr_kernels.ssd_scan.shapes import SHAPES as SEQUENCES
from m3sr_kernels.ssd_scan.shapes import Shape as SequenceShape
from m3sr_kernels.tiles import _table

leaves = jax.tree.leaves
KERNEL = "mosaic_gpu_v2"  # the custom call that holds one
# Odd everywhere: the last chunk and the last block of channels are not full.
ODD_TOKENS = TokenShape(130, 3, 3, 2)  # two blocks of sequences, the second nearly empty
ODD_SEQUENCE = SequenceShape(2, 7, 4, 3, 2, 2)
ODD_IMAGE = ImageShape(1, 3, 5, 2, 3, 2)


@pytest.fixture(autouse=True)
def small_chunks(monkeypatch):
    monkeypatch.setitem(_table()["ssd_mosaic"], "default", {"chunk": 4, "channels": 2, "unroll": 2})


def draw(shape, dtype=jnp.float32):
    rng = np.random.default_rng(0)
    arrays = jax.tree.map(rng.standard_normal, shape.arguments, is_leaf=lambda size: isinstance(size, tuple))
    arrays |= {"a": -np.exp(arrays["a"])} if "a" in arrays else {}
    return jax.tree.map(lambda array: jnp.asarray(array, dtype), arrays)


def run(op, inputs, implementation):
    def objective(inputs):
        y = op(**inputs, implementation=implementation, interpret=True)
        weighted = [leaf * jnp.cos(jnp.arange(leaf.size, dtype=leaf.dtype)).reshape(leaf.shape) for leaf in leaves(y)]
        return sum(jnp.sum(leaf) for leaf in weighted), y

    return jax.jit(jax.grad(objective, has_aux=True))(inputs)


def lower_for_cuda(function, inputs):
    return jax.jit(function).trace(inputs).lower(lowering_platforms=("cuda",)).as_text()


def specs(shape, dtype=jnp.float32):
    return {name: jax.ShapeDtypeStruct(size, dtype) for name, size in shape.arguments.items()}


@pytest.mark.parametrize(
    ("op", "shape"),
    [
        (s6_scan, ODD_TOKENS),
        (functools.partial(ssd_scan, return_final_state=True), ODD_SEQUENCE),
        (ss2d_scan, ODD_IMAGE),
        (mamba_token_mix, BlockShape(3, 4, 3, 2)),
    ],
    ids=["s6_scan", "ssd_scan", "ss2d_scan", "mamba_token_mix"],
)
def test_it_equals_the_definition_in_value_and_gradient(op, shape):
    inputs = draw(shape)
    if "dt" in inputs:  # where softplus is hard, and decays that underflow
        inputs["dt"] = inputs["dt"].at[:, 0].set(-30.0).at[:, 1].set(60.0)
    (gradients, y), (expected, expected_y) = run(op, inputs, "pallas_mosaic"), run(op, inputs, "reference")
    pairs = zip(*(leaves(tree) for tree in ((y, gradients), (expected_y, expected))), strict=True)
    for got, value in pairs:
        np.testing.assert_allclose(got, value, atol=2e-5 * np.abs(np.asarray(value)).max())


@pytest.mark.parametrize(
    ("op", "shape"), [(s6_scan, TokenShape(2, 4, 2, 2)), (ss2d_scan, ImageShape(1, 1, 5, 1, 1, 2))]
)
def test_half_precision_is_rounded_once(op, shape):
    optional = ("d", "z", "dt_bias") if op is s6_scan else ()
    inputs = {name: array for name, array in draw(shape, jnp.bfloat16).items() if name not in optional}
    y = op(**inputs, implementation="pallas_mosaic", interpret=True)
    expected = op(**{name: array.astype(jnp.float32) for name, array in inputs.items()}, implementation="reference")
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), expected, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize(
    ("op", "shapes", "case", "kernels"),
    [
        (s6_scan, TOKENS, "photo, full", 1),
        (s6_scan, TOKENS, "photo, full, 16 groups", 1),
        (ssd_scan, SEQUENCES, "photo, four directions stacked, 16 states", 2),
        (ss2d_scan, IMAGES, "photo, spatial, full", 4),
        (ss2d_scan, IMAGES, "training, frequency, full", 4),
        (ss2d_scan, IMAGES, "training, frequency, quarter", 4),
    ],
)
def test_it_lowers_for_cuda_at_the_model_shapes(op, shapes, case, kernels, monkeypatch):
    """With the tiles of the GPU; None does not take it."""
    monkeypatch.undo()
    inputs = specs(shapes[case], jnp.bfloat16 if "training" in case else jnp.float32)
    text = lower_for_cuda(lambda inputs: op(**inputs, implementation="pallas_mosaic"), inputs)
    assert text.count(KERNEL) == kernels
    assert KERNEL not in lower_for_cuda(lambda inputs: op(**inputs), inputs)


def test_vmap_lowers():
    inputs = {name: jnp.stack([array] * 2) for name, array in draw(TokenShape(3, 2, 3, 2)).items()}
    mapped = jax.vmap(lambda inputs: s6_scan(**inputs, implementation="pallas_mosaic"))
    assert KERNEL in lower_for_cuda(mapped, inputs)


def test_it_is_refused_where_it_does_not_reach():
    scan = lambda shape, **how: s6_scan(**draw(shape), implementation="pallas_mosaic", **how)  # noqa: E731
    with pytest.raises(NotImplementedError, match="at most 16 tokens, got 17"):
        scan(TokenShape(2, 17, 2, 2), interpret=True)
    with pytest.raises(NotImplementedError, match="compiled for cpu"):
        scan(TokenShape(2, 2, 2, 2))
    for op, shape in ((s6_scan, ODD_TOKENS), (ssd_scan, ODD_SEQUENCE), (ss2d_scan, ODD_IMAGE)):
        with jax.enable_x64(True), pytest.raises(NotImplementedError, match=r"_scan: .* in float64"):
            op(**draw(shape, jnp.float64), implementation="pallas_mosaic", interpret=True)

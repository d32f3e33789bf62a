"""S6 by Mosaic GPU: interpreted against the definition, lowered for CUDA, and refused where it does not reach."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from m3sr_kernels import s6_scan
from m3sr_kernels.s6_scan.shapes import SHAPES, Shape

KERNEL = "mosaic_gpu"  # in the name of the custom call that holds it


def draw(shape, dtype=jnp.float32):
    keys = jax.random.split(jax.random.key(0), 8)
    sizes = zip(keys, shape.arguments.items(), strict=True)
    arrays = {name: jax.random.normal(key, size, dtype) for key, (name, size) in sizes}
    return arrays | {"a": -jnp.exp(arrays["a"])}


def run(inputs, implementation):
    def objective(inputs):
        y = s6_scan(**inputs, implementation=implementation, interpret=True).astype(jnp.float32)
        return jnp.sum(jnp.sin(y)), y

    return jax.jit(jax.grad(objective, has_aux=True))(inputs)


def lower_for_cuda(function, inputs):
    return jax.jit(function).trace(inputs).lower(lowering_platforms=("cuda",)).as_text()


# Two blocks of sequences, the second nearly empty; an odd number of channels, whose last is computed twice.
def test_it_equals_the_definition_in_value_and_gradient():
    inputs = draw(Shape(130, 3, 3, 2))
    inputs["dt"] = inputs["dt"].at[0].set(-30.0).at[1].set(60.0)  # where softplus is hard
    (gradients, y), (expected, expected_y) = run(inputs, "pallas_mosaic"), run(inputs, "reference")
    np.testing.assert_allclose(y, expected_y, rtol=1e-5, atol=1e-5)
    for name, gradient in expected.items():
        scale = np.abs(np.asarray(gradient)).max()
        np.testing.assert_allclose(gradients[name], gradient, atol=2e-5 * scale, err_msg=name)


def test_half_precision_without_skip_gate_and_bias_is_rounded_once():
    inputs = {
        name: array
        for name, array in draw(Shape(2, 4, 2, 2), jnp.bfloat16).items()
        if name in ("x", "dt", "a", "b", "c")
    }
    y = s6_scan(**inputs, implementation="pallas_mosaic", interpret=True)
    wide = {name: array.astype(jnp.float32) for name, array in inputs.items()}
    expected = s6_scan(**wide, implementation="reference")
    assert y.dtype == jnp.bfloat16
    np.testing.assert_allclose(y.astype(jnp.float32), expected, rtol=2**-8, atol=1e-5)


@pytest.mark.parametrize("case", ["photo, full", "photo, full, 16 groups"])
def test_it_lowers_for_cuda_at_the_model_shapes(case):
    inputs = {name: jax.ShapeDtypeStruct(size, jnp.float32) for name, size in SHAPES[case].arguments.items()}
    assert KERNEL in lower_for_cuda(lambda inputs: s6_scan(**inputs, implementation="pallas_mosaic"), inputs)
    assert KERNEL not in lower_for_cuda(lambda inputs: s6_scan(**inputs), inputs)


def test_vmap_lowers():
    inputs = {name: jnp.stack([array] * 2) for name, array in draw(Shape(3, 2, 3, 2)).items()}
    mapped = jax.vmap(lambda inputs: s6_scan(**inputs, implementation="pallas_mosaic"))
    assert KERNEL in lower_for_cuda(mapped, inputs)


def test_it_is_refused_where_it_does_not_reach():
    scan = lambda shape, **how: s6_scan(**draw(shape), implementation="pallas_mosaic", **how)  # noqa: E731
    with pytest.raises(NotImplementedError, match="at most 16 tokens in float32 or bfloat16, got 17"):
        scan(Shape(2, 17, 2, 2), interpret=True)
    with pytest.raises(NotImplementedError, match="compiled for cpu"):
        scan(Shape(2, 2, 2, 2))
    with jax.enable_x64(True), pytest.raises(NotImplementedError, match="in float64"):
        s6_scan(**draw(Shape(2, 2, 2, 2), jnp.float64), implementation="pallas_mosaic", interpret=True)

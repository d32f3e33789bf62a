"""The scan for sizes that are known only when the program runs, against the definition and at symbolic sizes."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import export
from m3sr_kernels import ss2d_scan
from m3sr_kernels.ssd_scan.reference import reference_ssd_scan
from m3sr_kernels.ssd_scan.xla_chunked import CHUNK, xla_chunked_ssd_scan

# Two float32 summation orders, as a share of the largest value.
BAR = 3e-6


def arguments(length, decay=1.0, batch=2, heads=4, width=3, groups=2, states=5):
    rng = np.random.default_rng(length)

    def normal(*shape):
        return jnp.asarray(rng.standard_normal(shape), jnp.float32)

    dt = jax.nn.softplus(normal(batch, length, heads))
    a = -decay * jnp.exp(normal(heads))
    b, c = normal(batch, length, groups, states), normal(batch, length, groups, states)
    return normal(batch, length, heads, width), dt, a, b, c


def assert_close(found, expected):
    np.testing.assert_allclose(found, expected, rtol=0, atol=BAR * float(jnp.abs(expected).max()))


@pytest.mark.parametrize("length", [1, CHUNK - 1, CHUNK, 3 * CHUNK + 7])
@pytest.mark.parametrize("decay", [1e-3, 1.0, 1e3])
def test_it_is_the_scan_for_any_length_and_decay(length, decay):
    found, expected = xla_chunked_ssd_scan(*arguments(length, decay)), reference_ssd_scan(*arguments(length, decay))
    for ours, reference in zip(found, expected, strict=True):
        assert_close(ours, reference)


def test_an_image_of_symbolic_size_is_scanned_as_one_of_known_size():
    def image(height, width, fill):
        shapes = (
            (1, height, width, 6),
            (1, height, width, 4, 2),
            (4, 2),
            *2 * ((1, height, width, 4, 3),),
            (4, 2, 3),
            (4, 2),
        )
        return [fill(shape) for shape in shapes]

    sizes = export.symbolic_shape("h, w")
    symbolic = image(*sizes, lambda shape: jax.ShapeDtypeStruct(shape, jnp.float32))
    run = jax.jit(lambda *arrays: ss2d_scan(*arrays, implementation="xla"))
    allowed = [export.DisabledSafetyCheck.custom_call("LayoutConstraint")]
    program = export.export(run, platforms=("cpu", "cuda"), disabled_checks=allowed)(*symbolic)
    rng = np.random.default_rng(0)
    for height, width in ((5, 7), (16, 9)):
        arrays = image(height, width, lambda shape: jnp.asarray(rng.standard_normal(shape), jnp.float32))
        arrays[2] = -jnp.exp(arrays[2])
        assert_close(program.call(*arrays), ss2d_scan(*arrays, implementation="reference"))

"""What the prediction of a GPU's products counts."""

import jax
import jax.numpy as jnp
import pytest

from tools.gpu_products import predicted, products


def test_products_inside_of_functions_and_loops_count_with_their_shapes():
    def program(image, kernel, matrix):
        layout = ("NHWC", "HWIO", "NHWC")
        convolved = jax.lax.conv_general_dilated(image, kernel, (1, 1), "SAME", dimension_numbers=layout)
        rows = jax.jit(lambda x: x @ matrix)(convolved.reshape(-1, 5))
        return jax.lax.scan(lambda carry, _: (matrix @ carry, None), rows.T, length=3)

    shapes = (1, 4, 6, 2), (3, 3, 2, 5), (5, 5)
    found = list(products(jax.make_jaxpr(program)(*(jnp.zeros(shape) for shape in shapes))))
    bytes_of_product = 4 * (24 * 5 + 5 * 5 + 24 * 5)
    assert found == [
        ("conv_general_dilated", 2 * 9 * 2 * 24 * 5, 4 * (4 * 6 * 2 + 3 * 3 * 2 * 5 + 24 * 5)),
        *[("dot_general", 2 * 24 * 5 * 5, bytes_of_product)] * 4,
    ]


def test_a_product_takes_its_longest_bound():
    costs = [(67 * 10**9, 1), (1, 43 * 10**8), (1, 1)]
    assert predicted("dot", costs, 67e12)["dot_ms"] == pytest.approx(1 + 1 + 0.0025, rel=1e-3)

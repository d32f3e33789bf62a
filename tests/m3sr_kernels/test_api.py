"""Choice of an implementation, and arguments that do not fit."""

import jax
import jax.numpy as jnp
import jaxtyping
import pytest
from m3sr_kernels import group_norm_silu, mamba_token_mix, s6_scan, ss2d_scan, ssd_scan
from m3sr_kernels.dispatch import choose

from m3sr_jax import M3SR


@pytest.fixture(autouse=True)
def as_users_run_it(monkeypatch):
    """Without the type checks of the test run, which would refuse these arguments first."""
    monkeypatch.setattr(jaxtyping.config, "jaxtyping_disable", True)


def ssd_arguments(heads=4, groups=2):
    x, dt, maps = jnp.ones((1, 6, heads, 3)), jnp.ones((1, 6, heads)), jnp.ones((1, 6, groups, 2))
    return x, dt, -jnp.ones(heads), maps, maps


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown implementation 'cuda'.*xla, associative, reference"):
        ssd_scan(*ssd_arguments(), implementation="cuda")


def test_arrays_without_numbers_give_results_without_numbers():
    x, dt, a, b, c = ssd_arguments()
    y, state = ssd_scan(x[:0], dt[:0], a, b[:0], c[:0], return_final_state=True)
    assert (y.shape, state.shape) == ((0, 6, 4, 3), (0, 4, 3, 2))
    y, state = ssd_scan(x[:, :0], dt[:, :0], a, b[:, :0], c[:, :0], return_final_state=True)
    assert y.shape == (1, 0, 4, 3)
    assert not state.any()
    maps = jnp.ones((2, 0, 5))
    assert s6_scan(jnp.ones((2, 0, 4)), jnp.ones((2, 0, 4)), -jnp.ones((4, 5)), maps, maps).shape == (2, 0, 4)
    photos, model = jnp.ones((0, 8, 8, 3)), M3SR(num_groups=1, features=4)
    cubes, _ = jax.eval_shape(model.init_with_output, jax.random.key(0), photos)
    assert cubes.shape == (0, 8, 8, 31)


def test_numbers_of_axes_and_names_are_checked():
    x, dt, a, b, c = ssd_arguments()
    with pytest.raises(ValueError, match=r"ssd_scan: x has shape \(6, 4, 3\), expected 4 axes"):
        ssd_scan(x[0], dt, a, b, c)
    with pytest.raises(ValueError, match="4 heads cannot share 0 groups"):
        ssd_scan(x, dt, a, b[:, :, :0], c[:, :, :0])
    images, ones = jnp.ones((1, 4, 4, 8)), jnp.ones(8)
    for groups in (-4, 0, 3):
        with pytest.raises(ValueError, match=f"{groups} groups cannot share 8 channels"):
            group_norm_silu(images, ones, ones, images, num_groups=groups)
    with pytest.raises(ValueError, match=r"params lacks .*'in_proj'.* and has the unknown \['in'\]"):
        mamba_token_mix(jnp.ones((2, 3, 4)), {"in": ones})


def test_a_missing_implementation_is_refused_not_replaced():
    with pytest.raises(NotImplementedError, match=r"scan has no 'pallas_mosaic' implementation; it has xla"):
        choose("scan", {"xla": print}, "pallas_mosaic")


def test_heads_that_cannot_share_groups():
    with pytest.raises(ValueError, match="3 heads cannot share 2 groups"):
        ssd_scan(*ssd_arguments(heads=3))


def test_shapes_and_types_are_named():
    x, dt, a, b, c = ssd_arguments()
    with pytest.raises(ValueError, match=r"ssd_scan: dt has shape \(1, 5, 4\), expected \(1, 6, 4\)"):
        ssd_scan(x, dt[:, 1:], a, b, c)
    with pytest.raises(TypeError, match="s6_scan: x has dtype int32"):
        s6_scan(
            jnp.ones((2, 3, 4), int), jnp.ones((2, 3, 4)), -jnp.ones((4, 5)), jnp.ones((2, 3, 5)), jnp.ones((2, 3, 5))
        )
    image, maps = jnp.ones((1, 4, 4, 6)), jnp.ones((1, 4, 4, 4, 8))
    with pytest.raises(ValueError, match=r"ss2d_scan: x has shape \(1, 4, 4, 6\), expected \(1, 4, 4, 8\)"):
        ss2d_scan(
            image, jnp.ones((1, 4, 4, 4, 2)), -jnp.ones((4, 2)), maps, maps, jnp.ones((4, 2, 4)), jnp.ones((4, 2))
        )

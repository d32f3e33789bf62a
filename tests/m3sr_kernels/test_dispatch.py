"""What `None` takes on CUDA, by the backends of jax, the GPU compiled for and the arguments; too large arguments."""

import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from m3sr_kernels import s6_scan, ss2d_scan, ssd_scan
from m3sr_kernels.dispatch import resolve
from m3sr_kernels.gpu_call import gpu_capability
from m3sr_kernels.s6_scan.shapes import Shape
from m3sr_kernels.ss2d_scan.shapes import Shape as ImageShape
from m3sr_kernels.ssd_scan.shapes import Shape as SequenceShape

from .comparison import draw, lower_for_cuda, specs

SHORT = Shape(6, 4, 5, 3)
TRITON, MOSAIC = "xla.gpu.triton", "mosaic_gpu_v2"  # in the name of the custom call that holds a kernel


def described(kind):
    """A mesh of one GPU of this kind, as someone sets who compiles for a GPU that is not here."""
    device = jax.sharding.AbstractDevice(device_kind=kind, num_cores=80, platform="gpu")
    axes = (jax.sharding.AxisType.Auto,)
    return jax.sharding.use_abstract_mesh(jax.sharding.AbstractMesh((1,), ("x",), axes, abstract_device=device))


def kernels_for(kind, shape=SHORT):
    with described(kind):
        text = lower_for_cuda(lambda arrays: s6_scan(**arrays), specs(shape))
    return {name for name in (TRITON, MOSAIC) if name in text}


@pytest.fixture
def without_triton(monkeypatch):
    monkeypatch.setattr("m3sr_kernels.dispatch.importable", lambda name: name != "pallas_triton")


@pytest.mark.parametrize(
    ("kind", "capability"),
    [
        ("Tesla V100-SXM2-16GB", 7.5),
        ("Tesla T4", 7.5),
        ("NVIDIA GeForce RTX 2080 Ti", 7.5),
        ("Quadro RTX 6000", 7.5),
        ("NVIDIA A100-SXM4-80GB", None),
        ("NVIDIA GeForce RTX 4090", None),
        ("NVIDIA RTX 2000 Ada Generation", None),
        ("NVIDIA H100 80GB HBM3", 9.0),
        ("NVIDIA GH200 480GB", 9.0),
        ("NVIDIA B200", 9.0),
        ("cpu", None),
    ],
)
def test_a_name_tells_the_capability(kind, capability):
    with described(kind):
        assert gpu_capability() == capability


def test_none_takes_xla_for_a_gpu_older_than_ampere():
    assert kernels_for("NVIDIA A100-SXM4-80GB") == kernels_for("NVIDIA H200") == {TRITON}
    assert kernels_for("Tesla V100-SXM2-16GB") == set()
    with described("Tesla V100-SXM2-16GB"):
        assert resolve(None, "cuda") == "xla"


def test_without_triton_none_takes_mosaic_where_the_gpu_is_known_to_run_it(without_triton):
    assert kernels_for("NVIDIA H200") == {MOSAIC}
    assert kernels_for("NVIDIA A100-SXM4-80GB") == set()
    assert resolve(None, "cuda") == "xla"  # nothing tells which GPU
    with described("NVIDIA H200"):
        assert resolve(None, "cuda") == "pallas_mosaic"


def test_none_takes_xla_where_mosaic_refuses_the_arguments(without_triton):
    assert kernels_for("NVIDIA H200", Shape(6, 17, 5, 3)) == set()  # more tokens than it unrolls
    with jax.enable_x64(True), described("NVIDIA H200"):
        arrays = draw(SHORT.arguments, np.float64)
        assert MOSAIC not in lower_for_cuda(lambda arrays: s6_scan(**arrays), arrays)


@pytest.mark.parametrize("blocked", ["triton", "mosaic_gpu", ""])
def test_a_jax_without_a_backend_works(blocked):
    """In a process of its own. Without both backends, None is XLA on CUDA, and the native kernels on a CPU."""
    names = [f"jax.experimental.pallas.{blocked}"] if blocked else ["jax.experimental.pallas"]
    program = f"""
import sys
sys.modules |= dict.fromkeys({names!r})
import jax, jax.numpy as jnp, m3sr_kernels
from m3sr_kernels.dispatch import resolve
x, maps = jnp.ones((2, 3, 4)), jnp.ones((2, 3, 5))
scan = jax.jit(lambda x: m3sr_kernels.s6_scan(x, x, -jnp.ones((4, 5)), maps, maps))
assert scan(x).shape == x.shape
text = scan.trace(x).lower(lowering_platforms=("cuda",)).as_text()
assert ({TRITON!r} in text) == ({blocked!r} == "mosaic_gpu"), text
try:
    resolve("pallas_triton", "cuda")
except NotImplementedError as error:
    assert ("is not part of jax" in str(error)) == ({blocked!r} != "mosaic_gpu"), error
"""
    subprocess.run([sys.executable, "-c", program], check=True)


@pytest.mark.parametrize(
    ("scan", "shape"),
    [
        (ss2d_scan, ImageShape(1, 2**15, 2**15, 1, 4, 1)),
        (ss2d_scan, ImageShape(1, 2**14, 2**14, 1, 1, 4)),  # b and c are the largest
        (ssd_scan, SequenceShape(1, 2**31, 1, 1, 1, 1)),
        (ssd_scan, SequenceShape(1, 2**30, 4, 1, 1, 1)),
    ],
)
@pytest.mark.parametrize("implementation", ["pallas_triton", None])
def test_a_batch_entry_beyond_the_kernels_indices_is_refused(scan, shape, implementation):
    arguments = specs(shape, jnp.bfloat16)
    with pytest.raises(ValueError, match=r"in one batch entry; .* fewer than 2\^31 and 2\^32; .* implementation='xla'"):
        jax.eval_shape(lambda arrays: scan(**arrays, implementation=implementation), arguments)


def test_a_batch_beyond_2_to_the_32_of_small_entries_is_not_refused():
    shape = ImageShape(2**18, 128, 128, 1, 2, 1)
    arguments = specs(shape, jnp.bfloat16)
    y = jax.eval_shape(lambda arrays: ss2d_scan(**arrays, implementation="pallas_triton"), arguments)
    assert y.size == 2**33

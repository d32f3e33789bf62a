"""Compiled kernels are kept as files, and only files that can be trusted are loaded."""

import functools
import os
import subprocess
import sys

import numpy as np
import pytest
from m3sr_kernels.native import compiler, ffi
from m3sr_kernels.native.probe import PROBE
from m3sr_kernels.native.target import Target, host

from .kernels import KERNELS
from .test_memory import run

# Rounding of other vectors, relative to a result's largest value: 5e-7 at most over twelve seeds.
NARROWER = 1.5e-6

BUILD = functools.partial(ffi.add_handler, name="probe", kernel=PROBE)


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    compiled = []
    compile_object = compiler.compile_object
    monkeypatch.setattr(compiler, "compile_object", lambda *args: compiled.append(1) or compile_object(*args))
    return tmp_path / "m3sr-jax", compiled


def test_a_kernel_is_compiled_once_and_loaded_afterwards(cache):
    folder, compiled = cache
    for _ in range(3):
        assert compiler.load("probe", BUILD)
    assert len(compiled) == 1
    (kept,) = folder.iterdir()
    assert kept.name.startswith("probe-")
    assert kept.suffix == ".o"


@pytest.mark.parametrize("damage", ["cut", "changed", "empty", "renamed", "writable by others"])
def test_a_file_that_cannot_be_trusted_is_made_again(cache, damage):
    folder, compiled = cache
    compiler.load("probe", BUILD)
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    if damage == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif damage == "changed":
        path.write_bytes(whole[:200] + bytes([whole[200] ^ 1]) + whole[201:])
    elif damage == "empty":
        path.write_bytes(b"")
    elif damage == "renamed":  # the code of another kernel under this one's name
        compiler.load("other", functools.partial(ffi.add_handler, name="other", kernel=PROBE))
        (other,) = folder.glob("other-*")
        path.write_bytes(other.read_bytes())
    else:
        os.chmod(path, 0o666)
    before = len(compiled)
    assert compiler.load("probe", BUILD)
    assert len(compiled) == before + 1
    assert path.read_bytes()[:32] == whole[:32]


def test_a_folder_that_cannot_be_written_costs_a_line_in_the_log(tmp_path, monkeypatch, caplog):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert compiler.load("probe", BUILD)
    assert "cannot keep compiled kernels" in caplog.text


def test_the_key_follows_sources_cpu_and_versions(monkeypatch):
    keys = [compiler._key("probe", host()), compiler._key("other", host())]
    keys.append(compiler._key("probe", Target(host().triple, "generic", host().features)))
    monkeypatch.setattr(compiler, "_sources", lambda: "changed")
    keys.append(compiler._key("probe", host()))
    assert len(set(keys)) == 4


@pytest.mark.parametrize(
    ("triple", "cpu", "features", "lanes"),
    [
        ("x86_64-unknown-linux-gnu", "x86-64-v4", "+avx,+avx2,+fma,+avx512f,+avx512dq,+avx512vl,+avx512bw", 16),
        ("x86_64-pc-windows-msvc", "haswell", "+avx,+avx2,+fma", 8),
        ("x86_64-unknown-linux-gnu", "x86-64", "+sse2", 4),
        ("aarch64-unknown-linux-gnu", "neoverse-n1", "+neon", 4),
        ("arm64-apple-macosx", "apple-m1", "+neon", 4),
    ],
)
def test_kernels_compile_for_every_family_of_cpus(triple, cpu, features, lanes):
    target = Target(triple, cpu, features)
    assert target.lanes == lanes
    # NEON's code stands for Apple's; only the format of the object differs.
    names = ["conv forward"] if "apple" in triple else KERNELS
    for name in names:
        build = functools.partial(ffi.add_handler, name="kernel", kernel=KERNELS[name](8))
        assert len(compiler.compile_object(name, build, target)) > 4_000


@pytest.mark.skipif(host().lanes != 16, reason="needs a CPU with AVX-512, to compare its vectors with narrower ones")
def test_narrower_vectors_give_the_same_results(tmp_path):
    script = (
        "import sys, numpy as np; from tests.m3sr_kernels.native import test_compiler as t;"
        "from m3sr_kernels.native.target import host; assert host().lanes == 8;"
        "np.savez(sys.argv[1], *[array for by_seed in t.results() for arrays in by_seed for array in arrays])"
    )
    environment = os.environ | {
        "M3SR_NATIVE_FEATURES": "-avx512f",
        "PYTHONPATH": ".:kernels:tests",
        "JAX_PLATFORMS": "cpu",
    }
    subprocess.run([sys.executable, "-c", script, tmp_path / "narrow.npz"], env=environment, check=True)
    narrow = iter(np.load(tmp_path / "narrow.npz").values())
    for by_seed in results():
        pairs = [[(wide, next(narrow)) for wide in arrays] for arrays in by_seed]
        for result in zip(*pairs, strict=True):
            # Over all seeds: the sum in a gradient of few numbers may cancel for one of them.
            scale = max(np.abs(wide).max() for wide, _ in result)
            for wide, other in result:
                np.testing.assert_allclose(other, wide, rtol=0, atol=NARROWER * scale)


def results():
    """Yields the results of each kernel, a list for every seed; the token mixer's padded sizes depend on the lanes."""
    for name in KERNELS:
        if not name.startswith("mix"):
            yield [run(name, 8, seed, before=seed % 2 == 0, threads=2) for seed in range(6)]

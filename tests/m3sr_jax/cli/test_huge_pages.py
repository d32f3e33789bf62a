"""Training starts again with huge pages, once, where they are offered."""

import os
import subprocess
import sys

import pytest

from m3sr_jax.cli import huge_pages

PROGRAM = """
import os, sys
from m3sr_jax.cli.huge_pages import with_huge_pages
print("starts", flush=True)
with_huge_pages()
print(os.environ.get("GLIBC_TUNABLES"), sys.argv[1:])
"""


@pytest.fixture
def offered(monkeypatch, tmp_path):
    """Makes this platform offer huge pages, and returns the programs that are started."""
    started = []
    monkeypatch.setattr(huge_pages, "KERNEL", tmp_path / "enabled")
    huge_pages.KERNEL.write_text("always [madvise] never\n")
    monkeypatch.setattr(sys, "platform", "linux")
    monkeypatch.setattr(os, "confstr", lambda _: "glibc 2.36", raising=False)
    monkeypatch.setattr(os, "execve", lambda *given: started.append(given))
    for name in ("GLIBC_TUNABLES", huge_pages.SWITCH):
        monkeypatch.delenv(name, raising=False)
    return started


def test_the_same_command_starts_with_the_tunable_beside_others(offered, monkeypatch):
    monkeypatch.setenv("GLIBC_TUNABLES", "glibc.malloc.arena_max=2")
    huge_pages.with_huge_pages()
    ((program, arguments, environment),) = offered
    assert (program, arguments) == (sys.executable, sys.orig_argv)
    assert environment["GLIBC_TUNABLES"] == "glibc.malloc.arena_max=2:glibc.malloc.hugetlb=1"
    assert environment.items() >= {key: os.environ[key] for key in os.environ if key != "GLIBC_TUNABLES"}.items()


@pytest.mark.parametrize("variables", [{"M3SR_HUGE_PAGES": "0"}, {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=0"}])
def test_the_user_decides(offered, monkeypatch, variables):
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    huge_pages.with_huge_pages()
    assert not offered


@pytest.mark.parametrize("library", ["glibc 2.31", "glibc", "musl 1.2", None])
def test_an_older_or_other_c_library_is_left_alone(offered, monkeypatch, library):
    monkeypatch.setattr(os, "confstr", lambda _: library, raising=False)
    huge_pages.with_huge_pages()
    assert not offered


@pytest.mark.parametrize("kernel", ["[always] madvise never", "always madvise [never]", None])
def test_so_is_a_kernel_that_gives_huge_pages_to_all_or_none(offered, kernel):
    if kernel is None:
        huge_pages.KERNEL.unlink()
    else:
        huge_pages.KERNEL.write_text(kernel)
    huge_pages.with_huge_pages()
    assert not offered


def test_a_program_starts_again_once_with_its_arguments():
    environment = {key: value for key, value in os.environ.items() if key not in ("GLIBC_TUNABLES", huge_pages.SWITCH)}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, "a b", "--c"], env=environment, capture_output=True, text=True, check=True
    )
    offered = huge_pages._on_request()
    *starts, last = done.stdout.splitlines()
    assert starts == ["starts"] * (2 if offered else 1)
    assert last == f"{'glibc.malloc.hugetlb=1' if offered else None} ['a b', '--c']"

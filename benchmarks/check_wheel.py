"""Checks an installed wheel from outside the sources: `make wheel`.

It holds every file of the packages, `m3sr` starts, and Hugging Face's `kernels`, where installed, is itself.
"""

import importlib.util
import subprocess
import sys
import zipfile
from pathlib import Path

import m3sr_kernels

import m3sr_jax

ROOT = Path(__file__).parents[1]
sources = [(ROOT, ROOT / "m3sr_jax"), (ROOT / "kernels", ROOT / "kernels" / "m3sr_kernels")]
expected = {
    str(path.relative_to(top))
    for top, package in sources
    for path in package.rglob("*")
    if path.is_file() and path.suffix not in (".pyc", ".md")
}
found = {name for name in zipfile.ZipFile(sys.argv[1]).namelist() if ".dist-info/" not in name}
assert found == expected, f"left out: {expected - found}; not in the sources: {found - expected}"

subprocess.run([Path(sys.executable).parent / "m3sr", "--version"], check=True)
subprocess.run([Path(sys.executable).parent / "m3sr", "view", "--help"], check=True, stdout=subprocess.DEVNULL)

for package in (m3sr_jax, m3sr_kernels):
    assert package.__file__ is not None
    assert not Path(package.__file__).is_relative_to(ROOT / "m3sr_jax"), package.__file__
    assert not Path(package.__file__).is_relative_to(ROOT / "kernels"), package.__file__
theirs = importlib.util.find_spec("kernels")
origin = theirs.origin if theirs else "not installed"
assert origin is not None, "the import name `kernels` is a bare folder"
assert not Path(origin).is_relative_to(ROOT / "kernels"), origin
print(f"{len(found)} files; kernels: {origin}")

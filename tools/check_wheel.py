"""Checks an installed wheel from outside the sources: `make wheel`.

The wheel contains every file of the packages, `m3sr` starts, and `import kernels` still finds Hugging Face's package.
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
    if path.is_file() and path.suffix != ".pyc" and (path.suffix != ".md" or path.parent.name == "pretrained")
}
found = {name for name in zipfile.ZipFile(sys.argv[1]).namelist() if ".dist-info/" not in name}
assert found == expected, f"missing: {sorted(expected - found)}; unexpected: {sorted(found - expected)}"

subprocess.run([Path(sys.executable).parent / "m3sr", "--version"], check=True)
subprocess.run([Path(sys.executable).parent / "m3sr", "view", "--help"], check=True, stdout=subprocess.DEVNULL)

for package in (m3sr_jax, m3sr_kernels):
    assert package.__file__ is not None
    assert not Path(package.__file__).is_relative_to(ROOT / "m3sr_jax"), package.__file__
    assert not Path(package.__file__).is_relative_to(ROOT / "kernels"), package.__file__
hugging_face = importlib.util.find_spec("kernels")
origin = hugging_face.origin if hugging_face else "not installed"
assert origin is not None, "`import kernels` finds a folder without __init__.py, not Hugging Face's package"
assert not Path(origin).is_relative_to(ROOT / "kernels"), origin
print(f"the wheel has all {len(found)} files; kernels: {origin}")

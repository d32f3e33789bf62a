"""Imports run one way: a module may import its own layer's package and lower layers, and there is no circle."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = {"m3sr_jax": ROOT / "m3sr_jax", "m3sr_kernels": ROOT / "kernels" / "m3sr_kernels"}
LAYERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["m3sr"]["layers"]


def modules() -> dict[str, Path]:
    found = {}
    for package, folder in SOURCES.items():
        for path in folder.rglob("*.py"):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join((package, *(part for part in parts if part != "__init__")))] = path
    return found


MODULES = modules()


def imports(name: str) -> set[str]:
    """Returns the project's modules that a module imports, at its top or inside functions, type checking aside."""
    tree = ast.parse(MODULES[name].read_text())
    hints_only = {
        child
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for child in ast.walk(node)
    }
    found = set()
    for node in ast.walk(tree):
        if node in hints_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            found |= {
                full if (full := f"{node.module}.{alias.name}") in MODULES else node.module for alias in node.names
            }
    return (found & set(MODULES)) - {name}


def layer(name: str) -> tuple[int, str]:
    """Returns a module's layer and the prefix that puts it there: the longest that fits."""
    fits = [
        (len(prefix), level, prefix)
        for level, prefixes in enumerate(LAYERS)
        for prefix in prefixes
        if name == prefix or name.startswith(f"{prefix}.")
    ]
    assert fits, f"{name} is in no layer of pyproject.toml's tool.m3sr.layers"
    _, level, prefix = max(fits)
    return level, prefix


@pytest.mark.parametrize("name", sorted(MODULES))
def test_a_module_imports_downwards_only(name):
    own_level, own_prefix = layer(name)
    upwards = [
        other
        for other in sorted(imports(name))
        for level, prefix in [layer(other)]
        if level > own_level or (level == own_level and prefix != own_prefix)
    ]
    assert not upwards, f"{name} imports {', '.join(upwards)}"


def test_there_is_no_circle():
    done: set[str] = set()
    path: list[str] = []

    def visit(name: str) -> None:
        assert name not in path, " → ".join([*path[path.index(name) :], name])
        if name in done:
            return
        path.append(name)
        for other in sorted(imports(name)):
            visit(other)
        path.pop()
        done.add(name)

    for name in sorted(MODULES):
        visit(name)

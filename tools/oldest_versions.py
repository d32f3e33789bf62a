"""Prints the lowest versions that pyproject.toml allows, as pip constraints for `make oldest`."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
needed = [
    *project["dependencies"],
    *(name for extra in ("torch", "tensorboard", "heif", "raw") for name in extras[extra]),
]
for requirement in needed:
    print(re.sub(r">=", "==", requirement))
print(*(f"jaxlib=={version}" for version in re.findall(r"^jax>=(.+)$", "\n".join(project["dependencies"]), re.M)))

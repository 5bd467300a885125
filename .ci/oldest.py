"""Print the oldest releases of the dependencies that pyproject.toml allows on this Python."""

import tomllib
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]

for text in PROJECT["dependencies"]:
    requirement = Requirement(text)
    if requirement.marker is None or requirement.marker.evaluate():
        (oldest,) = [each.version for each in requirement.specifier if each.operator == ">="]
        print(f"{requirement.name}=={oldest}")

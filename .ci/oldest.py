"""Print the oldest releases that pyproject.toml allows on this Python, of the dependencies and of
those extras whose oldest are tested."""

import tomllib
from pathlib import Path

from pip._vendor.packaging.requirements import Requirement

PROJECT = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
EXTRAS = ("cluster",)

wanted = list(PROJECT["dependencies"])
for extra in EXTRAS:
    wanted += PROJECT["optional-dependencies"][extra]
for text in wanted:
    requirement = Requirement(text)
    if requirement.marker is None or requirement.marker.evaluate():
        (oldest,) = [each.version for each in requirement.specifier if each.operator == ">="]
        print(f"{requirement.name}=={oldest}")

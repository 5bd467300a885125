"""Check that a wheel has every file of the package, and that another one is the same.

Usage: ``python wheel.py WHEEL OTHER``
"""

import sys
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parents[1]


def contents(wheel: str) -> dict[str, bytes]:
    with ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


wheel, other = map(contents, sys.argv[1:])
assert wheel == other, wheel.keys() ^ other.keys() or "the names are the same, the files are not"
there = {str(file.relative_to(ROOT)) for file in (ROOT / "hybridexec").rglob("*.py")}
packed = {name for name in wheel if ".dist-info/" not in name}
assert packed == there | {"hybridexec/py.typed"}, packed ^ there
print(f"{Path(sys.argv[1]).name}: {len(packed)} files of the package")

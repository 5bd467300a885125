"""Compile what the benchmarks import, as pip does for what it installs.

An editable install is not compiled, and where Python may not write bytecode it never would be: then
every worker of every measurement would compile the library anew, and start-up would show that.
"""

from __future__ import annotations

import compileall
import importlib.util

from .machine import PACKAGES


def compile_all() -> None:
    """Bring the bytecode of all contenders up to date; what cannot be written is left."""
    for package in ("benchmarks", *PACKAGES):
        spec = importlib.util.find_spec(package)
        for location in (spec and spec.submodule_search_locations) or ():
            compileall.compile_dir(location, quiet=2)

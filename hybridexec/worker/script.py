"""Runs the user's script as multiprocessing does, without what that would import first.

Thread: main, before any user code.
Guarantees: the script runs as ``runpy.run_path`` would run it. That imports ``pkgutil`` only to see
whether the script is compiled, or a folder, and so takes longer than most scripts do.
"""

from __future__ import annotations

import io
import os
import runpy
from multiprocessing import spawn
from typing import Any

_SOURCE = (".py", ".pyw")


def install() -> None:
    """Have multiprocessing run scripts with :func:`run_path`."""
    spawn.runpy = _Runpy()  # type: ignore[attr-defined]  # not in its stub


class _Runpy:
    """What multiprocessing finds under that name."""

    def __getattr__(self, name: str) -> Any:
        return run_path if name == "run_path" else getattr(runpy, name)


def run_path(path: str, init_globals: Any = None, run_name: str | None = None) -> dict[str, Any]:
    """See :func:`runpy.run_path`."""
    run: Any = getattr(runpy, "_run_module_code", None)
    if run is None or run_name is None or not (path.endswith(_SOURCE) and os.path.isfile(path)):
        return runpy.run_path(path, init_globals, run_name)
    with io.open_code(os.path.abspath(path)) as file:
        code = compile(file.read(), path, "exec", dont_inherit=True)
    package = run_name.rpartition(".")[0]
    done: dict[str, Any] = run(code, init_globals, run_name, pkg_name=package, script_name=path)
    return done

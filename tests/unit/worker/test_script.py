"""Scripts run as multiprocessing would run them."""

from __future__ import annotations

import py_compile
import runpy
import subprocess
import sys
from multiprocessing import spawn
from pathlib import Path
from typing import Any

import pytest

from hybridexec.worker import script

SOURCE = """# -*- coding: latin-1 -*-
import sys

def annotated(x: int) -> None: ...

text = "\xe9"
found = annotated.__annotations__, sys.argv[0], sys.modules[__name__].text
"""


def result(run: Any, path: Path) -> dict[str, Any]:
    namespace = run(str(path), run_name="__mp_main__")
    return {name: value for name, value in namespace.items() if type(value).__module__ != "types"}


@pytest.mark.parametrize("compiled", [False, True])
def test_a_script_runs_as_with_runpy(tmp_path: Path, compiled: bool) -> None:
    path = tmp_path / "script.py"
    path.write_text(SOURCE, encoding="latin-1")
    if compiled:
        path = Path(py_compile.compile(str(path), str(tmp_path / "script.pyc")) or "")
    ours, theirs = result(script.run_path, path), result(runpy.run_path, path)
    for namespace in (ours, theirs):
        for name in ("annotated", "__builtins__", "__loader__"):
            namespace.pop(name, None)
    assert ours == theirs
    assert ours["found"] == ({"x": int, "return": None}, str(path), "\xe9")
    assert ours["__file__"] == str(path)


def test_what_a_script_raises_names_its_line(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text("\n1 / 0\n")
    with pytest.raises(ZeroDivisionError) as caught:
        script.run_path(str(path), run_name="__mp_main__")
    assert (caught.traceback[-1].path, caught.traceback[-1].lineno) == (path, 1)
    path = tmp_path / "missing.py"
    with pytest.raises(FileNotFoundError, match=r"missing\.py"):
        script.run_path(str(path), run_name="__mp_main__")


def test_multiprocessing_uses_it_and_finds_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    theirs: Any = spawn
    monkeypatch.setattr(theirs, "runpy", runpy)
    script.install()
    assert theirs.runpy.run_path is script.run_path
    assert theirs.runpy.run_module is runpy.run_module


def test_pkgutil_is_not_imported_for_it(tmp_path: Path) -> None:
    path = tmp_path / "script.py"
    path.write_text("import sys; print('pkgutil' in sys.modules)")
    code = f"from hybridexec.worker import script; script.run_path({str(path)!r}, run_name='main')"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout == "False\n"

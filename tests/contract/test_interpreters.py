"""Programs whose interpreter, script or folder is not what multiprocessing takes for granted."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from .helpers import run_script

pytestmark = pytest.mark.slow_on("spawn")

SCRIPT = """
import multiprocessing, os, sys, tempfile
from hybridexec import ExecutorBroken, HybridExecutor

def leave():
    folder = tempfile.mkdtemp()
    os.chdir(folder)
    os.rmdir(folder)

def die(code):
    os._exit(code)

def square(n):
    return n * n

if __name__ == "__main__":
    what, method = sys.argv[1:]
    if what == "frozen":
        sys.frozen = True
    elif what == "no spec":
        del sys.modules["__main__"].__spec__
    elif what == "no folder":
        leave()
    elif what != "folder goes":
        sys.executable = {"None": None, "empty": ""}.get(what, what)
    context = None if method == "default" else multiprocessing.get_context(method)
    with HybridExecutor(1, context) as executor:
        if what == "folder goes":
            executor.submit(square, 3).result(60)
            leave()
            executor.submit(die, 3).exception(60)
        try:
            print(executor.submit(square, 3).result(60))
        except ExecutorBroken as error:
            print(error)
"""


def can_start_without_a_folder(tmp_path: Path) -> bool:
    """Whether Python itself can import its modules where the current directory was removed: 3.13.0
    cannot."""
    gone = tmp_path / "gone"
    gone.mkdir()
    program = (
        "import os, subprocess, sys; os.rmdir(os.getcwd()); sys.exit(subprocess.call(sys.argv[1:]))"
    )
    importing = [sys.executable, "-c", "import socket"]
    command = [sys.executable, "-c", program, *importing]
    done = subprocess.run(command, cwd=gone, stderr=subprocess.DEVNULL, timeout=60, check=False)
    return done.returncode == 0


@pytest.mark.parametrize("what", ["no spec", "no folder", "folder goes"])
def test_what_is_missing_changes_nothing(tmp_path: Path, method: str, what: str) -> None:
    if what != "no spec" and not can_start_without_a_folder(tmp_path):
        pytest.skip("this Python does not start in a removed directory")
    assert run_script(tmp_path / "script.py", SCRIPT, what, method).stdout == "9\n"


@pytest.mark.parametrize("what", ["None", "empty", "/nowhere/python"])
@pytest.mark.parametrize("start", ["default", "spawn"])
def test_an_interpreter_that_cannot_be_had_is_an_error_with_its_cure(
    tmp_path: Path, start: str, what: str
) -> None:
    out = run_script(tmp_path / "script.py", SCRIPT, what, start).stdout
    assert "sys.executable" in out
    assert "multiprocessing.set_executable()" in out
    assert run_script(tmp_path / "script.py", SCRIPT, what, "fork").stdout == "9\n"


def test_what_is_no_interpreter_is_an_error_with_its_cure(tmp_path: Path) -> None:
    out = run_script(tmp_path / "script.py", SCRIPT, "/bin/false", "default").stdout
    assert "the fork server ended (exit code 1)" in out
    assert "multiprocessing.set_executable()" in out
    out = run_script(tmp_path / "script.py", SCRIPT, "/bin/false", "spawn").stdout
    # Or the last of them ends so soon that nothing can be written to it.
    died = "worker processes die before they have taken a call" in out and "exit code 1" in out
    assert died or "a worker process could not be started: BrokenPipeError" in out
    assert "'/bin/false'" in out
    assert "multiprocessing.set_executable()" in out


def test_a_frozen_program_forks_and_does_not_run_itself_again(tmp_path: Path) -> None:
    assert run_script(tmp_path / "script.py", SCRIPT, "frozen", "default").stdout == "9\n"
    out = run_script(tmp_path / "script.py", SCRIPT, "frozen", "forkserver").stdout
    assert "this program is frozen" in out

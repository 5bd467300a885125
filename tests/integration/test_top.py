"""hybridexec top, as a person sees it in a terminal, and as a program reads it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from terminal import terminal

PROGRAM = """
import os, sys, time
from hybridexec import HybridExecutor

def wait(path):
    while not os.path.exists(path):
        time.sleep(0.01)

def fail(n):
    raise OSError(f"no such host: {n}")

if __name__ == "__main__":
    with HybridExecutor(2, concurrency=3) as executor:
        calls = [executor.submit(wait, sys.argv[1]) for _ in range(5)]
        executor.submit(fail, 7).exception()
        while executor.stats().running < 5:
            time.sleep(0.01)
        print("ready", flush=True)
        for call in calls:
            call.result()
"""


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


@contextmanager
def program(folder: Path, monitor: str = "1") -> Iterator[subprocess.Popen[str]]:
    """A program that runs until the gate is there."""
    path = folder / "program.py"
    path.write_text(PROGRAM)
    command = [sys.executable, str(path), str(folder / "gate")]
    environment = {**os.environ, "HYBRIDEXEC_MONITOR": monitor}
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            (folder / "gate").touch()
            assert process.wait(60) == 0


def hybridexec(*arguments: object, **options: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hybridexec", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.slow
def test_it_is_redrawn_until_the_program_ends(tmp_path: Path) -> None:
    watch = ("-m", "hybridexec", "top", "--every", 0.1)
    with program(tmp_path) as process, terminal(*watch) as shown:
        shown.wait_for("5 running", "1 ×  OSError at program.py:10 in fail: no such host: 7")
        (tmp_path / "gate").touch()
        assert shown.end() == 0
        # (This terminal has no second screen to show it on meanwhile, so it is there twice.)
        assert f"HybridExecutor 1 in process {process.pid}" in shown.scrolled + shown.shown
        assert shown.shown.endswith("that may be watched")
        assert not shown.screen.cursor.hidden


def test_ctrl_c_ends_it_and_not_the_program(tmp_path: Path) -> None:
    with program(tmp_path) as process, terminal("-m", "hybridexec", "top") as shown:
        shown.wait_for("5 running")
        shown.interrupt()
        assert shown.end() == 0
        assert "5 running" in shown.shown
        assert "Traceback" not in shown.shown
        assert process.poll() is None


@pytest.mark.slow
def test_once_is_text_with_and_without_rich(tmp_path: Path) -> None:
    with program(tmp_path) as process:
        for options in (["--once"], []):  # into a pipe, it is once anyway
            done = hybridexec("top", *options)
            assert (done.returncode, done.stderr) == (0, "")
            assert f"HybridExecutor 1 in process {process.pid}: running" in done.stdout
            assert "0 finished, 1 failed; 5 running, 0 queued" in done.stdout
        with terminal("-m", "hybridexec", "top", "--once") as shown:
            assert shown.end() == 0
            assert "5 running" in shown.shown
        code = "import sys; sys.modules['rich'] = None; from hybridexec import cli; cli.main()"
        for arguments, found in ((["--once"], "5 running"), ([], "pip install 'hybridexec[rich]'")):
            with terminal("-c", code, "top", *arguments) as shown:
                shown.end()
                assert found in shown.shown.replace("\n", "")


def test_json_is_for_programs(tmp_path: Path) -> None:
    with program(tmp_path) as process:
        done = hybridexec("top", "--json", process.pid)
    told = json.loads(done.stdout)
    assert told["pid"] == process.pid
    (view,) = told["executors"]
    assert view["stats"]["running"] == 5
    assert view["failures"][0]["error"] == "builtins.OSError"
    assert "program.py" in view["program"]


@pytest.mark.slow
def test_several_programs_are_listed(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    with program(tmp_path) as one, program(tmp_path / "other") as other:
        done = hybridexec("top")
        assert done.returncode == 1
        assert "name one by its PID" in done.stderr
        assert str(one.pid) in done.stderr
        assert str(other.pid) in done.stderr
        assert hybridexec("top", one.pid).returncode == 0


@pytest.mark.slow
def test_who_does_not_allow_it_is_not_shown(tmp_path: Path) -> None:
    done = hybridexec("top")
    assert (done.returncode, done.stdout) == (1, "")
    assert "HYBRIDEXEC_MONITOR=1" in done.stderr
    with program(tmp_path, "0") as process:
        assert "does not let its executors be watched" in hybridexec("top", process.pid).stderr
    assert "there is no process" in hybridexec("top", 2**22 + 7).stderr
    assert hybridexec("top", "--every", 0).returncode == 2

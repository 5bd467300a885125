"""executor.live(): in a terminal, in a notebook, and where there is neither."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from terminal import terminal

START = """
import logging, os, sys, threading, time
from multiprocessing import get_context
from pathlib import Path
from hybridexec import HybridExecutor

def wait(path):
    while not os.path.exists(path):
        time.sleep(0.01)

def fail(n):
    raise OSError(f"no such host: {n}")

if __name__ == "__main__":
    gate, method = sys.argv[1:3]
    logging.basicConfig(format="logged: %(message)s")
    print("stdout is", sys.stdout.isatty())
"""
PROGRAM = f"""{START}
    with HybridExecutor(2, get_context(method), concurrency=3) as executor:
        with executor.options().live():
            calls = [executor.submit(wait, gate) for _ in range(5)]
            [executor.submit(fail, n).exception() for n in range(3)]
            print("printed in between")
            logging.warning("in between")
            for call in calls:
                call.result()
        print("not in the picture")
        logging.warning("not there")
        print("threads:", [t.name for t in threading.enumerate() if "live" in t.name])
"""


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    return tmp_path / "gate"


def program(folder: Path, text: str) -> Path:
    path = folder / "program.py"
    path.write_text(text)
    return path


@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_it_is_drawn_in_place_below_what_is_printed(
    tmp_path: Path, gate: Path, method: str
) -> None:
    with terminal(program(tmp_path, PROGRAM), gate, method) as shown:
        shown.wait_for(
            "printed in between\nlogged: in between\nHybridExecutor in process",
            "5 running",
            "3 ×  OSError at program.py:12 in fail: no such host: 2",
            "███████",
            "wait('",
        )
        assert shown.screen.cursor.hidden
        gate.touch()
        assert shown.end() == 0
        # The last state stays, and is there once.
        assert shown.shown.count("HybridExecutor in process") == 1
        assert "5 finished, 3 failed; 0 running, 0 queued" in shown.shown
        assert shown.shown.endswith("not in the picture\nlogged: not there\nthreads: []")
        assert not shown.screen.cursor.hidden


def test_what_goes_into_a_pipe_stays_there(tmp_path: Path, gate: Path) -> None:
    ours, theirs = os.pipe()
    with terminal(program(tmp_path, PROGRAM), gate, "forkserver", stdout=theirs) as shown:
        os.close(theirs)
        shown.wait_for("5 running")
        gate.touch()
        assert shown.end() == 0
        assert "printed" not in shown.shown
    with open(ours) as pipe:
        assert pipe.read().splitlines() == [
            "stdout is False",
            "printed in between",
            "not in the picture",
            "threads: []",
        ]


INTERRUPTED = f"""{START}
    with HybridExecutor(1, get_context(method)) as executor, executor.live():
        executor.submit(wait, gate).result()
"""


def test_ctrl_c_leaves_the_terminal_as_it_was(tmp_path: Path, gate: Path) -> None:
    with terminal(program(tmp_path, INTERRUPTED), gate, "forkserver") as shown:
        shown.wait_for("1 running")
        shown.interrupt()
        assert shown.end() != 0
        assert shown.shown.endswith("KeyboardInterrupt")
        assert shown.shown.count("HybridExecutor in process") == 1
        assert not shown.screen.cursor.hidden


def test_a_terminal_that_is_too_low(tmp_path: Path, gate: Path) -> None:
    with terminal(program(tmp_path, PROGRAM), gate, "forkserver", rows=8, columns=40) as shown:
        shown.wait_for("HybridExecutor in process")
        shown.wait_for(lambda: "logged: in between" in shown.scrolled + shown.shown)
        gate.touch()
        assert shown.end() == 0
        assert shown.shown.endswith("not in the picture\nlogged: not there\nthreads: []")


PIPED = f"""{START}
    from hybridexec.watching import screens
    screens.Lines.seconds = 0.05
    with HybridExecutor(1, get_context(method)) as executor, executor.live():
        executor.submit(wait, gate).result()
"""


def test_without_a_terminal_there_is_a_line_now_and_then(tmp_path: Path, gate: Path) -> None:
    command = [sys.executable, str(program(tmp_path, PIPED)), str(gate), "forkserver"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        while b" 1 running" not in (line := process.stderr.readline()):
            assert line.startswith(b"hybridexec: ")
        gate.touch()
        *_, last = process.stderr.read().decode().splitlines()
    assert last.startswith("hybridexec: 1 finished, 0 failed, 0 running, 0 queued; ")
    assert process.returncode == 0


PATCHED = f"""from gevent import monkey
monkey.patch_all()
{PROGRAM}"""


def test_in_a_process_that_gevent_has_patched(tmp_path: Path, gate: Path) -> None:
    with terminal(program(tmp_path, PATCHED), gate, "forkserver") as shown:
        shown.wait_for("5 running")
        gate.touch()
        assert shown.end() == 0
        assert "5 finished, 3 failed; 0 running" in shown.shown


MISSING = """
import sys
sys.modules["rich"] = None
from hybridexec import HybridExecutor
try:
    HybridExecutor().live()
except ImportError as error:
    print(error)
"""


def test_without_rich_the_error_names_what_to_install(tmp_path: Path) -> None:
    command = [sys.executable, str(program(tmp_path, MISSING))]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == (
        "executor.live() needs rich, which is not installed: pip install 'hybridexec[rich]'\n"
    )

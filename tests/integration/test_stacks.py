"""hybridexec stacks: where the calls of a running program are, whatever keeps its workers."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PROGRAM = """
import os, re, sys, time
from multiprocessing import get_context
from hybridexec import HybridExecutor

def wait(n):
    arrived(n)
    inner()

def inner():
    time.sleep(600)

def hog():
    arrived("hog")
    while True:
        sum(range(1000))

def keep_the_gil():
    arrived("gil")
    re.match(r"(a+)+$", "a" * 60 + "b")

def arrived(name):
    open(os.path.join(os.environ["GATE"], str(name)), "w").close()

if __name__ == "__main__":
    executor = HybridExecutor(1, get_context(sys.argv[2]), monitor=True)
    [executor.submit(wait, n) for n in range(20)]
    while len(os.listdir(sys.argv[1])) < 20:
        time.sleep(0.01)
    if len(sys.argv) > 3:
        executor.submit(globals()[sys.argv[3]])
        while len(os.listdir(sys.argv[1])) < 21:
            time.sleep(0.01)
    print("ready", flush=True)
    sys.stdin.readline()
    executor.kill_workers()
"""


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "run").mkdir(mode=0o700)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))


@contextmanager
def program(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A program with twenty calls that wait, and perhaps one that does worse."""
    path, gate = folder / "program.py", folder / "gate"
    path.write_text(PROGRAM)
    gate.mkdir()
    with subprocess.Popen(
        [sys.executable, str(path), str(gate), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "GATE": str(gate)},
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        try:
            yield process
        finally:
            process.stdin.close()
            assert process.wait(60) == 0


def stacks(*arguments: object) -> str:
    command = [sys.executable, "-m", "hybridexec", "stacks", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def has_answered(told: dict[str, Any]) -> bool:
    return not told["no_answer"]


def worker(pid: int, is_it: Callable[[dict[str, Any]], object] = has_answered) -> dict[str, Any]:
    """What is told of the worker. A busy machine may keep it from answering: it is asked again."""
    for _ in range(20):
        (executor,) = json.loads(stacks("--json", pid))["executors"]
        (told,) = executor["workers"]
        assert isinstance(told, dict)
        if is_it(told):
            break
    return told


def answer(*arguments: object) -> str:
    """The same as text, once it has answered."""
    for _ in range(20):
        text = stacks(*arguments)
        if "no answer" not in text:
            break
    return text


@pytest.mark.parametrize(
    "method", ["forkserver", pytest.param("spawn", marks=pytest.mark.slow), "fork"]
)
def test_calls_that_wait_are_told_by_where_they_do(tmp_path: Path, method: str) -> None:
    with program(tmp_path, method) as process:
        told = worker(process.pid, lambda told: [g["count"] for g in told["groups"]] == [20])
        text = answer()
    assert (told["kept_by"], told["no_answer"], told["more"]) == (None, "", 0)
    (group,) = told["groups"]
    assert group["count"] == 20
    assert len(group["calls"]) == 5
    assert all(call["call"].startswith("wait(") for call in group["calls"])
    assert [frame["function"] for frame in group["stack"]][:2] == ["wait", "inner"]
    assert group["stack"][1]["source"] == "time.sleep(600)"
    assert f"worker {told['pid']} (ready)\n  wait(" in text
    assert "  and 15 more at the same place\n" in text
    assert f'    File "{tmp_path}/program.py", line 11, in inner\n      time.sleep(600)\n' in text


def test_a_call_that_keeps_the_hub_and_those_that_wait(tmp_path: Path) -> None:
    with program(tmp_path, "forkserver", "hog") as process:
        told = worker(process.pid)
        text = answer(process.pid)
    assert (told["kept_by"], told["no_answer"]) == ("hog()", "")
    hog, waiting = told["groups"]
    assert [frame["function"] for frame in hog["stack"]] == ["hog"]
    assert (hog["count"], waiting["count"]) == (1, 20)
    assert "its hub is kept by hog()" in text


@pytest.mark.slow
def test_a_call_that_keeps_the_gil_is_seen_by_faulthandler(tmp_path: Path) -> None:
    with program(tmp_path, "forkserver", "keep_the_gil") as process:
        told = worker(process.pid, lambda told: told["dump"])
        text = stacks(process.pid)
    assert told["groups"] == []
    assert told["no_answer"]
    assert told["running"][0]["call"] == "keep_the_gil()"
    assert told["more"] == 11
    assert "in keep_the_gil" in told["dump"]
    assert "as faulthandler sees it" in text


@pytest.mark.slow
def test_a_process_that_is_stopped_has_no_stacks_to_show(tmp_path: Path) -> None:
    with program(tmp_path, "forkserver") as process:
        pid = worker(process.pid)["pid"]
        os.kill(pid, signal.SIGSTOP)
        try:
            told = worker(process.pid, lambda told: told["no_answer"])
        finally:
            os.kill(pid, signal.SIGCONT)
        assert (told["no_answer"], told["dump"]) == ("the process is stopped", "")
        assert worker(process.pid)["groups"][0]["count"] == 20, "it answers again"

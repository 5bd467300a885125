"""What the contract tests share: gates made of files, waiting with a deadline, scripts."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hybridexec

#: Seconds after which something that should have happened has not.
PATIENCE = 30.0


def wait_until(condition: Callable[[], Any], what: str = "", patience: float = PATIENCE) -> Any:
    """Return ``condition()`` as soon as it is true; fail the test if it never is."""
    deadline = time.monotonic() + patience
    while not (value := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"did not happen in {patience} s: {what or condition}")
        time.sleep(0.01)
    return value


class Gate:
    """Something calls in workers wait at, on any start method, until the test opens it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)

    def __repr__(self) -> str:
        return "a gate"

    def open(self) -> None:
        (self.folder / "open").touch()

    @property
    def arrived(self) -> list[str]:
        """What the calls said that have arrived so far, in no particular order."""
        return [name.removeprefix("at-") for name in os.listdir(self.folder) if name != "open"]

    def wait_for(self, count: int) -> None:
        wait_until(lambda: len(self.arrived) >= count, f"{count} calls at the gate")

    # -- in workers ---------------------------------------------------------------------------

    def arrive(self, name: object) -> None:
        (self.folder / f"at-{name}").touch()

    def is_open(self) -> bool:
        return (self.folder / "open").exists()

    def wait(self, name: object) -> object:
        """Arrive, wait as a blocking call does, and return ``name``."""
        self.arrive(name)
        wait_until(self.is_open, "the gate opens")
        return name

    def hog(self, name: object) -> object:
        """Arrive, keep the CPU without ever letting another greenlet run, and return ``name``."""
        self.arrive(name)
        deadline = time.monotonic() + PATIENCE
        while not self.is_open():
            assert time.monotonic() < deadline, "the gate opens"
        return name


def identity(value: Any) -> Any:
    return value


def square(value: int) -> int:
    return value * value


def leave(code: int) -> None:
    """``os._exit``, which is replaced by what cannot be sent where coverage is measured."""
    os._exit(code)


def pid_of(_: object = None) -> int:
    return os.getpid()


def pids(executor: hybridexec.HybridExecutor) -> set[int]:
    """The executor's worker processes, wherever they are."""
    return {worker.pid for worker in executor.stats().workers if worker.pid is not None}


def nap(seconds: float) -> tuple[float, float]:
    """Sleep; return when that began and when it ended."""
    began = time.monotonic()
    time.sleep(seconds)
    return began, time.monotonic()


def is_alive(pid: int) -> bool:
    """Whether a process runs: a zombie that nobody has waited for does not."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def run_script(
    path: Path, text: str, *arguments: object, patience: float = 60, check: bool = True
) -> subprocess.CompletedProcess[str]:
    """Run ``text`` as a script of its own."""
    with start_script(path, text, *arguments) as process:
        try:
            out, err = process.communicate(timeout=patience)
        except subprocess.TimeoutExpired:
            process.kill()
            raise AssertionError(
                f"the script hangs; it wrote: {process.communicate()[1]}"
            ) from None
    if check:
        assert process.returncode == 0, err
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


def start_script(path: Path, text: str, *arguments: object) -> subprocess.Popen[str]:
    """Start ``text`` as a script of its own, with pipes for its output."""
    path.write_text(text)
    home = str(Path(hybridexec.__file__).parent.parent)
    return subprocess.Popen(
        [sys.executable, str(path), *map(str, arguments)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": home},
    )


def overlap(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return max(first[0], second[0]) < min(first[1], second[1])


def use_gevent(n: int) -> int:
    import gevent

    def wait_and_return(k: int) -> int:
        gevent.sleep(0.01)
        return k

    gevent.sleep(0.01)
    children = [gevent.spawn(wait_and_return, k) for k in range(n)]
    gevent.joinall(children, raise_error=True)
    return sum(child.get() for child in children)


def fail_on(bad: int, value: int) -> int:
    if value == bad:
        raise ValueError(f"{value} is bad")
    return value

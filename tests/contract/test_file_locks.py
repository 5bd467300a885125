"""Locks of files: calls that wait for one let the others go on, and have it one after another."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import filelock
import gevent
import portalocker
import pytest

from .conftest import Make
from .helpers import Gate, wait_until

pytestmark = pytest.mark.slow_on("spawn", "fork")

Use = Callable[[Path], Any]


class Held:
    """A lock of a file that was opened for it, by whatever function takes it."""

    def __init__(self, path: Path, take: Callable[[int], None]) -> None:
        self.path, self.take = path, take

    def __enter__(self) -> int:
        self.fd = os.open(self.path, os.O_RDWR | os.O_CREAT)
        self.take(self.fd)
        return self.fd

    def __exit__(self, *error: object) -> None:
        os.close(self.fd)


def by_flock(path: Path) -> Any:
    return Held(path, lambda fd: fcntl.flock(fd, fcntl.LOCK_EX))


def by_lockf(path: Path) -> Any:
    return Held(path, lambda fd: fcntl.lockf(fd, fcntl.LOCK_EX))


def by_os_lockf(path: Path) -> Any:
    return Held(path, lambda fd: os.lockf(fd, os.F_LOCK, 0))


def by_filelock(path: Path) -> Any:
    return filelock.FileLock(path)


def by_portalocker(path: Path) -> Any:
    return portalocker.Lock(path, "a", flags=portalocker.LOCK_EX)


USES: list[Use] = [by_flock, by_lockf, by_os_lockf, by_filelock, by_portalocker]


def increase(use: Use, folder: Path) -> None:
    """What loses updates if two do it at once."""
    counter = folder / "counter"
    with use(folder / "lock"):
        value = int(counter.read_text())
        time.sleep(0.005)
        counter.write_text(str(value + 1))


@pytest.mark.parametrize("use", USES)
def test_calls_exclude_each_other(make_each: Make, method: str, tmp_path: Path, use: Use) -> None:
    if method == "fork" and use in (by_filelock, by_portalocker):
        pytest.skip("imported before patching, they have what is not patched")
    (tmp_path / "counter").write_text("0")
    executor = make_each(max_workers=2)
    list(executor.map(increase, [use] * 40, [tmp_path] * 40, timeout=60))
    assert (tmp_path / "counter").read_text() == "40"


def hold(use: Use, path: Path, gate: Gate) -> None:
    with use(path):
        gate.wait("holder")


def take(use: Use, path: Path) -> str:
    with use(path):
        return "taken"


@pytest.mark.parametrize("use", USES)
def test_a_stopped_waiter_takes_nothing(make: Make, tmp_path: Path, gate: Gate, use: Use) -> None:
    executor = make(max_workers=1)
    holder = executor.submit(hold, use, tmp_path / "lock", gate)
    gate.wait_for(1)
    stopped = executor.options(timeout=0.2).submit(take, use, tmp_path / "lock")
    assert stopped.exception(timeout=30) is not None
    waiter = executor.submit(take, use, tmp_path / "lock")
    assert executor.submit(os.getpid).result(timeout=30)
    assert not waiter.done()
    gate.open()
    holder.result(timeout=30)
    assert waiter.result(timeout=30) == "taken"


HOLDER = """
import fcntl, os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT)
getattr(fcntl, sys.argv[2])(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("name", ["flock", "lockf"])
def test_other_programs_exclude_them(make: Make, tmp_path: Path, name: str) -> None:
    use = {"flock": by_flock, "lockf": by_lockf}[name]
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path / "lock"), name],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        executor = make(max_workers=1)
        waiter = executor.submit(take, use, tmp_path / "lock")
        assert executor.submit(time.sleep, 0.1).result(timeout=30) is None
        assert not waiter.done()
        holder.stdin.close()
        assert waiter.result(timeout=30) == "taken"


def convert(path: Path) -> list[str]:
    """Shared locks of two files, then both want more."""
    said = []
    files = [os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2)]
    for fd in files:
        fcntl.lockf(fd, fcntl.LOCK_SH)
    with pytest.raises(BlockingIOError):
        fcntl.lockf(files[0], fcntl.LOCK_EX | fcntl.LOCK_NB)
    waiter = gevent.spawn(fcntl.lockf, files[0], fcntl.LOCK_EX)
    time.sleep(0.05)
    said.append("waits" if not waiter.dead else "got it")
    fcntl.lockf(files[1], fcntl.LOCK_UN)
    waiter.get(timeout=30)
    with pytest.raises(OSError, match=r"ermission|unavailable"):
        os.lockf(files[1], os.F_TEST, 0)
    os.lockf(files[0], os.F_ULOCK, 0)
    os.lockf(files[1], os.F_TEST, 0)
    for fd in files:
        os.close(fd)
    return said


def ranges(path: Path) -> str:
    one, other = (os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2))
    fcntl.lockf(one, fcntl.LOCK_EX, 10, 0)
    fcntl.lockf(other, fcntl.LOCK_EX, 10, 10)
    with pytest.raises(BlockingIOError):
        fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 9)
    copy = os.dup(one)
    os.close(one)
    os.close(os.open(path, os.O_RDWR))  # which would undo a process's locks
    with pytest.raises(BlockingIOError):
        fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 9)
    os.close(copy)
    fcntl.lockf(other, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 9)
    os.close(other)
    return "exclude each other"


def mistakes(path: Path) -> list[str]:
    fd = os.open(path, os.O_RDONLY | os.O_CREAT)
    said = []
    for function, arguments in (
        (fcntl.flock, (fd, 0)),
        (fcntl.flock, (999, fcntl.LOCK_EX)),
        (fcntl.lockf, (999, fcntl.LOCK_EX)),
        (fcntl.lockf, (fd, fcntl.LOCK_EX)),
        (fcntl.lockf, (fd, 0)),
        (fcntl.lockf, (fd, fcntl.LOCK_SH, 1, -1)),
        (os.lockf, (fd, 99, 0)),
    ):
        with pytest.raises(Exception) as caught:  # noqa: PT011  # compared below
            function(*arguments)
        said.append(f"{type(caught.value).__name__}: {caught.value}")
    os.close(fd)
    return said


def closed_meanwhile(path: Path) -> str:
    holder, fd = (os.open(path, os.O_RDWR | os.O_CREAT) for _ in range(2))
    fcntl.flock(holder, fcntl.LOCK_EX)
    waiter = gevent.spawn(fcntl.flock, fd, fcntl.LOCK_EX)
    time.sleep(0.05)
    other = os.open(path.with_name("other"), os.O_RDWR | os.O_CREAT)
    os.dup2(other, fd)  # closes it; its number is another file's at once
    with pytest.raises(OSError, match="Bad file descriptor"):
        waiter.get(timeout=30)
    for each in (other, fd, holder):
        os.close(each)
    return "bad"


def in_native_threads(path: Path) -> str:
    """They wait by themselves."""
    pool = gevent.get_hub().threadpool
    fd = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.lockf(fd, fcntl.LOCK_EX)
    waiter = pool.spawn(take, by_lockf, path)
    other = pool.spawn(take, by_flock, path)
    assert other.get(timeout=30) == "taken"
    assert not waiter.ready()
    os.close(fd)
    return waiter.get(timeout=30)


@pytest.mark.parametrize(
    ("function", "result"),
    [
        (convert, ["waits"]),
        (ranges, "exclude each other"),
        (closed_meanwhile, "bad"),
        (in_native_threads, "taken"),
    ],
)
def test_they_are_what_they_were(
    make: Make, tmp_path: Path, function: Callable[[Path], object], result: object
) -> None:
    executor = make(max_workers=1)
    assert executor.submit(function, tmp_path / "file").result(timeout=60) == result


def test_mistakes_are_told_as_ever(make: Make, tmp_path: Path) -> None:
    executor = make(max_workers=1)
    said = executor.submit(mistakes, tmp_path / "file").result(timeout=60)
    assert said == mistakes(tmp_path / "file")


def loaded() -> list[str]:
    return [name for name in sys.modules if name.endswith(("worker.filelocks", "worker.sqlite"))]


@pytest.mark.unmeasured("coverage uses sqlite3, which is mended then")
def test_nothing_is_loaded_for_them_at_the_start(make: Make) -> None:
    # (A forked worker loads what mends the modules that its parent has.)
    assert make(max_workers=1).submit(loaded).result(timeout=30) == []


def test_many_wait_at_once(make: Make, tmp_path: Path, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=300)
    holder = executor.submit(hold, by_lockf, tmp_path / "lock", gate)
    gate.wait_for(1)
    waiters = [executor.submit(take, by_lockf, tmp_path / "lock") for _ in range(200)]
    wait_until(lambda: all(waiter.running() for waiter in waiters), "they wait")
    gate.open()
    holder.result(timeout=30)
    assert {waiter.result(timeout=60) for waiter in waiters} == {"taken"}

"""Calls in the thread lane: each in a native thread, many at once though they wait in C."""

from __future__ import annotations

import contextvars
import ctypes
import hashlib
import os
import sqlite3
import sys
import threading
import time
import traceback
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from .conftest import Make
from .helpers import Gate, identity, nap, pid_of, square, wait_until

pytestmark = pytest.mark.on_cluster

VARIABLE = contextvars.ContextVar("VARIABLE", default="unset")
here = threading.local()


def wait_in_c(microseconds: int) -> tuple[int, float, float]:
    """Wait in a C function that knows nothing of Python: the process, the beginning and the end."""
    began = time.monotonic()
    ctypes.CDLL(None).usleep(microseconds)
    return os.getpid(), began, time.monotonic()


def read_from(fifo: Path, gate: Gate, n: int) -> int:
    """Wait in a system call until somebody writes a byte."""
    fd = os.open(fifo, os.O_RDWR)
    gate.arrive(n)
    try:
        return os.read(fd, 1)[0]
    finally:
        os.close(fd)


def thread_of(gate: Gate, n: int) -> tuple[int, str, bool, bool]:
    gate.wait(n)
    me = threading.current_thread()
    return me.ident or 0, me.name, me.daemon, me is threading.main_thread()


def peak(calls: list[tuple[Any, ...]]) -> int:
    """How many of these, which say last when they began and ended, ran at once at most."""
    steps = sorted([(c[-2], 1) for c in calls] + [(c[-1], -1) for c in calls])
    most = now = 0
    for _, step in steps:
        now += step
        most = max(most, now)
    return most


def loaded() -> set[str]:
    return {"gevent", "greenlet"}.intersection(sys.modules)


def test_nothing_is_patched_and_gevent_is_not_there(make_threads: Make) -> None:
    executor = make_threads(max_workers=1)
    assert executor.submit(loaded).result() == set()


@pytest.mark.slow
def test_calls_that_wait_in_c_all_wait_at_once(make_threads: Make) -> None:
    executor = make_threads(max_workers=2, threads=64)
    assert set(executor.map(identity, range(100))) == set(range(100))  # they have started
    calls = list(executor.map(wait_in_c, [4_000_000] * 128))
    assert peak(calls) == 128
    assert len({pid for pid, _, _ in calls}) == 2


def test_calls_that_read_in_a_system_call_all_wait_at_once(
    make_threads: Make, gate: Gate, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    executor = make_threads(max_workers=1, threads=30)
    futures = [executor.submit(read_from, fifo, gate, n) for n in range(30)]
    gate.wait_for(30)
    with open(fifo, "wb", buffering=0) as file:
        file.write(bytes(range(30)))
        assert sorted(future.result(30) for future in futures) == [*range(30)]


def test_no_more_calls_run_than_there_are_slots(make_threads: Make) -> None:
    executor = make_threads(max_workers=1, threads=3)
    calls = list(executor.map(nap, [0.02] * 30))
    assert peak(calls) == 3
    assert len(set(executor.map(thread_number, range(50)))) <= 3


def thread_number(_: int) -> int:
    time.sleep(0.001)
    return threading.get_ident()


def test_each_call_that_runs_has_a_thread_of_its_own(make_threads: Make, gate: Gate) -> None:
    executor = make_threads(max_workers=1, threads=8)
    futures = [executor.submit(thread_of, gate, n) for n in range(8)]
    gate.wait_for(8)
    gate.open()
    idents, names, daemons, mains = zip(*[f.result(30) for f in futures], strict=True)
    assert len(set(idents)) == len(set(names)) == 8
    assert set(daemons) == {True}
    assert set(mains) == {False}


def test_short_calls_share_a_thread_and_it_is_kept(make_threads: Make) -> None:
    executor = make_threads(max_workers=1)
    threads = [executor.submit(threading.get_ident).result() for _ in range(60)]
    assert len(set(threads)) < 6  # one, unless the machine has much else to do


def test_short_calls_do_not_wait_behind_one_that_waits(make_threads: Make, gate: Gate) -> None:
    executor = make_threads(max_workers=1, threads=2)
    waits = executor.submit(gate.wait, "a")
    gate.wait_for(1)
    assert list(executor.map(square, range(5000), timeout=30)) == [n * n for n in range(5000)]
    gate.open()
    assert waits.result(30) == "a"


def test_a_result_leaves_while_others_compute_and_wait(make_threads: Make, gate: Gate) -> None:
    executor = make_threads(max_workers=1, threads=4)
    neighbours = [executor.submit(gate.hog, "hog"), executor.submit(gate.wait, "waits")]
    gate.wait_for(2)
    # One frame: the first calls end, and then their thread is kept.
    several = [executor.submit(square, n) for n in range(20)]
    last = executor.submit(gate.wait, "last")
    assert [future.result(30) for future in several] == [n * n for n in range(20)]
    gate.open()
    assert [f.result(30) for f in (*neighbours, last)] == ["hog", "waits", "last"]


def count_here() -> int:
    here.calls = getattr(here, "calls", 0) + 1
    return int(here.calls)


def test_what_is_stored_for_a_thread_is_found_there_again(make_threads: Make) -> None:
    executor = make_threads(max_workers=1, threads=1)
    assert [executor.submit(count_here).result() for _ in range(3)] == [1, 2, 3]


def set_up(value: str) -> None:
    VARIABLE.set(value)
    here.initializer = threading.current_thread() is threading.main_thread()
    os.environ["INITIALIZED"] = os.environ.get("INITIALIZED", "") + value


def see(n: int) -> tuple[str, str, bool]:
    seen = VARIABLE.get()
    VARIABLE.set(f"of {n}")
    return seen, os.environ["INITIALIZED"], hasattr(here, "initializer")


def test_the_initializer_runs_once_and_its_context_is_every_calls(make_threads: Make) -> None:
    executor = make_threads(max_workers=1, initializer=set_up, initargs=("x",))
    assert list(executor.map(see, range(300))) == [("x", "x", False)] * 300


def test_blocking_libraries_run_side_by_side(make_threads: Make, tmp_path: Path) -> None:
    executor = make_threads(max_workers=1, threads=4)
    work: list[tuple[Callable[..., Any], tuple[Any, ...]]] = [
        (hash_and_pack, (b"x" * 2_000_000,)),
        (write_rows, (str(tmp_path / "a.db"), 200)),
        (copy, (tmp_path / "file", 500_000)),
    ]
    futures = [executor.submit(f, *arguments) for f, arguments in work * 4]
    assert [future.result(60) for future in futures] == [f(*a) for f, a in work] * 4


def hash_and_pack(data: bytes) -> tuple[str, bytes]:
    return hashlib.sha256(data).hexdigest(), zlib.compress(data)


def write_rows(path: str, rows: int) -> int:
    with sqlite3.connect(path, timeout=30) as database:
        database.execute("CREATE TABLE IF NOT EXISTS t (n INTEGER)")
        database.executemany("INSERT INTO t VALUES (?)", [(n,) for n in range(rows)])
    database.close()
    return rows


def copy(path: Path, size: int) -> int:
    own = path.with_suffix(f".{threading.get_ident()}")
    own.write_bytes(bytes(size))
    return len(own.read_bytes())


# -- how calls end --------------------------------------------------------------------------------


def fail(kind: str) -> None:
    raise {"ValueError": ValueError, "SystemExit": SystemExit, "Kbd": KeyboardInterrupt}[kind](kind)


@pytest.mark.parametrize(
    ("kind", "error"),
    [("ValueError", ValueError), ("SystemExit", SystemExit), ("Kbd", KeyboardInterrupt)],
)
def test_whatever_a_call_raises_ends_that_call_only(
    make_threads: Make, kind: str, error: type[BaseException]
) -> None:
    executor = make_threads(max_workers=1)
    pid = executor.submit(pid_of).result()
    futures = [executor.submit(fail, kind), executor.submit(square, 3)]
    with pytest.raises(error) as caught:
        futures[0].result(30)
    text = "".join(traceback.format_exception(caught.value))
    assert "in fail" in text
    assert "_run" not in text.partition("in fail")[2]
    assert futures[1].result(30) == 9
    assert executor.submit(pid_of).result() == pid


class CannotBePickled:
    def __reduce__(self) -> Any:
        raise TypeError("not me")


class CannotBeUnpickled:
    def __reduce__(self) -> Any:
        return fail, ("ValueError",)


def test_what_cannot_be_pickled_fails_its_call(make_threads: Make) -> None:
    executor = make_threads(max_workers=1)
    with pytest.raises(TypeError, match="not me"):
        executor.submit(CannotBePickled).result(30)
    with pytest.raises(ValueError, match="arguments"):
        executor.submit(identity, CannotBeUnpickled()).result(30)
    assert executor.submit(square, 3).result(30) == 9


def flaky(gate: Gate, n: int) -> int:
    attempt = len([name for name in gate.arrived if name.startswith(f"{n}-")])
    gate.arrive(f"{n}-{attempt}")
    if attempt < 2:
        raise ConnectionError("again")
    return attempt


def test_calls_are_retried(make_threads: Make, gate: Gate) -> None:
    executor = make_threads(max_workers=1)
    retried = executor.options(retries=3, retry_on=ConnectionError, backoff=0)
    assert [f.result(30) for f in [retried.submit(flaky, gate, n) for n in range(5)]] == [2] * 5
    with pytest.raises(ZeroDivisionError):
        retried.submit(divmod, 1, 0).result(30)


def test_data_of_all_kinds_comes_and_goes(make_threads: Make) -> None:
    executor = make_threads(max_workers=1)
    values = [{"n": n, "text": str(n), "list": [n, n / 2]} for n in range(3000)]
    assert list(executor.map(identity, values)) == values
    mixed: list[Any] = [1, "a", None, (1, 2), b"x" * 100_000, {"a": 1}, [1], {3}, 1.5] * 50
    assert list(executor.map(identity, mixed)) == mixed
    assert executor.submit(dict, {"a": 1}, b=2).result() == {"a": 1, "b": 2}


def test_many_threads_lose_no_call_and_mix_up_none(make_threads: Make) -> None:
    executor = make_threads(max_workers=2, threads=16)
    expected = [n * n for n in range(20_000)]
    assert list(executor.map(now_and_then, range(20_000))) == expected
    stats = executor.stats()
    assert (stats.finished, stats.failed, stats.running) == (20_000, 0, 0)


def now_and_then(n: int) -> int:
    """Most are short; some wait, so that many threads are at it."""
    if n % 100 == 0:
        time.sleep(0.002)
    return n * n


def test_stats_count_what_ran(make_threads: Make) -> None:
    executor = make_threads(max_workers=1, threads=4)
    list(executor.map(nap, [0.05] * 8))
    # A runner counts when it takes the next call, or rests.
    wait_until(lambda: executor.stats().run_seconds.count == 8)
    stats = executor.stats()
    assert stats.finished == 8
    assert 0.04 < stats.run_seconds.p50 < 1.0
    wait_until(lambda: executor.stats().workers[0].rss)

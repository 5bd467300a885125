"""A Pool as a whole: how it is made, what it is doing, and how it ends."""

from __future__ import annotations

import gc
import multiprocessing
import os
import pickle
import warnings
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError
from pathlib import Path
from typing import Any

import pytest

import hybridexec
from hybridexec import ExecutorBroken, HybridExecutor, Pool

from .conftest import METHODS
from .helpers import Gate, fail_on, is_alive, pid_of, run_script, square, wait_until
from .pools import MakePool, pools

pytestmark = pytest.mark.slow_on("spawn", "fork")


@pytest.fixture
def make_pool() -> Iterator[MakePool]:
    with pools(None) as make:
        yield make


@pytest.fixture(params=METHODS)
def make_each(request: pytest.FixtureRequest) -> Iterator[MakePool]:
    with pools(request.param) as make:
        yield make


def note_pid(folder: Path) -> None:
    (folder / str(os.getpid())).touch()


def hog(gate: Gate) -> None:
    gate.arrive(os.getpid())
    while True:
        pass


# -- how it is made ---------------------------------------------------------------------------


def test_it_is_a_multiprocessing_pool_to_who_asks(make_pool: MakePool) -> None:
    assert isinstance(make_pool(), multiprocessing.pool.Pool)
    assert hybridexec.Pool is Pool


def test_every_worker_is_started_and_initialized(make_each: MakePool, tmp_path: Path) -> None:
    pool = make_each(2, note_pid, (tmp_path,))
    wait_until(lambda: len(os.listdir(tmp_path)) == 2)
    assert {str(process.pid) for process in pool._pool} == set(os.listdir(tmp_path))
    assert pool._processes == 2


def test_a_worker_is_replaced_after_so_many_calls(make_pool: MakePool) -> None:
    pool = make_pool(1, maxtasksperchild=2)
    assert len(set(pool.map(pid_of, range(6), chunksize=6))) == 3


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"processes": 0}, ValueError, "Number of processes must be at least 1"),
        ({"processes": -1}, ValueError, "Number of processes must be at least 1"),
        ({"processes": "2"}, TypeError, "processes must be an integer, not str"),
        ({"processes": 10**6}, ValueError, "processes must be at most"),
        ({"initializer": 1}, TypeError, "initializer must be a callable"),
        ({"initargs": 1}, TypeError, "initargs must be a tuple"),
        ({"maxtasksperchild": 0}, ValueError, "maxtasksperchild must be a positive int or None"),
        ({"maxtasksperchild": 0.5}, ValueError, "maxtasksperchild must be a positive int or None"),
        ({"maxtasksperchild": "1"}, ValueError, "maxtasksperchild must be a positive int or None"),
        (
            {"maxtasksperchild": 1, "context": multiprocessing.get_context("fork")},
            ValueError,
            "maxtasksperchild is incompatible with the 'fork' start method",
        ),
        ({"context": "spawn"}, TypeError, "context must be a multiprocessing context"),
        ({"concurrency": 0}, ValueError, "concurrency must be greater than 0"),
        ({"max_workers": 2}, TypeError, "no argument 'max_workers'; it is called 'processes'"),
        ({"proceses": 2}, TypeError, "proceses"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        Pool(**arguments)


def test_bad_calls(make_pool: MakePool) -> None:
    pool: Any = make_pool()
    for call, error in (
        (lambda: pool.map(square, [1], 0), ValueError),
        (lambda: pool.imap(square, [1], -1), ValueError),
        (lambda: pool.imap(square, [1], buffersize=0), ValueError),
        (lambda: pool.imap(square, [1], "1"), TypeError),
        (lambda: pool.map(square, 5), TypeError),
        (lambda: next(pool.imap(square, 5)), TypeError),
        (lambda: pool.apply(square, 5), TypeError),
        (lambda: pool.apply("square"), TypeError),
        (lambda: pool.map("square", [1]), TypeError),
    ):
        with pytest.raises(error):
            call()
    assert pool.apply(square, (2,)) == 4


def test_what_is_left_of_a_pool_that_cannot_be_made(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError("no processes")

    gc.collect()
    before = set(multiprocessing.active_children())  # other tests' may be about to end
    alive = []
    monkeypatch.setattr(HybridExecutor, "_launch_processes", refuse)
    monkeypatch.setattr(HybridExecutor, "__init__", _noting(alive))
    with pytest.raises(OSError, match="no processes"):
        Pool(2)
    gc.collect()
    assert [ref() for ref in alive] == [None]
    assert set(multiprocessing.active_children()) <= before


def _noting(alive: list[Any]) -> Any:
    init = HybridExecutor.__init__

    def noting(self: HybridExecutor, *arguments: Any, **named: Any) -> None:
        alive.append(weakref.ref(self))
        init(self, *arguments, **named)

    return noting


def test_an_initializer_that_fails_fails_all_calls(make_pool: MakePool) -> None:
    pool = make_pool(1, fail_on, (1, 1))
    with pytest.raises(ExecutorBroken):
        pool.map(square, [1, 2])
    with pytest.raises(ExecutorBroken):
        pool.apply(square, (2,))
    pool.close()
    pool.join()


def test_what_cannot_be_pickled(make_pool: MakePool) -> None:
    with pytest.raises(NotImplementedError, match="cannot be passed between processes or pickled"):
        pickle.dumps(make_pool())


# -- what it is doing -------------------------------------------------------------------------


def test_how_many_are_busy_and_idle(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool(2, concurrency=2)
    assert (pool.busy, pool.idle) == (0, 4)
    first = pool.apply_async(gate.wait, ("first",))
    assert (pool.busy, pool.idle) == (1, 3), "it counts at once"
    rest = pool.map_async(gate.wait, range(2))
    assert (pool.busy, pool.idle) == (3, 1)
    more = pool.map_async(gate.wait, range(2, 10))
    assert (pool.busy, pool.idle) == (4, 0)
    gate.open()
    for result in (first, rest, more):
        result.wait(30)
    assert (pool.busy, pool.idle) == (0, 4)
    pool.close()
    assert pool.idle == 0


def test_the_executor_is_there_for_all_else(make_pool: MakePool) -> None:
    pool = make_pool(1)
    assert isinstance(pool.executor, HybridExecutor)
    assert pool.executor.submit(square, 3).result() == 9
    assert pool.executor.stats().finished == 1


def test_how_it_looks(make_pool: MakePool) -> None:
    pool = make_pool(2)
    assert repr(pool) == "<hybridexec.pool.Pool state=RUN pool_size=2>"
    pool.close()
    assert "state=CLOSE" in repr(pool)
    pool.terminate()
    assert "state=TERMINATE" in repr(pool)


# -- how it ends ------------------------------------------------------------------------------


def test_a_closed_pool_finishes_what_there_is(make_each: MakePool) -> None:
    pool = make_each()
    results = pool.imap(square, (n for n in range(50)))
    result = pool.map_async(square, range(50))
    processes = pool._pool
    pool.close()
    pool.close()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.apply(square, (1,))
    with pytest.raises(ValueError, match="Pool not running"):
        pool.imap(square, [1])
    pool.join()
    assert result.ready()
    assert list(results) == result.get() == [n * n for n in range(50)]
    assert not [process for process in processes if process.is_alive()]


def test_who_joins_a_running_pool_is_told_to_close_it(make_pool: MakePool) -> None:
    with pytest.raises(ValueError, match=r"Pool is still running: close\(\)"):
        make_pool().join()


def test_a_terminated_pool_drops_what_there_is(make_each: MakePool, gate: Gate) -> None:
    told: list[Any] = []
    pool = make_each()
    first = pool.apply_async(hog, (gate,), callback=told.append, error_callback=told.append)
    rest = pool.map_async(gate.wait, range(10), error_callback=told.append)
    gate.wait_for(2)
    later = pool.imap(gate.wait, iter(range(10)))
    processes = pool._pool
    pool.terminate()
    for get in (first.get, rest.get, later.next):
        with pytest.raises(CancelledError):
            get()
    with pytest.raises(ValueError, match="Pool not running"):
        pool.map(square, [1])
    pool.join()
    assert not [process for process in processes if process.is_alive()]
    pool.terminate()
    assert told == []
    assert pool.busy == pool.idle == 0


def test_an_iterable_that_waits_keeps_no_pool_from_ending(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool()

    def items() -> Iterator[int]:
        yield 1
        wait_until(gate.is_open)
        yield 2

    results = pool.imap(square, items())
    assert next(results) == 1
    pool.terminate()
    pool.join()
    with pytest.raises(CancelledError):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_the_end_of_a_block_terminates(make_pool: MakePool, gate: Gate) -> None:
    with make_pool() as pool:
        assert pool.map(square, range(3)) == [0, 1, 4]
        late = pool.apply_async(gate.wait, ("late",))
    with pytest.raises(CancelledError):
        late.get()
    with pytest.raises(ValueError, match="Pool not running"), pool:
        pass


def test_a_pool_that_is_forgotten_while_it_runs_warns_and_ends() -> None:
    pool = Pool(1)
    pids = [process.pid for process in pool._pool]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del pool
        gc.collect()
    (text,) = [str(each.message) for each in caught if each.category is ResourceWarning]
    assert "unclosed running multiprocessing pool" in text
    caught.clear()  # a warning keeps the pool
    wait_until(lambda: not any(map(is_alive, pids)))


def test_a_result_to_come_keeps_its_pool(gate: Gate) -> None:
    pool = Pool(1)
    result = pool.apply_async(gate.wait, ("here",))
    kept = weakref.ref(pool)
    del pool
    gc.collect()
    assert kept() is not None
    gate.open()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        assert result.get(30) == "here"
        caught.clear()
        assert kept() is None


AT_EXIT = """
import multiprocessing, os, sys, threading, time

from hybridexec import Pool


def forever(path):
    open(path, "w").close()
    time.sleep(1000)


def work(pool):
    time.sleep(0.2)
    print("from a thread:", pool.map(abs, [-1, -2]))


if __name__ == "__main__":
    pool = Pool(2, context=multiprocessing.get_context(sys.argv[1]))
    pool.apply_async(forever, (sys.argv[2],))
    while not os.path.exists(sys.argv[2]):
        time.sleep(0.01)
    threading.Thread(target=work, args=(pool,)).start()
    print("done")
"""


@pytest.mark.parametrize("method", METHODS)
def test_the_interpreter_waits_for_threads_and_terminates_pools(
    method: str, tmp_path: Path
) -> None:
    done = run_script(tmp_path / "script.py", AT_EXIT, method, tmp_path / "began")
    assert sorted(done.stdout.splitlines()) == ["done", "from a thread: [1, 2]"]
    assert not done.stderr


IN_A_WORKER = """
import sys

from hybridexec import Pool

before = "multiprocessing.pool" in sys.modules


def work(_):
    import multiprocessing.pool

    with Pool(1) as inner:
        is_one = isinstance(inner, multiprocessing.pool.Pool)
        return before, is_one, inner.map(abs, [-1])


if __name__ == "__main__":
    with Pool(1) as pool:
        print(pool.map(work, [1]))
"""


def test_a_worker_that_imports_the_class_starts_no_slower(tmp_path: Path) -> None:
    done = run_script(tmp_path / "script.py", IN_A_WORKER)
    assert done.stdout == "[(False, True, [1])]\n"


CHILD = """
import multiprocessing, time

from hybridexec import Pool


def work():
    with Pool(1) as pool:
        print(pool.map(abs, [-1, -2]), flush=True)
    pool = Pool(1)
    print(pool.apply(abs, (-3,)), flush=True)
    pool.apply_async(time.sleep, (1000,))


if __name__ == "__main__":
    process = multiprocessing.get_context("spawn").Process(target=work)
    process.start()
    process.join()
    print(process.exitcode)
"""


def test_a_child_process_may_have_a_pool_and_ends_with_it(tmp_path: Path) -> None:
    done = run_script(tmp_path / "script.py", CHILD)
    assert done.stdout.splitlines() == ["[1, 2]", "3", "0"]

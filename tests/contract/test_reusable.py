"""The process's executor: kept, resized, replaced, and ended."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Any

import pytest

from hybridexec import HybridExecutor, WorkerLost, get_reusable_executor

from .helpers import Gate, identity, is_alive, leave, pid_of, run_script, square, wait_until

_greeting = ""


def greet(words: str) -> None:
    global _greeting
    _greeting = words


def greeting() -> str:
    return _greeting


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    """No executor is left of a test, nor has one before it begins."""
    get_reusable_executor(reuse=True).shutdown()
    yield
    get_reusable_executor(reuse=True).shutdown()


def test_the_same_arguments_give_the_same_executor() -> None:
    one = get_reusable_executor(2, concurrency=3, initializer=greet, initargs=("hello",))
    assert isinstance(one, HybridExecutor)
    assert (
        get_reusable_executor(2, None, 10, concurrency=3, initializer=greet, initargs=("hello",))
        is one
    )
    assert (
        get_reusable_executor(
            2, idle_timeout=10, concurrency=3, initializer=greet, initargs=("hello",)
        )
        is one
    )


@pytest.mark.parametrize(
    "others",
    [
        {"concurrency": 4},
        {"timeout": 11},
        {"idle_timeout": None},
        {"context": "spawn"},
        {"initializer": greet, "initargs": ("hello",)},
        {"on_worker_loss": "retry"},
    ],
)
def test_others_replace_it(others: dict[str, Any]) -> None:
    one = get_reusable_executor(2)
    other = get_reusable_executor(2, **others)
    assert other is not one
    with pytest.raises(RuntimeError, match="after shutdown"):
        one.submit(identity, 1)
    assert get_reusable_executor(2, **others) is other


def test_reuse_says_whether_it_is_kept() -> None:
    one = get_reusable_executor(2, concurrency=3)
    assert get_reusable_executor(concurrency=4, reuse=True) is one
    assert one._max_workers == 2
    assert get_reusable_executor(2, concurrency=3, reuse=False) is not one
    with pytest.raises(ValueError, match="reuse must be"):
        get_reusable_executor(reuse="maybe")  # type: ignore[arg-type]


def test_another_number_of_workers_resizes_it(tmp_path: Path) -> None:
    one = get_reusable_executor(1, concurrency=1)
    gate, other = Gate(tmp_path / "one"), Gate(tmp_path / "other")
    running = [one.submit(gate.wait, 0)]
    gate.wait_for(1)
    assert get_reusable_executor(2, concurrency=1) is one
    running.append(one.submit(gate.wait, 1))
    gate.wait_for(2)  # both run
    assert get_reusable_executor(1, concurrency=1) is one  # without waiting for them
    gate.open()
    assert [future.result(timeout=30) for future in running] == [0, 1]
    wait_until(lambda: len(one.stats().workers) == 1)
    running = [one.submit(other.wait, number) for number in range(2)]
    other.wait_for(1)
    assert one.stats().queued == 1
    other.open()
    assert [future.result(timeout=30) for future in running] == [0, 1]
    assert one.stats().restarts == 0


def test_one_that_is_replaced_finishes_its_calls(gate: Gate) -> None:
    one = get_reusable_executor(1)
    running = one.submit(gate.wait, 1)
    gate.wait_for(1)
    waiting = [one.submit(square, number) for number in range(3)]
    other = get_reusable_executor(1, concurrency=7)
    assert other.submit(square, 3).result(timeout=30) == 9
    assert not running.done()
    gate.open()
    assert running.result(timeout=30) == 1
    assert [future.result(timeout=30) for future in waiting] == [0, 1, 4]
    wait_until(lambda: not one.stats().workers)


def test_with_kill_workers_it_does_not(gate: Gate) -> None:
    one = get_reusable_executor(1)
    running = one.submit(gate.wait, 1)
    gate.wait_for(1)
    get_reusable_executor(1, concurrency=7, kill_workers=True)
    with pytest.raises(WorkerLost):
        running.result(timeout=30)


def test_a_broken_one_is_replaced_and_one_that_was_shut_down() -> None:
    one = get_reusable_executor(1, initializer=leave, initargs=(3,))
    with pytest.raises(BrokenProcessPool):
        one.submit(identity, 1).result(timeout=60)
    two = get_reusable_executor(1, initializer=leave, initargs=(3,))
    assert two is not one
    with two:
        pass
    assert get_reusable_executor(1, initializer=leave, initargs=(3,)) is not two


def test_its_workers_end_and_come_again() -> None:
    executor = get_reusable_executor(1, timeout=0.1)
    first = executor.submit(pid_of).result(timeout=30)
    wait_until(lambda: not is_alive(first))
    assert get_reusable_executor(1, timeout=0.1).submit(pid_of).result(timeout=30) != first


def test_all_threads_get_the_same() -> None:
    got: list[HybridExecutor] = []
    begin = threading.Barrier(8)

    def ask() -> None:
        begin.wait()
        got.append(get_reusable_executor(2))

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 8
    assert len(set(map(id, got))) == 1


def test_a_callback_may_replace_it() -> None:
    executor = get_reusable_executor(1)
    got: Future[int] = Future()

    def replace(future: Future[int]) -> None:
        other = get_reusable_executor(1, concurrency=2)
        other.submit(square, 5).add_done_callback(lambda done: got.set_result(done.result()))

    executor.submit(identity, 1).add_done_callback(replace)
    assert got.result(timeout=30) == 25


@pytest.mark.parametrize(
    ("wrong", "name"),
    [
        ({"max_workers": 0}, "max_workers"),
        ({"timeout": -1}, "idle_timeout"),
        ({"context": "teleport"}, "teleport"),
        ({"job_reducers": {}}, "job_reducers"),
    ],
)
def test_its_arguments_are_checked_even_if_it_is_kept(wrong: dict[str, Any], name: str) -> None:
    get_reusable_executor(1)
    with pytest.raises((TypeError, ValueError), match=name):
        get_reusable_executor(**{"reuse": True, **wrong})


EXIT = """
import os, sys
from hybridexec import get_reusable_executor

def child():
    return get_reusable_executor(1).submit(os.getpid).result(timeout=30)

if __name__ == "__main__":
    executor = get_reusable_executor(1)
    mine = executor.submit(os.getpid).result(timeout=30)
    pid = os.fork()
    if pid == 0:
        other = child()
        print("child", other != mine, get_reusable_executor(1) is not executor, other, flush=True)
        sys.exit()
    os.waitpid(pid, 0)
    print("parent", executor.submit(os.getpid).result(timeout=30) == mine, mine, flush=True)
"""


def test_a_fork_has_its_own_and_all_end_at_exit(tmp_path: Path) -> None:
    done = run_script(tmp_path / "script.py", EXIT)
    (_, *child, other), (_, *parent, mine) = (line.split() for line in done.stdout.splitlines())
    assert child == ["True", "True"]
    assert parent == ["True"]
    wait_until(lambda: not is_alive(int(other)) and not is_alive(int(mine)))

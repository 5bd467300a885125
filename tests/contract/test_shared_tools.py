"""multiprocessing's tools, shared by many greenlets of two workers."""

from __future__ import annotations

import multiprocessing
import time
from concurrent.futures import Future
from multiprocessing.managers import BaseProxy
from typing import Any

import pytest

from hybridexec import HybridExecutor

from .conftest import METHODS, Make, make_executor
from .helpers import PATIENCE, Gate

pytestmark = pytest.mark.slow_on("spawn", "fork")


CALLS = 24


class Tools:
    """One of each, inherited by the workers of one executor through ``initargs``."""

    def __init__(self, method: str | None) -> None:
        self.method = method
        # Without an executor's context they are of the default one, whatever that is.
        context = multiprocessing.get_context(method)
        self.Lock = context.Lock()
        self.RLock = context.RLock()
        self.Semaphore = context.Semaphore(3)
        self.BoundedSemaphore = context.BoundedSemaphore(3)
        self.Event = context.Event()
        self.Condition = context.Condition()
        self.Barrier = context.Barrier(CALLS)
        self.Queue = context.Queue()
        self.JoinableQueue = context.JoinableQueue()
        self.SimpleQueue = context.SimpleQueue()
        self.counts = context.Array("i", 8, lock=False)


_tools: Tools


def keep_tools(tools: Tools) -> None:
    global _tools
    _tools = tools


@pytest.fixture(scope="module", params=METHODS)
def tools(request: pytest.FixtureRequest) -> Any:
    return Tools(request.param)


@pytest.fixture(scope="module")
def equipped(tools: Tools) -> Any:
    """An executor whose workers have the tools."""
    with make_executor(
        tools.method, concurrency=CALLS, initializer=keep_tools, initargs=(tools,)
    ) as executor:
        yield executor
    for queue in (tools.Queue, tools.JoinableQueue):
        queue.close()
        queue.join_thread()
    tools.SimpleQueue.close()


def add_under(kind: str, place: int, again: bool) -> None:
    lock = getattr(_tools, kind)
    with lock:
        seen = _tools.counts[place]
        time.sleep(0.001)
        if again:
            with lock:
                time.sleep(0.001)
        _tools.counts[place] = seen + 1


def count_inside(kind: str, place: int) -> int:
    with getattr(_tools, kind):
        with _tools.Lock:
            _tools.counts[place] += 1
            seen = _tools.counts[place]
        time.sleep(0.005)
        with _tools.Lock:
            _tools.counts[place] -= 1
    return seen


def put(kind: str, n: int) -> None:
    getattr(_tools, kind).put((n, b"x" * 10_000))


def get(kind: str) -> int:
    return getattr(_tools, kind).get(timeout=PATIENCE)


def try_lock() -> tuple[bool, bool]:
    return _tools.Lock.acquire(block=False), _tools.Lock.acquire(timeout=0.05)


def wait_for_event(gate: Gate, n: int) -> bool:
    gate.arrive(n)
    return _tools.Event.wait(PATIENCE)


def wait_for_turn(n: int) -> bool:
    with _tools.Condition:
        there = _tools.Condition.wait_for(lambda: _tools.counts[4] == n, PATIENCE)
        _tools.counts[4] += 1
        _tools.Condition.notify_all()
        return there


def meet(_: int) -> int:
    return _tools.Barrier.wait(PATIENCE)


def results(calls: list[Future[Any]]) -> list[Any]:
    return [call.result(timeout=60) for call in calls]


@pytest.mark.parametrize(("kind", "place", "again"), [("Lock", 0, False), ("RLock", 1, True)])
def test_a_lock_excludes_greenlets_and_workers(
    equipped: HybridExecutor, tools: Tools, kind: str, place: int, again: bool
) -> None:
    results([equipped.submit(add_under, kind, place, again) for _ in range(CALLS)])
    assert tools.counts[place] == CALLS


def test_a_lock_held_elsewhere_is_not_got_and_waits_end(
    equipped: HybridExecutor, tools: Tools
) -> None:
    with tools.Lock:
        assert equipped.submit(try_lock).result(timeout=30) == (False, False)


@pytest.mark.parametrize(("kind", "place"), [("Semaphore", 2), ("BoundedSemaphore", 3)])
def test_a_semaphore_lets_in_as_many_as_it_says(
    equipped: HybridExecutor, kind: str, place: int
) -> None:
    calls = [equipped.submit(count_inside, kind, place) for _ in range(CALLS)]
    assert 1 <= max(results(calls)) <= 3


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue", "SimpleQueue"])
def test_a_queue_takes_from_many_greenlets(
    equipped: HybridExecutor, tools: Tools, kind: str
) -> None:
    calls = [equipped.submit(put, kind, n) for n in range(CALLS)]
    queue = getattr(tools, kind)
    assert sorted(queue.get()[0] for _ in range(CALLS)) == list(range(CALLS))
    results(calls)


@pytest.mark.parametrize("kind", ["Queue", "JoinableQueue"])
def test_a_queue_gives_to_many_greenlets(equipped: HybridExecutor, tools: Tools, kind: str) -> None:
    calls = [equipped.submit(get, kind) for _ in range(CALLS)]
    for n in range(CALLS):
        getattr(tools, kind).put(n)
    assert sorted(results(calls)) == list(range(CALLS))


def test_an_event_wakes_all_that_wait(equipped: HybridExecutor, tools: Tools, gate: Gate) -> None:
    calls = [equipped.submit(wait_for_event, gate, n) for n in range(CALLS)]
    gate.wait_for(CALLS)
    assert not any(call.done() for call in calls)
    tools.Event.set()
    assert all(results(calls))


def test_a_condition_hands_on_the_turn(equipped: HybridExecutor) -> None:
    assert all(results([equipped.submit(wait_for_turn, n) for n in range(8)]))


def test_a_barrier_gathers_greenlets_of_both_workers(equipped: HybridExecutor) -> None:
    calls = [equipped.submit(meet, n) for n in range(CALLS)]
    assert sorted(results(calls)) == list(range(CALLS))


def use_proxies(numbers: Any, counts: Any, queue: Any, lock: Any, n: int) -> None:
    numbers.append(n)
    with lock:
        seen = counts["n"]
        time.sleep(0.001)
        counts["n"] = seen + 1
    queue.put(n)


def test_a_proxy_that_outlives_its_manager_keeps_no_worker_from_starting(
    make_each: Make,
) -> None:
    context = multiprocessing.get_context("spawn")
    with context.Manager() as gone:
        outlived = gone.list()
    with context.Manager() as manager:
        numbers = manager.list()
        make_each(max_workers=1).submit(numbers.append, 3).result(timeout=60)
        assert list(numbers) == [3]
    assert isinstance(outlived, BaseProxy)


def test_manager_proxies_serve_many_greenlets_at_once(executor: HybridExecutor) -> None:
    with multiprocessing.get_context("spawn").Manager() as manager:
        numbers, queue, lock = manager.list(), manager.Queue(), manager.Lock()
        counts = manager.dict(n=0)
        calls = [
            executor.submit(use_proxies, numbers, counts, queue, lock, n) for n in range(CALLS)
        ]
        for call in calls:
            call.result(timeout=60)
        assert sorted(numbers) == list(range(CALLS))
        assert counts["n"] == CALLS
        assert sorted(queue.get(timeout=10) for _ in range(CALLS)) == list(range(CALLS))

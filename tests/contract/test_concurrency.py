"""Many calls in one worker: they overlap, keep apart what is theirs, and share what they should."""

from __future__ import annotations

import asyncio
import contextvars
import itertools
import multiprocessing
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import gevent
import pytest

from hybridexec import HybridExecutor, native

from .conftest import METHODS, Make, make_executor
from .helpers import PATIENCE, Gate, nap, pid_of, square, wait_until

pytestmark = pytest.mark.slow_on("spawn", "fork")

# -- where calls run ------------------------------------------------------------------------------


def overlap(first: tuple[float, float], second: tuple[float, float]) -> bool:
    return max(first[0], second[0]) < min(first[1], second[1])


def sleep_on(gate: Gate) -> int:
    """Sleep for a second, again and again, until the gate is open."""
    deadline = time.monotonic() + PATIENCE
    while not gate.is_open() and time.monotonic() < deadline:
        time.sleep(1)
    return os.getpid()


def wait_and_tell_pid(gate: Gate, n: int) -> int:
    gate.wait(n)
    return os.getpid()


def hog_and_tell_pid(gate: Gate, n: int) -> int:
    gate.hog(n)
    return os.getpid()


@pytest.mark.parametrize("call", [wait_and_tell_pid, hog_and_tell_pid])
def test_n_blocking_calls_land_on_n_workers(
    make_each: Make, gate: Gate, call: Callable[[Gate, int], int]
) -> None:
    executor = make_each(max_workers=3)
    futures = [executor.submit(call, gate, n) for n in range(3)]
    # Were two hogs on one worker, the second would not get here before the first is done.
    gate.wait_for(3)
    gate.open()
    assert len({future.result(timeout=30) for future in futures}) == 3


def test_idle_workers_get_the_next_n_calls_too(make: Make, gate: Gate) -> None:
    executor = make(max_workers=2)
    list(executor.map(square, range(100)))
    futures = [executor.submit(hog_and_tell_pid, gate, n) for n in range(2)]
    gate.wait_for(2)
    gate.open()
    assert len({future.result(timeout=30) for future in futures}) == 2


def test_two_thousand_sleeping_calls_are_all_in_flight_at_once(make: Make, gate: Gate) -> None:
    executor = make(max_workers=2, concurrency=1_000)
    futures = [executor.submit(sleep_on, gate) for _ in range(2_000)]
    wait_until(lambda: executor.stats().running == 2_000, "2,000 calls in flight")
    gate.open()
    pids = [future.result(timeout=60) for future in futures]
    assert sorted(pids.count(pid) for pid in set(pids)) == [1_000, 1_000]


def test_no_more_calls_than_slots_run_at_once(make: Make, gate: Gate) -> None:
    executor = make(max_workers=2, concurrency=5)
    futures = [executor.submit(gate.wait, n) for n in range(30)]
    gate.wait_for(10)
    wait_until(lambda: executor.stats().queued == 20)
    assert len(gate.arrived) == executor.stats().running == 10
    gate.open()
    assert [future.result(timeout=30) for future in futures] == list(range(30))


def test_with_concurrency_one_calls_of_a_worker_never_overlap(make_each: Make) -> None:
    executor = make_each(max_workers=1, concurrency=1)
    spans = list(executor.map(nap, [0.02] * 6))
    assert not any(overlap(*pair) for pair in itertools.pairwise(spans))
    assert spans == sorted(spans)


def test_calls_of_one_worker_overlap_on_every_start_method(make_each: Make, gate: Gate) -> None:
    executor = make_each(max_workers=1)
    futures = [executor.submit(gate.wait, n) for n in range(50)]
    gate.wait_for(50)
    gate.open()
    assert [future.result(timeout=30) for future in futures] == list(range(50))


def test_a_result_leaves_while_the_next_call_hogs_the_cpu(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=1)
    results = executor.map(hog_if_second, [gate] * 2, range(2))
    assert next(results) == 0
    gate.wait_for(1)
    assert not gate.is_open()
    gate.open()
    assert next(results) == 1


def hog_if_second(gate: Gate, n: int) -> int:
    if n:
        gate.hog(n)
    return n


@pytest.mark.parametrize("concurrency", [1, 100])
def test_calls_stuck_behind_a_cpu_hog_run_on_the_idle_worker(
    make: Make, gate: Gate, concurrency: int
) -> None:
    executor = make(max_workers=2, concurrency=concurrency)
    list(executor.map(time.sleep, [0.05] * 4))  # both workers are there
    hog = executor.submit(gate.hog, "hog")
    others = [executor.submit(square, n) for n in range(200)]
    assert [future.result(timeout=30) for future in others] == [n * n for n in range(200)]
    assert not hog.done()
    gate.open()
    assert hog.result(timeout=30) == "hog"


def test_items_of_a_map_stuck_behind_a_cpu_hog_run_on_the_idle_worker(
    make: Make, gate: Gate
) -> None:
    executor = make(max_workers=2)
    results = executor.map_unordered(hog_if_tenth, [gate] * 500, range(500), buffersize=500)
    assert sum(next(results) for _ in range(499)) == sum(range(500)) - 10
    gate.open()
    assert next(results) == 10


def hog_if_tenth(gate: Gate, n: int) -> int:
    if n == 10:
        gate.hog(n)
    return n


# -- gevent and asyncio inside calls --------------------------------------------------------------


def use_gevent(n: int) -> int:
    import gevent

    gevent.sleep(0.01)
    children = [gevent.spawn(lambda k: (gevent.sleep(0.01), k)[1], k) for k in range(n)]
    gevent.joinall(children, raise_error=True)
    return sum(child.value for child in children)


def use_threads(n: int) -> int:
    found: list[int] = []
    threads = [threading.Thread(target=found.append, args=(k,)) for k in range(n)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sum(found)


def use_thread_pool(n: int) -> int:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(square, range(n)))


def run_asyncio(gate: Gate, n: int) -> int:
    async def main() -> int:
        await asyncio.sleep(0)
        gate.arrive(n)
        for _ in range(3_000):
            if gate.is_open():
                break
            await asyncio.sleep(0.01)
        return sum(await asyncio.gather(*(coroutine(k) for k in range(n))))

    async def coroutine(k: int) -> int:
        await asyncio.sleep(0.001)
        return k

    return asyncio.run(main())


class BlockingClient:
    """What libraries do that offer a blocking face of asyncio: a loop of their own, kept."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()

    def get(self, n: int) -> int:
        async def answer() -> int:
            await asyncio.sleep(0.01)
            return n

        return self.loop.run_until_complete(answer())

    def close(self) -> None:
        self.loop.close()


class LoopInAThread(BlockingClient):
    """The same with the loop in a thread, shared by all callers."""

    def __init__(self) -> None:
        super().__init__()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def get(self, n: int) -> int:
        async def answer() -> int:
            await asyncio.sleep(0.01)
            return n

        return asyncio.run_coroutine_threadsafe(answer(), self.loop).result(PATIENCE)

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(PATIENCE)
        super().close()


_shared: list[LoopInAThread] = []


def use_own_client(n: int) -> list[int]:
    client = BlockingClient()
    try:
        return [client.get(n), client.get(-n)]
    finally:
        client.close()


def use_shared_client(n: int) -> int:
    if not _shared:
        _shared.append(LoopInAThread())
    return _shared[0].get(n)


def test_gevent_works_inside_calls(executor: HybridExecutor) -> None:
    assert list(executor.map(use_gevent, [3] * 20)) == [3] * 20


@pytest.mark.parametrize("call", [use_threads, use_thread_pool])
def test_threads_work_inside_calls(executor: HybridExecutor, call: Callable[[int], int]) -> None:
    assert list(executor.map(call, [5] * 10)) == [call(5)] * 10


@pytest.fixture(params=[None, "spawn"], ids=["default", "spawn"])
def one_worker(request: pytest.FixtureRequest) -> Any:
    # Not fork: there asyncio may have been imported before there was a worker.
    with make_executor(request.param, max_workers=1) as made:
        yield made


def test_asyncio_run_works_in_several_calls_of_a_worker_at_once(
    one_worker: HybridExecutor, gate: Gate
) -> None:
    futures = [one_worker.submit(run_asyncio, gate, n) for n in range(10)]
    gate.wait_for(10)
    gate.open()
    results = [future.result(timeout=30) for future in futures]
    assert results == [sum(range(n)) for n in range(10)]


def test_libraries_that_keep_a_loop_work_in_many_calls_at_once(
    one_worker: HybridExecutor,
) -> None:
    assert list(one_worker.map(use_own_client, range(20))) == [[n, -n] for n in range(20)]
    assert list(one_worker.map(use_shared_client, range(20))) == list(range(20))


# -- what is kept apart ---------------------------------------------------------------------------

_local = threading.local()
_variable: contextvars.ContextVar[str] = contextvars.ContextVar("_variable", default="unset")


def count_locally() -> int:
    _local.count = getattr(_local, "count", 0) + 1
    return _local.count


def keep_local_while_waiting(gate: Gate, n: int) -> int:
    _local.mine = n
    gate.wait(n)
    return _local.mine


def set_variable(value: str) -> None:
    _variable.set(value)


def swap_variable(value: str) -> str:
    before = _variable.get()
    _variable.set(value)
    return before


def keep_variable_while_waiting(gate: Gate, n: int) -> str:
    _variable.set(str(n))
    gate.wait(n)
    return _variable.get()


def test_a_runner_keeps_its_thread_locals(make: Make) -> None:
    executor = make(max_workers=1, concurrency=1)
    assert [executor.submit(count_locally).result() for _ in range(3)] == [1, 2, 3]


def test_calls_that_overlap_have_thread_locals_of_their_own(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    futures = [executor.submit(keep_local_while_waiting, gate, n) for n in range(10)]
    gate.wait_for(10)
    gate.open()
    assert [future.result(timeout=30) for future in futures] == list(range(10))


def test_each_call_starts_from_the_initializers_context(make_each: Make) -> None:
    executor = make_each(
        max_workers=1, concurrency=1, initializer=set_variable, initargs=("initial",)
    )
    calls = [executor.submit(swap_variable, str(n)) for n in range(4)]
    assert [call.result(timeout=30) for call in calls] == ["initial"] * 4


def test_calls_that_overlap_have_contexts_of_their_own(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    futures = [executor.submit(keep_variable_while_waiting, gate, n) for n in range(10)]
    gate.wait_for(10)
    gate.open()
    assert [future.result(timeout=30) for future in futures] == [str(n) for n in range(10)]


# -- multiprocessing's tools, shared by many greenlets of two workers ------------------------------

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


# -- monkey_patch ---------------------------------------------------------------------------------


def patched_modules(_: int = 0) -> list[str]:
    from gevent import monkey

    return [name for name in ("time", "socket", "threading") if monkey.is_module_patched(name)]


def test_everything_is_patched_by_default(executor: HybridExecutor) -> None:
    assert executor.submit(patched_modules).result() == ["time", "socket", "threading"]


def test_monkey_patch_false_patches_nothing_and_calls_still_run(make_each: Make) -> None:
    executor = make_each(max_workers=1, monkey_patch=False)
    assert executor.submit(patched_modules).result(timeout=30) == []
    # An unpatched sleep keeps the whole worker waiting.
    first, second = executor.map(nap, [0.05, 0.05])
    assert not overlap(first, second)


def test_without_patching_gevents_own_calls_cooperate(make: Make) -> None:
    executor = make(max_workers=1, monkey_patch=False)
    assert list(executor.map(use_gevent, [4] * 5)) == [6] * 5


def test_a_mapping_gives_patch_alls_switches(make_each: Make) -> None:
    executor = make_each(max_workers=1, monkey_patch={"socket": False, "thread": False})
    assert executor.submit(patched_modules).result(timeout=30) == ["time"]


def test_pids_are_the_workers(executor: HybridExecutor) -> None:
    assert executor.submit(pid_of).result() in executor._processes


def thread_of(_: object = None) -> int:
    """The system's thread."""
    ident: int = native.original("_thread", "get_ident")()
    return ident


class TellsItsEnd:
    """A function that says, when it goes, on which thread that is."""

    def __init__(self, ends: Gate) -> None:
        self.ends = ends
        self.called = False

    def __call__(self, n: int) -> int:
        self.called = True
        return n

    def __del__(self) -> None:
        if self.called:
            self.ends.arrive(thread_of())


def test_functions_go_on_the_main_thread_also_while_a_call_keeps_it(
    make: Make, gate: Gate, tmp_path: Path
) -> None:
    executor = make(max_workers=1, concurrency=5)
    main = executor.submit(thread_of).result(timeout=30)
    first, ends = Gate(tmp_path / "first"), Gate(tmp_path / "ends")
    executor.submit(first.hog, "hog")
    first.wait_for(1)
    # All of this arrives at once, so that the hub does not get to see that the map is over.
    results = executor.map(TellsItsEnd(ends), range(3))
    hog = executor.submit(gate.hog, "hog")
    first.open()
    assert list(results) == [0, 1, 2]
    gate.wait_for(1)
    other = executor.submit(nap, 0)
    wait_until(lambda: executor.stats().pending == 0)
    assert other.cancel()  # which the helper thread hears of, and reads all there is
    nap(0.1)
    gate.open()
    hog.result(timeout=30)
    ends.wait_for(1)
    assert ends.arrived == [str(main)]


def kill_own_greenlet(n: int) -> int:
    """What kills it arrives when the call is over: it hits who runs the calls."""
    if n % 5 == 0:
        gevent.getcurrent().kill(block=False)
    end = time.monotonic() + 0.012
    while time.monotonic() < end:
        pass
    return n


@pytest.mark.parametrize("concurrency", [1, 3])
def test_who_runs_the_calls_is_replaced_if_it_is_killed(make: Make, concurrency: int) -> None:
    executor = make(max_workers=1, concurrency=concurrency)
    assert list(executor.map(kill_own_greenlet, range(40), timeout=60)) == list(range(40))

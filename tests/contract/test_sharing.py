"""multiprocessing's locks and queues: calls that are stopped, threads, forks, many at once."""

from __future__ import annotations

import array
import contextlib
import fcntl
import multiprocessing
import multiprocessing.util
import os
import random
import struct
import termios
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, wait
from queue import Empty
from typing import Any

import pytest

from hybridexec import CallTimeout, HybridExecutor, native

from .conftest import METHODS, Make, make_executor
from .helpers import PATIENCE, Gate, wait_until

pytestmark = pytest.mark.slow_on("spawn", "fork")


_tools: Any


def keep_tools(tools: Any) -> None:
    global _tools
    _tools = tools


def keep_patiently(tools: Any) -> None:
    """As ``keep_tools``, where the rest of a message may be late."""
    from hybridexec.worker.greenlets import connections

    connections._PATIENCE = PATIENCE
    keep_tools(tools)


def unread(end: Any) -> int:
    """How many bytes are there that nobody has read."""
    count = array.array("i", [0])
    fcntl.ioctl(end.fileno(), termios.FIONREAD, count)
    return count[0]


class Tools:
    """One of each that calls of two workers fight for."""

    def __init__(self, method: str) -> None:
        context = multiprocessing.get_context(method)
        self.method = method
        self.Lock = context.Lock()
        self.RLock = context.RLock()
        self.Semaphore = context.BoundedSemaphore(3)
        self.Condition = context.Condition()
        self.Queue = context.Queue(20)
        self.JoinableQueue = context.JoinableQueue(10)
        self.SimpleQueue = context.SimpleQueue()
        self.counts = context.Array("i", 4, lock=False)
        self.value = context.Value("i", 0)


@pytest.fixture(params=METHODS)
def tools(request: pytest.FixtureRequest) -> Tools:
    return Tools(request.param)


@pytest.fixture
def equipped(tools: Tools) -> Iterator[HybridExecutor]:
    with make_executor(
        tools.method,
        concurrency=150,
        timeout_grace=PATIENCE,
        initializer=keep_patiently,
        initargs=(tools,),
    ) as executor:
        yield executor


# -- calls that are stopped -----------------------------------------------------------------------


def exclude(kind: str, place: int) -> None:
    lock = getattr(_tools, kind)
    for _ in range(10):
        with lock:
            _tools.counts[place] += 1
            seen = _tools.counts[place]
            time.sleep(random.random() / 1000)
            assert _tools.counts[place] == seen


def share() -> None:
    for _ in range(10):
        with _tools.Semaphore:
            time.sleep(random.random() / 1000)


def wait_or_notify() -> None:
    for _ in range(10):
        with _tools.Condition:
            if random.random() < 0.6:
                _tools.Condition.wait(random.random() / 100)
            else:
                _tools.Condition.notify(random.choice([1, 2, 100]))


def put(kind: str) -> None:
    for n in range(10):
        getattr(_tools, kind).put((n, b"x" * random.choice([10, 10_000])))


def get(kind: str) -> None:
    for _ in range(10):
        with contextlib.suppress(Empty):
            _, data = getattr(_tools, kind).get(timeout=random.random() / 20)
            assert data == b"x" * len(data)


def drain(kind: str) -> None:
    with contextlib.suppress(Empty):
        while True:
            getattr(_tools, kind).get(timeout=0.5)


CALLS: list[tuple[Callable[..., None], tuple[Any, ...]]] = [
    (exclude, ("Lock", 0)),
    (exclude, ("RLock", 1)),
    (share, ()),
    (wait_or_notify, ()),
    *((call, (kind,)) for call in (put, get) for kind in ("Queue", "JoinableQueue")),
]


@pytest.mark.slow
def test_calls_that_are_stopped_at_any_moment_leave_everything_whole(
    equipped: HybridExecutor, tools: Tools
) -> None:
    chance = random.Random(7)
    futures: list[Future[None]] = []
    for _ in range(600):
        call, arguments = chance.choice(CALLS)
        limited = equipped.options(timeout=chance.random() / 10)
        futures.append(limited.submit(call, *arguments))
        if chance.random() < 0.3:
            chance.choice(futures[-80:]).cancel()
    assert not wait(futures, timeout=60).not_done
    failed = [future.exception() for future in futures if not future.cancelled()]
    assert {type(error) for error in failed} <= {type(None), CallTimeout}
    # Cancelled calls may still be about to end.
    wait_until(lambda: equipped.stats().running == 0)
    for kind in ("Queue", "JoinableQueue"):

        def is_drained(kind: str = kind) -> bool:
            equipped.submit(drain, kind).result(timeout=60)  # a feeder may have had some left
            full = getattr(tools, kind)._sem
            return bool(full.get_value() == full._semlock.maxvalue)

        wait_until(is_drained)
    wait_until(lambda: tools.Semaphore.get_value() == 3)
    again = [equipped.submit(*call, *arguments) for *call, arguments in CALLS[:4] for _ in range(9)]
    assert [future.result(timeout=60) for future in again] == [None] * 36
    for lock in (tools.Lock, tools.RLock, tools.Condition):
        assert lock.acquire(timeout=PATIENCE)
        lock.release()


def test_a_message_that_has_begun_is_finished_before_its_reader_is_stopped(make: Make) -> None:
    ours, theirs = multiprocessing.Pipe()
    executor = make(max_workers=1, initializer=keep_patiently, initargs=(theirs,), timeout_grace=30)
    first, second = (b"1" * 50_000, b"2" * 10)
    pickled = multiprocessing.reduction.ForkingPickler.dumps
    body = bytes(pickled(first))
    stopped = executor.submit(receive_kept)
    wait_until(lambda: executor.stats().running == 1)
    os.write(ours.fileno(), struct.pack("!i", len(body)) + body[:100])
    wait_until(lambda: not unread(theirs), "it has begun to read")
    assert stopped.cancel()
    for at in range(100, len(body), 5_000):
        time.sleep(0.01)
        os.write(ours.fileno(), body[at : at + 5_000])
    ours.send(second)
    assert executor.submit(receive_kept).result(timeout=PATIENCE) == second


def receive_kept() -> Any:
    return _tools.recv()


def test_a_reader_whose_message_does_not_go_on_is_stopped_and_its_end_closed(make: Make) -> None:
    ours, theirs = multiprocessing.Pipe()
    executor = make(max_workers=1, initializer=keep_tools, initargs=(theirs,), timeout_grace=30)
    stopped = executor.submit(receive_kept)
    wait_until(lambda: executor.stats().running == 1)
    os.write(ours.fileno(), struct.pack("!i", 1000) + b"half")
    wait_until(lambda: not unread(theirs), "it has begun to read")
    assert stopped.cancel()
    wait_until(lambda: executor.stats().running == 0)
    with pytest.raises(OSError, match="closed"):
        executor.submit(receive_kept).result(timeout=PATIENCE)


# -- threads, forks, many locks, held hubs --------------------------------------------------------


def exclude_in_threads(kind: str, place: int) -> list[None]:
    """In native threads of gevent's pool and without a hub, beside greenlets."""
    import gevent

    done: list[None] = []

    def work() -> None:
        lock = getattr(_tools, kind)
        sleep = native.original("time", "sleep")
        for _ in range(20):
            with lock, lock if kind == "RLock" else contextlib.nullcontext():
                seen = _tools.counts[place]
                sleep(0.0005)
                _tools.counts[place] = seen + 1
        done.append(None)

    pool = gevent.get_hub().threadpool
    threads = [pool.spawn(work) for _ in range(3)]
    for _ in range(3):
        native.original("_thread", "start_new_thread")(work, ())
    greenlets = [gevent.spawn(work) for _ in range(3)]
    gevent.joinall(greenlets)
    for thread in threads:
        thread.get()
    wait_until(lambda: len(done) == 9)
    return done


@pytest.mark.parametrize(("kind", "place"), [("Lock", 2), ("RLock", 3)])
def test_native_threads_and_greenlets_of_two_workers_exclude_each_other(
    equipped: HybridExecutor, tools: Tools, kind: str, place: int
) -> None:
    calls = [equipped.submit(exclude_in_threads, kind, place) for _ in range(2)]
    assert [call.result(timeout=60) for call in calls] == [[None] * 9] * 2
    assert tools.counts[place] == 2 * 9 * 20


def add_in_forked_children() -> None:
    def child() -> None:
        with _tools.RLock, _tools.RLock:
            _tools.counts[0] += 1

    for _ in range(3):
        with _tools.RLock:
            pid = os.fork()
            if pid == 0:
                # As in any forked child, what its parent has taken counts as its own.
                _tools.RLock._semlock._after_fork()
                child()
                os._exit(0)
            time.sleep(0.01)
        os.waitpid(pid, 0)


def test_a_forked_child_waits_for_a_lock_and_takes_it_twice(
    equipped: HybridExecutor, tools: Tools
) -> None:
    equipped.submit(add_in_forked_children).result(timeout=PATIENCE)
    assert tools.counts[0] == 3


def use_value(n: int) -> None:
    for _ in range(20):
        _tools.value.acquire()
        seen = _tools.value.value
        time.sleep(0.0002)
        _tools.value.value = seen + 1
        _tools.value.release()


def test_a_shared_values_lock_excludes(equipped: HybridExecutor, tools: Tools) -> None:
    for call in [equipped.submit(use_value, n) for n in range(20)]:
        call.result(timeout=60)
    assert tools.value.value == 400


def take_one_of_many(n: int) -> int:
    with _tools[n]:
        return n


def test_more_locks_are_waited_for_than_there_are_threads(make: Make) -> None:
    locks = [multiprocessing.get_context("spawn").Lock() for _ in range(100)]
    executor = make(max_workers=1, concurrency=100, initializer=keep_tools, initargs=(locks,))
    for lock in locks:
        lock.acquire()
    calls = [executor.submit(take_one_of_many, n) for n in range(100)]
    wait_until(lambda: executor.stats().running == 100)
    for lock in locks:
        lock.release()
    assert [call.result(timeout=PATIENCE) for call in calls] == list(range(100))


def take_lock() -> bool:
    with _tools:
        return True


def test_a_lock_is_not_kept_for_a_call_whose_hub_is_held(make: Make, gate: Gate) -> None:
    lock = multiprocessing.get_context("spawn").Lock()
    executor = make(max_workers=1, initializer=keep_tools, initargs=(lock,))
    with lock:
        waiting = executor.submit(take_lock)
        wait_until(lambda: executor.stats().running == 1)
        hog = executor.submit(gate.hog, "hog")
        gate.wait_for(1)
    # It was there for whoever waits in that worker; it does not come for it.
    for _ in range(3):
        assert lock.acquire(timeout=PATIENCE)
        lock.release()
        time.sleep(0.2)
    gate.open()
    assert waiting.result(timeout=PATIENCE)
    assert hog.result(timeout=PATIENCE) == "hog"


def hold_lock() -> None:
    with _tools:
        time.sleep(0.0005)


def try_after_contention(times: int) -> list[bool]:
    import gevent

    taken = []
    for _ in range(times):
        gevent.joinall([gevent.spawn(hold_lock) for _ in range(2)], raise_error=True)
        taken.append(_tools.acquire(block=False))
        _tools.release()
    return taken


@pytest.mark.slow
def test_a_lock_that_was_fought_for_is_free_when_it_is_given_back(make: Make) -> None:
    lock = multiprocessing.get_context("spawn").Lock()
    executor = make(max_workers=1, initializer=keep_tools, initargs=(lock,))
    assert executor.submit(try_after_contention, 100).result(timeout=PATIENCE) == [True] * 100
    for _ in range(50):
        for call in [executor.submit(hold_lock) for _ in range(2)]:
            call.result(timeout=PATIENCE)
        assert lock.acquire(block=False)
        lock.release()

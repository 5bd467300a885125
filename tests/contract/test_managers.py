"""multiprocessing's managers and listeners: calls that are stopped, many that connect at once."""

from __future__ import annotations

import multiprocessing
import multiprocessing.util
import threading
import time
from collections.abc import Iterator
from multiprocessing.connection import Client, Listener
from multiprocessing.managers import SyncManager
from typing import Any

import pytest

from hybridexec import CallTimeout, HybridExecutor

from .conftest import Make
from .helpers import PATIENCE, wait_until

pytestmark = pytest.mark.slow_on("spawn", "fork")


# -- managers -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def manager() -> Iterator[SyncManager]:
    with multiprocessing.get_context("spawn").Manager() as made:
        yield made


def take(queue: Any) -> Any:
    return queue.get()


def look_up(mapping: Any, key: Any) -> Any:
    return mapping[key]


def under(lock: Any) -> bool:
    with lock:
        return True


def wait_for_condition(condition: Any) -> None:
    with condition:
        condition.wait()


@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_a_stopped_calls_reply_is_not_taken_for_the_next_ones(
    make_each: Make, manager: SyncManager, how: str
) -> None:
    executor = make_each(max_workers=1, concurrency=1)
    queue, mapping = manager.Queue(), manager.dict({"a": 1, "b": 2})
    assert executor.submit(look_up, mapping, "a").result(timeout=PATIENCE) == 1
    if how == "timeout":
        call = executor.options(timeout=0.2).submit(take, queue)
        assert isinstance(call.exception(timeout=PATIENCE), CallTimeout)
    else:
        call = executor.submit(take, queue)
        wait_until(lambda: executor.stats().running == 1)
        time.sleep(0.1)
        assert call.cancel()
    assert executor.submit(look_up, mapping, "b").result(timeout=PATIENCE) == 2
    queue.put("first")
    assert executor.submit(take, queue).result(timeout=PATIENCE) == "first"
    queue.task_done()
    queue.join()
    assert executor.submit(look_up, mapping, "a").result(timeout=PATIENCE) == 1


@pytest.mark.parametrize("kind", ["Lock", "RLock", "Semaphore"])
def test_a_managers_lock_is_not_taken_for_a_call_that_was_stopped(
    make: Make, manager: SyncManager, kind: str
) -> None:
    executor = make(max_workers=1)
    lock = getattr(manager, kind)()
    with lock:
        call = executor.options(timeout=0.2).submit(under, lock)
        assert isinstance(call.exception(timeout=PATIENCE), CallTimeout)
    assert executor.submit(under, lock).result(timeout=PATIENCE)


def test_a_managers_condition_is_free_after_a_call_that_waited_was_stopped(
    make: Make, manager: SyncManager
) -> None:
    executor = make(max_workers=1)
    condition = manager.Condition()
    call = executor.options(timeout=0.3).submit(wait_for_condition, condition)
    assert isinstance(call.exception(timeout=PATIENCE), CallTimeout)
    with condition:
        condition.notify_all()
    assert executor.submit(under, condition).result(timeout=PATIENCE)


# -- many connect at once -------------------------------------------------------------------------


def greet(address: Any, n: int) -> Any:
    with Client(address, authkey=b"key") as connection:
        connection.send(n)
        return connection.recv()


@pytest.mark.parametrize(("backlog", "workers"), [(16, 2), (1, 5)])
@pytest.mark.parametrize("family", ["AF_INET", "AF_UNIX"])
def test_a_hundred_calls_connect_to_a_listener_at_once(
    make_each: Make, family: str, backlog: int, workers: int
) -> None:
    executor = make_each(max_workers=workers, concurrency=100)

    def answer(connection: Any) -> None:
        with connection:
            connection.send(connection.recv())

    def serve() -> None:
        for _ in range(100):
            time.sleep(0.005)  # so that many could wait for it
            threading.Thread(target=answer, args=(listener.accept(),), daemon=True).start()

    with Listener(family=family, backlog=backlog, authkey=b"key") as listener:
        threading.Thread(target=serve, daemon=True).start()
        calls = [executor.submit(greet, listener.address, n) for n in range(100)]
        assert [call.result(timeout=PATIENCE) for call in calls] == list(range(100))


def test_a_hundred_calls_connect_to_a_tcp_manager_at_once(executor: HybridExecutor) -> None:
    context = multiprocessing.get_context("spawn")
    with SyncManager(("127.0.0.1", 0), ctx=context) as manager:
        mapping = manager.dict({n: n for n in range(100)})
        calls = [executor.submit(look_up, mapping, n) for n in range(100)]
        assert [call.result(timeout=PATIENCE) for call in calls] == list(range(100))

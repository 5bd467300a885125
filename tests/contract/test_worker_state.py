"""What ``worker_state`` makes: once per worker, for its calls, and closed at its end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sqlite3
import threading
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import hybridexec
from hybridexec import ExecutorBroken, HybridExecutor

from .conftest import Make
from .helpers import identity, is_alive, leave, wait_until

pytestmark = [pytest.mark.slow_on("spawn"), pytest.mark.on_cluster]


@contextlib.contextmanager
def connection(folder: Path) -> Iterator[sqlite3.Connection]:
    """A connection to a database in memory; files in the folder tell when."""
    (folder / f"made-{os.getpid()}-{time.monotonic_ns()}").touch()
    made = sqlite3.connect(":memory:")
    made.execute("create table calls (number)")
    try:
        yield made
    finally:
        made.close()
        time.sleep(0.01)  # others can run meanwhile
        (folder / f"closed-{os.getpid()}-{time.monotonic_ns()}").touch()


def told(folder: Path, what: str) -> list[int]:
    """The workers that did this."""
    return sorted(int(name.split("-")[1]) for name in os.listdir(folder) if name.startswith(what))


def count(number: int) -> tuple[int, int]:
    """How many calls this worker has had; and the worker."""
    made = hybridexec.state()
    made.execute("insert into calls values (?)", (number,))
    return made.execute("select count(*) from calls").fetchone()[0], os.getpid()


class Session:
    """What can be closed and is no context manager."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.pid = os.getpid()

    def close(self) -> None:
        (self.folder / f"closed-{self.pid}").touch()


def pid_of_state() -> tuple[int, int]:
    return hybridexec.state().pid, os.getpid()


# -- made ---------------------------------------------------------------------------------------


def test_it_is_made_once_per_worker_and_closed_at_its_end(make_each: Make, tmp_path: Path) -> None:
    with make_each(worker_state=partial(connection, tmp_path)) as executor:
        counted = list(executor.map(count, range(20)))
        pids = {pid for _, pid in counted}
        for pid in pids:
            of_one = sorted(number for number, by in counted if by == pid)
            assert of_one == list(range(1, len(of_one) + 1)), "all calls share it"
        assert pids <= set(told(tmp_path, "made"))
        assert not told(tmp_path, "closed")
    assert told(tmp_path, "closed") == told(tmp_path, "made")


def greet() -> None:
    global _greeted
    with pytest.raises(RuntimeError, match="when the initializer has ended"):
        hybridexec.state()
    _greeted = True


_greeted = False


def after_greeting() -> bool:
    return _greeted


def test_it_is_made_after_the_initializer(make: Make) -> None:
    executor = make(max_workers=1, initializer=greet, worker_state=after_greeting)
    assert executor.submit(hybridexec.state).result(timeout=60) is True


def test_what_has_a_close_method_is_closed_by_it(make: Make, tmp_path: Path) -> None:
    with make(max_workers=1, worker_state=partial(Session, tmp_path)) as executor:
        made, pid = executor.submit(pid_of_state).result(timeout=60)
        assert made == pid
    assert told(tmp_path, "closed") == [pid]


def fail() -> None:
    raise OSError("no database there")


def test_if_it_cannot_be_made_the_executor_is_broken(
    make_each: Make, caplog: pytest.LogCaptureFixture
) -> None:
    executor = make_each(worker_state=fail)
    with pytest.raises(
        ExecutorBroken, match=r"worker_state failed in worker process .*no database"
    ):
        executor.submit(identity, 1).result(timeout=60)
    wait_until(lambda: "Exception in worker_state:" in caplog.messages)


def test_elsewhere_there_is_none(make: Make) -> None:
    with pytest.raises(RuntimeError, match=r"is for calls that run in a worker.*worker_state="):
        hybridexec.state()
    with pytest.raises(RuntimeError, match="worker_state="):
        make(max_workers=1).submit(hybridexec.state).result(timeout=60)


@pytest.mark.parametrize("wrong", [1, "session", {}])
def test_it_must_be_callable(wrong: Any) -> None:
    with pytest.raises(TypeError, match="worker_state must be a callable"):
        HybridExecutor(1, worker_state=wrong)


# -- closed -------------------------------------------------------------------------------------


def test_it_is_closed_when_its_worker_is_recycled(make: Make, tmp_path: Path) -> None:
    executor = make(
        max_workers=1, max_tasks_per_child=2, worker_state=partial(connection, tmp_path)
    )
    first = {executor.submit(count, number).result(timeout=60)[1] for number in range(2)}
    executor.submit(count, 2).result(timeout=60)
    wait_until(lambda: told(tmp_path, "closed") == list(first))


def test_and_when_that_was_idle(make: Make, tmp_path: Path) -> None:
    executor = make(max_workers=1, idle_timeout=0.1, worker_state=partial(connection, tmp_path))
    _, pid = executor.submit(count, 1).result(timeout=60)
    wait_until(lambda: told(tmp_path, "closed") == [pid])
    assert executor.submit(count, 1).result(timeout=60)[0] == 1  # another


def test_not_when_the_worker_is_killed(make: Make, tmp_path: Path) -> None:
    with make(max_workers=1, worker_state=partial(connection, tmp_path)) as executor:
        _, pid = executor.submit(count, 1).result(timeout=60)
        os.kill(pid, signal.SIGKILL)
        wait_until(lambda: not is_alive(pid))
        executor.submit(count, 1).result(timeout=60)
    assert pid not in told(tmp_path, "closed")
    assert len(told(tmp_path, "closed")) == 1


@pytest.mark.slow
def test_what_a_worker_has_made_that_gets_no_call_any_more_is_closed_too(tmp_path: Path) -> None:
    for attempt in range(5):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        with HybridExecutor(4, worker_state=partial(connection, folder)) as executor:
            executor.map(count, range(4))
        assert told(folder, "closed") == told(folder, "made")


@contextlib.contextmanager
def client(address: tuple[str, int]) -> Iterator[socket.socket]:
    """Says goodbye, and waits for the answer, with a thread beside it."""
    made = socket.create_connection(address)
    yield made
    other = threading.Thread(target=time.sleep, args=(0.01,))
    other.start()
    made.sendall(b"bye")
    assert made.recv(10) == b"bye"
    other.join()
    made.close()


def test_closing_may_wait_and_use_sockets_and_threads(make: Make) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        with make(max_workers=1, worker_state=partial(client, server.getsockname())) as executor:
            executor.submit(identity, 1).result(timeout=60)
            end, _ = server.accept()
            with end:
                executor.shutdown(wait=False)
                end.settimeout(30)
                assert end.recv(10) == b"bye"
                end.sendall(b"bye")
                executor.shutdown()
                assert end.recv(10) == b""
        assert executor.stats().lost == 0


@contextlib.contextmanager
def bad() -> Iterator[int]:
    yield 1
    raise ValueError("cannot be closed")


def test_an_error_in_closing_is_logged(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    with make(max_workers=1, worker_state=bad) as executor:
        assert executor.submit(hybridexec.state).result(timeout=60) == 1
    (record,) = [each for each in caplog.records if "was closed:" in each.getMessage()]
    assert record.levelno == logging.ERROR
    assert "cannot be closed" in (record.exc_text or str(record.exc_info))


@contextlib.contextmanager
def endless() -> Iterator[None]:
    yield
    time.sleep(1000)


@contextlib.asynccontextmanager
async def endless_async() -> AsyncIterator[None]:
    yield
    await asyncio.sleep(1000)


def hurry() -> None:
    from hybridexec.worker import state

    state.CLOSE_SECONDS = 0.2


async def identity_async(value: int) -> int:
    return value


@pytest.mark.this_machine("it chooses the lanes itself")
@pytest.mark.parametrize("lane", ["greenlet", "async"])
def test_closing_that_does_not_end_keeps_nobody(
    make: Make, lane: str, capfd: pytest.CaptureFixture[str]
) -> None:
    factory, call = (endless, identity) if lane == "greenlet" else (endless_async, identity_async)
    with make(max_workers=1, initializer=hurry, worker_state=factory) as executor:
        assert executor.submit(call, 1).result(timeout=60) == 1
    assert "a worker's state was not closed within 0.2 s" in capfd.readouterr().err


# -- in other lanes -----------------------------------------------------------------------------


class AsyncSession:
    """As aiohttp's: of one loop, and closed by a coroutine."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.loop = asyncio.get_running_loop()

    async def __aenter__(self) -> AsyncSession:
        self.task = asyncio.current_task()
        return self

    async def __aexit__(self, *error: object) -> None:
        await asyncio.sleep(0.01)
        assert asyncio.current_task() is self.task, "some must be left where they were entered"
        (self.folder / f"closed-{os.getpid()}").touch()


async def made_later(folder: Path) -> AsyncSession:
    await asyncio.sleep(0.01)
    return AsyncSession(folder)


@contextlib.asynccontextmanager
async def managed(folder: Path) -> AsyncIterator[AsyncSession]:
    async with AsyncSession(folder) as session:
        yield session


async def use_session(number: int) -> tuple[bool, int]:
    await asyncio.sleep(0)
    return hybridexec.state().loop is asyncio.get_running_loop(), os.getpid()


@pytest.mark.parametrize("factory", [AsyncSession, made_later, managed])
def test_in_the_async_lane_it_may_be_asynchronous(make: Make, tmp_path: Path, factory: Any) -> None:
    with make(max_workers=1, worker_state=partial(factory, tmp_path)) as executor:
        (same, pid), *_ = executor.map(use_session, range(3), timeout=60)
        assert same
    assert told(tmp_path, "closed") == [pid]


def test_others_workers_do_not_have_what_is_asynchronous(make: Make, tmp_path: Path) -> None:
    for factory in (made_later, managed):
        with make(max_workers=1, worker_state=partial(factory, tmp_path)) as executor:
            with pytest.raises(RuntimeError, match="asynchronous, so only workers for async"):
                executor.submit(pid_of_state).result(timeout=60)
            assert executor.submit(identity, 1).result(timeout=60) == 1


async def count_async(number: int) -> tuple[int, int]:
    return count(number)


def test_in_the_async_lane_it_may_be_a_plain_one(make: Make, tmp_path: Path) -> None:
    with make(max_workers=1, worker_state=partial(connection, tmp_path)) as executor:
        counted = list(executor.map(count_async, range(5), timeout=60))
    assert sorted(number for number, _ in counted) == [1, 2, 3, 4, 5]
    assert told(tmp_path, "closed") == [counted[0][1]]


async def fail_async() -> None:
    raise OSError("no server there")


def test_if_it_cannot_be_made_there_these_calls_fail(make: Make) -> None:
    executor = make(max_workers=1, worker_state=fail_async)
    with pytest.raises(ExecutorBroken, match=r"worker_state failed.*no server there"):
        executor.submit(identity_async, 1).result(timeout=60)


def test_a_worker_that_dies_while_it_makes_it_breaks_the_executor(make: Make) -> None:
    executor = make(max_workers=1, worker_state=partial(leave, 3))
    with pytest.raises(ExecutorBroken):
        executor.submit(identity, 1).result(timeout=60)


@pytest.mark.this_machine("it chooses the lanes itself")
@pytest.mark.parametrize("lane", ["greenlet", "thread"])
def test_each_worker_of_each_lane_has_its_own(make: Make, tmp_path: Path, lane: Any) -> None:
    with make(max_workers=1, worker_state=partial(Session, tmp_path)) as executor:
        view = executor.options(lane=lane)
        results = [view.submit(pid_of_state).result(timeout=60) for _ in range(3)]
        assert all(made == pid for made, pid in results)
    assert told(tmp_path, "closed") == [results[0][1]]

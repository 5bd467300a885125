"""Whatever happens in an executor, what its listeners are told adds up."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from unit.account import Account

from hybridexec import CallTimeout, HybridExecutor, WorkerLost, events
from hybridexec.parent.engine.engine import Engine

from .conftest import METHODS, Make, make_executor
from .helpers import Gate, identity, pid_of, wait_until


@contextmanager
def listening(make: Callable[[], HybridExecutor]) -> Iterator[tuple[HybridExecutor, Account]]:
    """An executor, and a listener whose account is checked when that has ended."""
    account = Account()
    faults: list[BaseException] = []

    def listener(told: list[events.Event]) -> None:
        try:
            account(told)
        except AssertionError as error:
            faults.append(error)

    with make() as executor:
        engine: Engine = executor._engine
        engine.listeners.listen(listener)
        yield executor, account
    assert not faults
    assert account.unfinished == 0
    assert not account.alive


def fail_on_odd(number: int) -> int:
    if number % 2:
        raise ValueError(f"{number} is odd")
    return number


def fail_at_first(folder: str, number: int) -> int:
    try:
        os.mkdir(os.path.join(folder, f"tried-{number}"))
    except FileExistsError:
        return number
    raise OSError("not yet")


@pytest.mark.parametrize("method", METHODS)
def test_the_account_of_a_life_with_accidents(method: str, gate: Gate, tmp_path: Any) -> None:
    with listening(lambda: make_executor(method, concurrency=10)) as (executor, account):
        assert list(executor.map(identity, range(1000))) == list(range(1000))
        failing = [executor.submit(fail_on_odd, number) for number in range(10)]
        assert [future.exception() is None for future in failing] == [True, False] * 5
        trying = executor.options(retries=1, backoff=0.0)
        assert list(trying.map(fail_at_first, [str(tmp_path)] * 5, range(5))) == list(range(5))
        slow = executor.options(timeout=0.05).submit(gate.wait, "slow")
        unwanted = executor.submit(gate.wait, "unwanted")
        gate.wait_for(2)
        assert isinstance(slow.exception(timeout=30), CallTimeout)
        assert unwanted.cancel()
        doomed = executor.submit(gate.wait, "doomed")
        wait_until(doomed.running)
        for worker in executor._processes.values():
            os.kill(worker.pid, signal.SIGKILL)
        assert isinstance(doomed.exception(timeout=30), WorkerLost)
        assert executor.submit(identity, 1).result(timeout=30) == 1
    told = account.calls
    assert told[events.CallsSubmitted] == 1000 + 10 + 5 + 3 + 1
    assert told[events.CallsFinished] == 1000 + 5 + 5 + 1
    assert told[events.CallsFailed] == 5
    assert told[events.CallsRetried] == 5
    assert told[events.CallsTimedOut] == 1
    assert told[events.CallsCancelled] == 1
    assert told[events.CallsLost] == 1
    errors = {event.text: event for event in account.those(events.CallsFailed)}
    assert set(errors) == {f"{number} is odd" for number in range(1, 10, 2)}
    assert errors["1 is odd"].error == "builtins.ValueError"
    assert errors["1 is odd"].function == "fail_on_odd"
    assert "in fail_on_odd" in errors["1 is odd"].traceback
    causes = [event.cause for event in account.those(events.WorkerEnded) if event.lost]
    assert causes
    assert all("killed by SIGKILL" in cause for cause in causes)


def test_recycled_workers_say_why(make: Make) -> None:
    with listening(lambda: make(max_workers=1, max_tasks_per_child=2)) as (executor, account):
        pids = [executor.submit(pid_of).result(timeout=30) for _ in range(4)]
    assert {event.pid for event in account.those(events.WorkerRecycled)} == set(pids)
    assert {e.cause for e in account.those(events.WorkerRecycled)} == {"max_tasks_per_child"}
    assert not any(event.lost for event in account.those(events.WorkerEnded))


def test_inline_calls_are_told_of_by_the_io_thread(make: Make) -> None:
    threads: set[str] = set()
    with listening(lambda: make(max_workers=1)) as (executor, account):
        engine: Engine = executor._engine
        engine.listeners.listen(lambda _: threads.add(threading.current_thread().name))
        for number in range(100):
            assert executor.submit(abs, -number).result(timeout=30) == number
        wait_until(lambda: account.calls[events.CallsFinished] == 100)
        assert account.started == 100
    assert len(threads) == 1
    assert threading.current_thread().name not in threads


def test_a_blocked_hub_is_told_of(make: Make, gate: Gate) -> None:
    with listening(lambda: make(max_workers=1, hub_lag_warning=0.3)) as (executor, account):
        hog = executor.submit(gate.hog, "hog")
        blocked = wait_until(lambda: account.those(events.WorkerBlocked))[0]
        assert blocked.seconds >= 0.3
        assert "hog" in blocked.call
        assert "hog" in blocked.stack
        gate.open()
        assert hog.result(timeout=30) == "hog"
        wait_until(lambda: account.those(events.WorkerUnblocked))


def test_a_listener_that_raises_hurts_nobody(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    def broken(_: list[events.Event]) -> None:
        raise ValueError("broken")

    account = Account()
    with make(max_workers=1) as executor:
        engine: Engine = executor._engine
        engine.listeners.listen(broken)
        engine.listeners.listen(account)
        assert executor.submit(abs, -1).result(timeout=30) == 1
    assert account.calls[events.CallsFinished] == 1
    assert "a listener of an executor's events failed" in caplog.text


def test_who_stops_listening_is_told_no_more(make: Make) -> None:
    account = Account()
    with make(max_workers=1) as executor:
        engine: Engine = executor._engine
        stop = engine.listeners.listen(account)
        assert executor.submit(abs, -1).result(timeout=30) == 1
        wait_until(lambda: account.calls[events.CallsFinished] == 1)
        stop()
        assert engine._pool.actions.tally.emitter is None
        assert executor.submit(abs, -2).result(timeout=30) == 2
    assert account.calls[events.CallsSubmitted] == 1
    assert not account.those(events.WorkerEnded)

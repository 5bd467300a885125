"""Whatever happens in an executor, what its listeners are told adds up."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from unit.account import Account

from hybridexec import CallTimeout, HybridExecutor, WorkerLost, events
from hybridexec.parent.engine import observation as observing
from hybridexec.parent.engine.engine import Engine

from .conftest import METHODS, Make, make_executor
from .helpers import Gate, identity, pid_of, square, wait_until

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.every_lane]


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
        engine.listeners.listen(listener, events.names_of())
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
        engine.listeners.listen(
            lambda _: threads.add(threading.current_thread().name), events.names_of()
        )
        for number in range(100):
            assert executor.submit(abs, -number).result(timeout=30) == number
        wait_until(lambda: account.calls[events.CallsFinished] == 100)
        assert account.started == 100
    assert len(threads) == 1
    assert threading.current_thread().name not in threads


@pytest.mark.every_lane(but=("thread",))  # where a call that computes keeps no other waiting
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
        engine.listeners.listen(broken, events.names_of())
        engine.listeners.listen(account, events.names_of())
        assert executor.submit(abs, -1).result(timeout=30) == 1
    assert account.calls[events.CallsFinished] == 1
    assert "a listener of an executor's events failed" in caplog.text


def test_who_stops_listening_is_told_no_more(make: Make) -> None:
    account = Account()
    with make(max_workers=1) as executor:
        engine: Engine = executor._engine
        stop = engine.listeners.listen(account, events.names_of())
        assert executor.submit(abs, -1).result(timeout=30) == 1
        wait_until(lambda: account.calls[events.CallsFinished] == 1)
        stop()
        assert engine._pool.actions.tally.emitter is None
        assert executor.submit(abs, -2).result(timeout=30) == 2
    assert account.calls[events.CallsSubmitted] == 1
    assert not account.those(events.WorkerEnded)


def test_an_observer_is_told_of_everything_by_the_end(make: Make) -> None:
    account = Account()
    with make(max_workers=2) as executor:
        observation = executor.observe(lambda event: account([event]))
        assert list(executor.map(identity, range(5000))) == list(range(5000))
        assert isinstance(executor.submit(fail_on_odd, 1).exception(timeout=30), ValueError)
    assert observation.dropped == 0
    assert account.unfinished == 0
    assert account.calls[events.CallsFinished] == 5000
    assert [event.text for event in account.those(events.CallsFailed)] == ["1 is odd"]
    assert not account.alive


def test_an_observer_gets_what_it_asked_for_until_it_closes(make: Make) -> None:
    got: list[events.Event] = []
    executor = make(max_workers=1)
    observation = executor.options(timeout=60).observe(got.append, events=[events.CallsFailed])
    for number in range(6):
        executor.submit(fail_on_odd, number).exception(timeout=30)
    observation.close()
    assert {type(event) for event in got} == {events.CallsFailed}
    assert sorted(event.text for event in got if isinstance(event, events.CallsFailed)) == [
        f"{number} is odd" for number in (1, 3, 5)
    ]
    executor.submit(fail_on_odd, 7).exception(timeout=30)
    observation.close()
    assert len(got) == 3
    engine: Engine = executor._engine
    assert engine._pool.actions.tally.emitter is None


def test_an_observer_that_blocks_keeps_no_call_waiting(make: Make) -> None:
    goes_on = threading.Event()
    executor = make(max_workers=1)
    executor.observe(lambda _: goes_on.wait(60))
    try:
        assert list(executor.map(identity, range(1000))) == list(range(1000))
        assert executor.submit(abs, -1).result(timeout=30) == 1
    finally:
        goes_on.set()


@pytest.mark.every_lane(but=("thread",))  # where a call that computes keeps no other waiting
def test_a_log_handler_that_blocks_keeps_no_call_waiting(make: Make, gate: Gate) -> None:
    goes_on, blocks = threading.Event(), threading.Event()

    class Handler(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            blocks.set()
            goes_on.wait(60)

    handler, logger = Handler(), logging.getLogger("hybridexec")
    logger.addHandler(handler)
    try:
        executor = make(max_workers=2, concurrency=2, hub_lag_warning=0.3)
        hog = executor.submit(gate.hog, "hog")
        assert blocks.wait(30)
        gate.open()
        assert hog.result(timeout=30) == "hog"
        assert list(executor.map(identity, range(1000))) == list(range(1000))
    finally:
        goes_on.set()
        logger.removeHandler(handler)


def test_who_closes_in_a_callback_hears_of_that_call_and_does_not_wait(
    make: Make, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(observing, "PATIENCE", 3600.0)
    executor = make(max_workers=1)
    told: list[events.CallsEvent] = []
    ours = executor.observe(told.append, events=events.CallsEvent)
    call = executor.submit(gate.wait, 1)
    gate.wait_for(1)
    call.add_done_callback(lambda _: ours.close())
    gate.open()
    call.result(timeout=30)
    executor.shutdown()
    assert {type(event).__name__: event.count for event in told} == {
        "CallsSubmitted": 1,
        "CallsStarted": 1,
        "CallsFinished": 1,
    }


def test_two_may_close_at_once(make: Make) -> None:
    executor = make(max_workers=1)
    observation = executor.observe(lambda event: None)
    executor.submit(square, 1).result(timeout=30)
    with ThreadPoolExecutor(8) as threads:
        for closed in [threads.submit(observation.close) for _ in range(8)]:
            closed.result(timeout=30)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork")
@pytest.mark.parametrize("owner", ["turn", "observation"])
def test_in_a_fork_observers_can_be_closed_whoever_held_the_locks(make: Make, owner: str) -> None:
    executor = make(max_workers=1)
    observation = executor.observe(lambda event: None)
    executor.submit(square, 1).result(timeout=30)
    lock = executor._assembly.engine._turning if owner == "turn" else observation._changed
    held, forked = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            forked.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    held.wait(30)
    pid = os.fork()
    if not pid:
        signal.alarm(20)
        observation.close()
        executor.observe(print).close()
        os._exit(executor.stats().submitted)
    forked.set()
    holder.join()
    assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize(
    ("observer", "kinds"), [(None, None), (print, str), (print, [events.CallsFailed, 3])]
)
def test_what_cannot_observe_is_refused(make: Make, observer: Any, kinds: Any) -> None:
    with pytest.raises(TypeError, match=r"callable|hybridexec\.events"):
        make().observe(observer, events=kinds)


def test_an_executor_that_nobody_used_ends_its_observers(make: Make) -> None:
    got: list[events.Event] = []
    executor = make()
    observation = executor.observe(got.append)
    executor.shutdown()
    observation.close()
    assert not got

"""Calls that come while there is no other: sent by their callers, and read by their waiters."""

from __future__ import annotations

import select
import threading
import time
from collections.abc import Callable
from concurrent import futures
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import pytest

from hybridexec import ExecutorBroken, HybridExecutor, WorkerLost
from hybridexec.parent.engine import turns
from hybridexec.parent.engine.connection import Connection
from hybridexec.parent.engine.leader import Leader
from hybridexec.parent.engine.supervisor import Supervisor
from hybridexec.parent.pool.ledger import Ledger
from hybridexec.parent.pool.pool import Pool
from hybridexec.parent.pool.results import Results
from hybridexec.parent.work.future import CallFuture

from .helpers import Gate, leave, wait_until


def test_an_inline_calls_outcome_is_read_by_its_waiter(monkeypatch: pytest.MonkeyPatch) -> None:
    readers = []
    receive = Supervisor.receive

    def noted(
        self: Supervisor, number: int, connection: Connection, everything: bool = False
    ) -> None:
        readers.append(threading.current_thread())
        receive(self, number, connection, everything)

    monkeypatch.setattr(Supervisor, "receive", noted)
    with HybridExecutor(1) as executor:
        # The first wakes the I/O thread, which then looks up often enough for others to be alone.
        assert [executor.submit(abs, -n).result(timeout=30) for n in range(100)] == list(range(100))
    assert threading.current_thread() in readers


def test_an_inline_call_that_takes_its_time(gate: Gate) -> None:
    with HybridExecutor(1) as executor:
        executor.submit(abs, -1).result(timeout=30)
        for seconds in (0.0, 0.001, 0.002, 0.003, 0.05):
            assert executor.submit(time.sleep, seconds).result(timeout=30) is None
        slow = executor.submit(gate.wait, "slow")
        with pytest.raises(TimeoutError):
            slow.result(timeout=0.001)
        assert not slow.done()
        gate.open()
        assert slow.result(timeout=30) == "slow"


def test_inline_calls_and_others_at_once() -> None:
    with HybridExecutor(2) as executor, ThreadPoolExecutor(4) as threads:

        def one_by_one(count: int) -> list[int]:
            return [executor.submit(abs, -n).result(timeout=30) for n in range(count)]

        runs = [threads.submit(one_by_one, 300) for _ in range(4)]
        assert [run.result(timeout=60) for run in runs] == [list(range(300))] * 4


def test_callbacks_of_an_inline_call_may_wait_for_others() -> None:
    later: list[Future[int]] = []
    with HybridExecutor(1) as executor:
        for n in range(50):
            future = executor.submit(abs, -n)
            future.add_done_callback(lambda _: later.append(executor.submit(abs, -7)))
            assert future.result(timeout=30) == n
        while len(later) < 50:
            time.sleep(0.001)
        assert {future.result(timeout=30) for future in later} == {7}


@pytest.mark.parametrize("added_by", ["the waiter", "another thread"])
def test_a_callback_never_runs_on_the_waiters_thread(added_by: str) -> None:
    # It may want what the waiter holds.
    held, ran_on, adding = threading.Lock(), [], False
    called = threading.Event()

    def note(_: object) -> None:
        me = threading.current_thread()
        if me is not threading.main_thread():
            assert held.acquire(timeout=30)
            held.release()
        # As the standard library's, one that is added late is called at once, where it is added.
        if not (adding and me is threading.main_thread()):
            ran_on.append(me)
        called.set()

    count = 200
    with HybridExecutor(1) as executor, ThreadPoolExecutor(1) as threads:
        executor.submit(abs, -1).result(timeout=30)
        for _ in range(count):
            future = executor.submit(time.sleep, 0.001)
            with held:
                if added_by == "the waiter":
                    adding = True
                    future.add_done_callback(note)
                    adding = False
                else:
                    threads.submit(future.add_done_callback, note)
                assert future.result(timeout=30) is None
            assert called.wait(30)
            called.clear()
    assert threading.current_thread() not in ran_on
    assert ran_on


def test_a_worker_that_dies_while_its_results_are_awaited() -> None:
    with HybridExecutor(1) as executor:
        executor.submit(abs, -1).result(timeout=30)
        for _ in range(3):
            with pytest.raises(WorkerLost):
                executor.submit(leave, 3).result(timeout=30)
            assert executor.submit(abs, -1).result(timeout=30) == 1


def _is_done_in_time(_: HybridExecutor, future: Future[int]) -> None:
    wait_until(future.done)


def _is_waited_for(_: HybridExecutor, future: Future[int]) -> None:
    assert futures.wait([future], timeout=30).done == {future}


def _is_completed(_: HybridExecutor, future: Future[int]) -> None:
    assert list(futures.as_completed([future], timeout=30)) == [future]


def _is_called_back(_: HybridExecutor, future: Future[int]) -> None:
    called_back = threading.Event()
    future.add_done_callback(lambda _: called_back.set())
    assert called_back.wait(30)


def _has_no_exception(_: HybridExecutor, future: Future[int]) -> None:
    assert future.exception(timeout=30) is None


def _has_a_result_by_and_by(_: HybridExecutor, future: Future[int]) -> None:
    def has_ended() -> bool:
        try:
            return future.result(timeout=0) == 7
        except TimeoutError:
            return False

    wait_until(has_ended)


def _is_cancelled_or_too_late(_: HybridExecutor, future: Future[int]) -> None:
    if not future.cancel():
        assert future.result(timeout=30) == 7


def _is_counted(executor: HybridExecutor, _: Future[int]) -> None:
    def is_all_done() -> bool:
        (worker,) = executor.stats().workers
        return worker.running == 0 and worker.done > 0

    wait_until(is_all_done)
    wait_until(lambda: not executor._engine._ledger.unfinished)


def _goes_before_the_next(executor: HybridExecutor, future: Future[int]) -> None:
    assert executor.submit(abs, -8).result(timeout=30) == 8
    assert future.done()


@pytest.mark.parametrize(
    "notice",
    [
        _is_done_in_time,
        _is_waited_for,
        _is_completed,
        _is_called_back,
        _has_no_exception,
        _has_a_result_by_and_by,
        _is_cancelled_or_too_late,
        _is_counted,
        _goes_before_the_next,
    ],
)
def test_an_outcome_that_is_left_to_a_leader_is_read_for_others(
    monkeypatch: pytest.MonkeyPatch, notice: Callable[[HybridExecutor, Future[int]], None]
) -> None:
    # The I/O thread must not look up by itself.
    monkeypatch.setattr(turns, "_WATCH_TICK", 600.0)
    with HybridExecutor(1) as executor:
        notice(executor, left_to_a_leader(executor))


def test_an_outcome_that_nobody_wants_is_read_all_the_same() -> None:
    with HybridExecutor(1) as executor:
        left_to_a_leader(executor)
        wait_until(lambda: not executor._engine._ledger.unfinished)


def left_to_a_leader(executor: HybridExecutor) -> Future[int]:
    """A call that its caller has sent to a worker whose results the poller does not tell of."""
    engine = executor._engine

    def is_sent_by_its_caller() -> bool:
        nonlocal future
        executor.submit(abs, -1).result(timeout=30)
        future = executor.submit(abs, -7)
        batch = future.batch
        return (
            batch is not None
            and engine._inline._sent[0] == batch.first
            and engine._supervisor.leader.led
        )

    future: Any = None
    wait_until(is_sent_by_its_caller)
    return future


def test_an_interrupted_leader_is_relieved() -> None:
    with HybridExecutor(1) as executor:
        executor.submit(abs, -1).result(timeout=30)
        engine = executor._engine
        future = executor.submit(time.sleep, 0.05)
        with engine._turning:
            # As if its waiter had begun to read the results, and gone.
            worker = next(iter(engine._supervisor.connections))
            assert engine._supervisor.leader.begin(worker, 0.001) is not None
        assert Future.result(future, timeout=30) is None


def test_a_leader_that_is_interrupted_is_relieved_long_before_its_calls_time_is_up() -> None:
    with HybridExecutor(1, hub_lag_warning=None) as executor:
        engine = executor._engine
        executor.submit(abs, -1).result(timeout=30)
        future = executor.options(timeout=600).submit(time.sleep, 0.05)
        with engine._turning:
            worker = next(iter(engine._supervisor.connections))
            assert engine._supervisor.leader.begin(worker, 0.1) is not None
        # From now on, the I/O thread knows of a time to wake up at.
        engine._queue.post(lambda: None)
        assert Future.result(future, timeout=30) is None


def test_the_answer_to_a_call_whose_caller_was_interrupted_is_no_fault(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    executor = HybridExecutor(1)
    executor.submit(abs, -1).result(timeout=30)

    def interrupt(*_: object) -> None:
        (connection,) = executor._engine._supervisor.connections.values()
        assert select.select([connection.results_fd], [], [], 30)[0]
        raise KeyboardInterrupt

    monkeypatch.setattr(Pool, "sent_inline", interrupt)

    def call_one_by_one() -> None:
        while True:
            executor.submit(abs, -1).result(timeout=30)

    with pytest.raises(KeyboardInterrupt):
        call_one_by_one()
    executor.shutdown(wait=False)
    assert executor._engine.ended.wait(30)
    assert "I/O thread failed" not in caplog.text


@pytest.mark.parametrize(
    ("owner", "name"),
    [
        (Pool, "receiver"),
        (Ledger, "enter"),
        (Connection, "flush"),
        (Pool, "sent_inline"),
        (Leader, "begin"),
        (Leader, "give_back"),
        (Leader, "rest"),
        (Results, "take"),
        (Ledger, "deliver"),
        (CallFuture, "deliver_here"),
        (CallFuture, "_finish_alone"),
        (CallFuture, "leave"),
    ],
)
def test_an_inline_call_whose_caller_is_interrupted_ends_and_so_does_its_executor(
    monkeypatch: pytest.MonkeyPatch, owner: type, name: str
) -> None:
    executor = HybridExecutor(1)
    executor.submit(abs, -1).result(timeout=30)
    method = getattr(owner, name)
    interrupted = threading.Event()

    def interrupt(*arguments: Any, **named: Any) -> Any:
        if threading.current_thread() is threading.main_thread() and not interrupted.is_set():
            interrupted.set()
            raise KeyboardInterrupt
        return method(*arguments, **named)

    monkeypatch.setattr(owner, name, interrupt)
    future: Future[int] | None = None

    def call_one_by_one() -> None:
        nonlocal future
        while not interrupted.is_set():
            future = None
            future = executor.submit(abs, -1)
            future.result(timeout=30)

    with pytest.raises(KeyboardInterrupt):
        call_one_by_one()
    if future is not None:
        assert isinstance(future.exception(timeout=30), ExecutorBroken | None)
    executor.shutdown(wait=False)
    assert executor._engine.ended.wait(30)

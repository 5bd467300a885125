"""Futures of calls: cancelling, also while others wait."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import (
    CancelledError,
)
from typing import Any

import pytest

from hybridexec.errors import WorkerLost
from hybridexec.parent.work.batch import LOST
from hybridexec.wire import messages, payload

from .futures import PATIENCE, call_of, end, make


def test_cancelling_ends_the_future_at_once_and_tells_the_engine() -> None:
    engine, future = make()
    assert future.cancel()
    assert future.cancelled()
    assert future.done()
    assert not future.running()
    assert engine.cancelled == [future]
    with pytest.raises(CancelledError):
        future.result(timeout=0)


def test_a_running_call_can_be_cancelled() -> None:
    engine, future = make()
    engine.running.add(call_of(future))
    assert future.cancel()
    assert not future.running()
    assert len(engine.cancelled) == 1


def test_cancelling_after_the_end_is_refused() -> None:
    engine, future = make()
    end(future)
    assert not future.cancel()
    assert future.result() == "value"
    assert engine.cancelled == []


def test_cancelling_twice_tells_the_engine_once() -> None:
    engine, future = make()
    assert future.cancel()
    assert future.cancel()
    assert len(engine.cancelled) == 1


@pytest.mark.parametrize(
    ("status", "value"),
    [
        (messages.VALUE, 1),
        (messages.CANCELLED, None),
        (messages.ERROR, (payload.dumps(ValueError()), "", "", "", "")),
        (LOST, WorkerLost("it died")),
    ],
)
def test_an_outcome_after_a_cancel_changes_nothing(
    status: int, value: Any, caplog: pytest.LogCaptureFixture
) -> None:
    _, future = make()
    future.cancel()
    with caplog.at_level(logging.DEBUG):
        end(future, status, value)
    assert future.cancelled()
    assert not caplog.records


@pytest.mark.parametrize("waiters", [1, 2, 5])
def test_all_threads_that_wait_get_the_result(waiters: int) -> None:
    _, future = make()
    results: list[Any] = []
    threads = [
        threading.Thread(target=lambda: results.append(future.result(PATIENCE)))
        for _ in range(waiters)
    ]
    for thread in threads:
        thread.start()
    end(future)
    for thread in threads:
        thread.join(PATIENCE)
    assert results == ["value"] * waiters


def test_a_wait_that_ran_out_may_be_repeated() -> None:
    _, future = make()
    for timeout in (0, 0.001, -1):
        with pytest.raises(TimeoutError):
            future.result(timeout)
    end(future)
    assert future.result(PATIENCE) == "value"


def test_waiters_hear_of_a_cancel() -> None:
    _, future = make()
    heard: list[str] = []

    def consume() -> None:
        try:
            future.result(PATIENCE)
        except CancelledError:
            heard.append("cancelled")

    thread = threading.Thread(target=consume)
    thread.start()
    future.cancel()
    thread.join(PATIENCE)
    assert heard == ["cancelled"]


def test_a_cancel_and_an_outcome_at_once_end_the_future_one_way() -> None:
    ways = set()
    for _ in range(200):
        engine, future = make()
        called: list[Any] = []
        future.add_done_callback(called.append)
        barrier = threading.Barrier(2)

        def deliver(future: Any = future, barrier: Any = barrier) -> None:
            barrier.wait(PATIENCE)
            end(future)

        thread = threading.Thread(target=deliver)
        thread.start()
        barrier.wait(PATIENCE)
        was_cancelled = future.cancel()
        thread.join(PATIENCE)
        assert future.cancelled() == was_cancelled
        assert len(engine.cancelled) == was_cancelled
        assert called == [future]
        if not was_cancelled:
            assert future.result(timeout=0) == "value"
        ways.add(was_cancelled)
    assert ways <= {True, False}


def test_many_threads_that_cancel_tell_the_engine_once() -> None:
    for _ in range(50):
        engine, future = make()
        barrier = threading.Barrier(4)
        said: list[bool] = []

        def cancel(future: Any = future, barrier: Any = barrier, said: Any = said) -> None:
            barrier.wait(PATIENCE)
            said.append(future.cancel())

        threads = [threading.Thread(target=cancel) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
        assert said == [True] * 4
        assert len(engine.cancelled) == 1

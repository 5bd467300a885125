"""The future of a call: it ends once, whoever is first, and everyone who waits hears of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import threading
import time
import weakref
from concurrent.futures import (
    FIRST_COMPLETED,
    CancelledError,
    Future,
    InvalidStateError,
    as_completed,
    wait,
)
from typing import Any

import pytest

from hybridexec import native
from hybridexec.errors import WorkerLost
from hybridexec.parent.work.batch import LOST
from hybridexec.parent.work.future import CallFuture
from hybridexec.wire import messages, payload

from ..fakes import FUNCTION, OPTIONS, FakeEngine

PATIENCE = 20


def make(argument: Any = "argument") -> tuple[FakeEngine, CallFuture[Any]]:
    engine = FakeEngine()
    future: CallFuture[Any] = CallFuture(engine, FUNCTION, (argument,), OPTIONS)
    engine.submit(future)
    return engine, future


def end(future: CallFuture[Any], status: int = messages.VALUE, value: Any = "value") -> None:
    future.deliver([(0, status, value, None, 7, None)])


def call_of(future: CallFuture[Any]) -> int:
    assert future.batch is not None
    return future.batch.first + future.place


# -- outcomes ---------------------------------------------------------------------------------


def test_a_new_future_is_pending() -> None:
    _, future = make()
    assert isinstance(future, Future)
    assert not future.done()
    assert not future.cancelled()
    assert not future.running()
    with pytest.raises(TimeoutError):
        future.result(timeout=0)
    with pytest.raises(TimeoutError):
        future.exception(timeout=0)


def test_a_value_is_the_result() -> None:
    _, future = make()
    end(future)
    assert future.done()
    assert future.result() == "value"
    assert future.exception() is None


def test_a_pickled_value_is_the_result() -> None:
    _, future = make()
    end(future, messages.PICKLED, payload.dumps([1, 2]))
    assert future.result(timeout=0) == [1, 2]


def test_an_error_is_raised() -> None:
    _, future = make()
    end(
        future,
        messages.ERROR,
        (payload.dumps(ValueError("bad")), "trace", "note", "ValueError", "bad"),
    )
    with pytest.raises(ValueError, match="bad"):
        future.result()
    assert type(future.exception()) is ValueError


def test_a_lost_worker_is_raised() -> None:
    _, future = make()
    end(future, LOST, WorkerLost("it died", 7, 1, 1))
    with pytest.raises(WorkerLost, match="it died"):
        future.result()


def test_a_call_cancelled_in_its_worker_is_cancelled() -> None:
    _, future = make()
    end(future, messages.CANCELLED, None)
    assert future.cancelled()
    with pytest.raises(CancelledError):
        future.result(timeout=0)


def test_a_call_that_could_not_be_sent_fails() -> None:
    _, future = make()
    error = TypeError("cannot pickle that")
    future.fail(error)
    assert future.exception(timeout=0) is error


def test_running_is_what_the_worker_says() -> None:
    engine, future = make()
    engine.running.add(call_of(future))
    assert future.running()
    end(future)
    assert not future.running()


def test_the_arguments_are_let_go_with_the_outcome() -> None:
    class Argument:
        pass

    argument = Argument()
    gone = weakref.ref(argument)
    engine, future = make(argument)
    del argument
    engine.batches.clear()
    engine.open.clear()
    end(future)
    assert gone() is None


def test_an_ended_future_is_freed_without_the_garbage_collector() -> None:
    engine, future = make()
    gone = weakref.ref(future)
    end(future)
    engine.batches.clear()
    engine.open.clear()
    gc.disable()
    try:
        del future
        assert gone() is None
    finally:
        gc.enable()


def test_standard_misuse_is_refused_as_ever() -> None:
    _, future = make()
    end(future)
    with pytest.raises(InvalidStateError):
        future.set_result(1)
    assert "finished" in repr(future)


# -- waiting ----------------------------------------------------------------------------------


@pytest.mark.parametrize("waiter", ["result", "exception"])
def test_a_thread_that_waits_is_woken(waiter: str) -> None:
    _, future = make()
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(getattr(future, waiter)(PATIENCE)))
    thread.start()
    end(future)
    thread.join(PATIENCE)
    assert got == ["value" if waiter == "result" else None]


def test_many_threads_may_wait_while_the_outcome_arrives() -> None:
    for _ in range(50):
        _, future = make()
        got: list[Any] = []
        barrier = threading.Barrier(4)

        def consume(future: Any = future, got: Any = got, barrier: Any = barrier) -> None:
            barrier.wait(PATIENCE)
            got.append(future.result(PATIENCE))

        threads = [threading.Thread(target=consume) for _ in range(3)]
        for thread in threads:
            thread.start()
        barrier.wait(PATIENCE)
        end(future)
        for thread in threads:
            thread.join(PATIENCE)
        assert got == ["value"] * 3


def test_wait_and_as_completed_see_it_end() -> None:
    futures = [make()[1] for _ in range(3)]
    end(futures[1])
    done, rest = wait(futures, timeout=PATIENCE, return_when=FIRST_COMPLETED)
    assert done == {futures[1]}
    assert rest == {futures[0], futures[2]}
    completed = as_completed(futures, timeout=PATIENCE)
    assert next(completed) is futures[1]
    end(futures[2])
    assert next(completed) is futures[2]
    futures[0].cancel()
    assert next(completed) is futures[0]


def test_asyncio_can_wrap_it() -> None:
    _, future = make()

    async def main() -> Any:
        wrapped = asyncio.wrap_future(future)
        threading.Thread(target=end, args=(future,)).start()
        return await asyncio.wait_for(wrapped, PATIENCE)

    assert asyncio.run(main()) == "value"


# -- cancelling -------------------------------------------------------------------------------


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


# -- callbacks --------------------------------------------------------------------------------


@pytest.mark.parametrize("ending", ["value", "cancel", "cancelled in the worker"])
def test_callbacks_are_called_once_with_the_future(ending: str) -> None:
    _, future = make()
    called: list[Any] = []
    future.add_done_callback(lambda f: called.append((f, f.done())))
    if ending == "cancel":
        future.cancel()
    else:
        end(future, messages.VALUE if ending == "value" else messages.CANCELLED)
    assert called == [(future, True)]


def test_a_callback_added_after_the_end_is_called_at_once() -> None:
    _, future = make()
    end(future)
    called: list[Any] = []
    future.add_done_callback(called.append)
    assert called == [future]


def test_a_callback_that_raises_keeps_none_of_the_others_from_theirs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, future = make()
    called: list[Any] = []

    def fails(_: Any) -> None:
        raise ValueError("in a callback")

    future.add_done_callback(fails)
    future.add_done_callback(called.append)
    end(future)
    assert called == [future]
    assert future.result() == "value"
    assert "in a callback" in caplog.text


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a thread has begun to wait for a future."""
    begun = threading.Event()
    real = native.wait

    def noted(*arguments: Any) -> bool:
        begun.set()
        return real(*arguments)

    monkeypatch.setattr(native, "wait", noted)
    return begun


@pytest.mark.parametrize("ending", ["value", "cancel", "set_result"])
def test_a_thread_that_waits_hears_of_the_end_before_callbacks_do(
    ending: str, waits: threading.Event
) -> None:
    _, future = make()
    told = threading.Event()
    in_time: list[bool] = []

    def wait_for_it() -> None:
        with contextlib.suppress(CancelledError):
            future.result(PATIENCE)
        told.set()

    thread = threading.Thread(target=wait_for_it)
    thread.start()
    assert waits.wait(PATIENCE)
    future.add_done_callback(lambda _: in_time.append(told.wait(2)))
    if ending == "value":
        end(future)
    elif ending == "cancel":
        future.cancel()
    else:
        future.set_result("value")
    thread.join(PATIENCE)
    assert in_time == [True]


def test_an_exit_out_of_a_callback_leaves_nobody_waiting(waits: threading.Event) -> None:
    _, future = make()
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(future.result(PATIENCE)))
    thread.start()
    assert waits.wait(PATIENCE)

    def leave(_: object) -> None:
        raise SystemExit

    future.add_done_callback(leave)
    began = time.monotonic()
    with pytest.raises(SystemExit):
        end(future)
    thread.join(PATIENCE)
    assert got == ["value"]
    assert time.monotonic() - began < PATIENCE / 2


@pytest.mark.parametrize("ending", ["value", "cancel"])
def test_callbacks_may_wait_for_threads_that_look_at_the_future(ending: str) -> None:
    _, future = make()
    ended: list[bool] = []

    def look() -> None:
        future.cancelled()
        future.exception(timeout=0) if ending == "value" else future.cancel()

    def callback(_: Any) -> None:
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        thread.join(2)
        ended.append(not thread.is_alive())

    future.add_done_callback(callback)
    future.cancel() if ending == "cancel" else end(future)
    assert ended == [True]

"""Futures of calls: outcomes and waiting."""

from __future__ import annotations

import asyncio
import gc
import threading
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

from hybridexec.errors import WorkerLost
from hybridexec.parent.work.batch import LOST
from hybridexec.wire import messages, payload

from .futures import PATIENCE, call_of, end, make

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


# -- waiters that are told --------------------------------------------------------------------


class Letter:
    """Counts how often it is released."""

    def __init__(self) -> None:
        self.released = 0

    def release(self) -> None:
        self.released += 1


def told(future: Any) -> Letter:
    letter = Letter()
    assert future.tell(letter)
    return letter


def test_a_letter_is_released_when_the_call_ends() -> None:
    _, future = make()
    letter = told(future)
    assert letter.released == 0
    end(future)
    assert letter.released == 1
    assert future.result() == "value"


def test_a_letter_is_released_when_the_call_is_cancelled() -> None:
    _, future = make()
    letter = told(future)
    future.cancel()
    assert letter.released == 1


def test_a_letter_is_released_at_once_if_the_call_has_ended() -> None:
    _, future = make()
    end(future)
    assert told(future).released == 1


def test_a_letter_is_released_when_others_wait_as_well() -> None:
    _, future = make()
    letter = told(future)
    seen: list[Any] = []
    future.add_done_callback(seen.append)
    assert not future.tell(Letter())
    end(future)
    assert letter.released == 1
    assert seen == [future]


def test_who_comes_second_is_told_by_a_callback() -> None:
    _, future = make()
    letter = told(future)
    assert not future.tell(Letter())
    with pytest.raises(TimeoutError):
        future.result(timeout=0)
    end(future)
    assert letter.released == 1

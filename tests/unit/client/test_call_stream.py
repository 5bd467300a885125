"""The items of a call: their order, its end, what workers are told, and who is woken."""

from __future__ import annotations

import asyncio
import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, InvalidStateError
from typing import Any

import pytest

from hybridexec.parent.client.arrivals import Arrivals
from hybridexec.parent.client.call_stream import CallStream
from hybridexec.parent.work.batch import UNPICKLABLE, Batch, Values, Yielded
from hybridexec.wire import messages, payload

from ..fakes import FUNCTION, OPTIONS, FakeEngine


class Stream:
    """A call whose items come when the test says so."""

    def __init__(self, window: int = 4, **options: Any) -> None:
        self.engine = FakeEngine()
        fake: Any = self.engine
        self.arrivals = Arrivals(fake, window)
        self.batch = self.arrivals.batch = Batch(
            FUNCTION, [()], self.arrivals, OPTIONS._replace(**options), 0
        )
        self.stream: CallStream[Any] = CallStream(self.arrivals)

    def give(self, *values: Any, packed: bool = False) -> None:
        self.arrivals.deliver(self.passed_on(*values, packed=packed))

    def passed_on(self, *values: Any, packed: bool = False) -> Yielded:
        """Items, before they are delivered."""
        first = self.batch.yielded
        self.batch.yielded += len(values)
        return Yielded(first, packed, list(values))

    def end(self, value: Any = None) -> None:
        self.batch.remaining = 0
        self.arrivals.deliver(Values(0, [value]))

    def fail(self, error: BaseException) -> None:
        self.batch.remaining = 0
        self.arrivals.deliver([(0, UNPICKLABLE, error, None, None, None)])


def test_items_come_in_order_and_then_the_end() -> None:
    made = Stream()
    made.give(1, 2)
    made.give(3)
    made.end("returned")
    assert [next(made.stream), next(made.stream), next(made.stream)] == [1, 2, 3]
    with pytest.raises(InvalidStateError):
        _ = made.stream.value
    with pytest.raises(StopIteration) as info:
        next(made.stream)
    assert info.value.value == "returned"
    assert made.stream.value == "returned"
    with pytest.raises(StopIteration) as info:
        next(made.stream)
    assert info.value.value is None, "as a generator, it says so once"


def test_deliveries_may_overtake_each_other() -> None:
    made = Stream()
    first, second, third = made.passed_on(1, 2), made.passed_on(3), made.passed_on(4)
    made.end("returned")
    for items in (third, first, second):
        made.arrivals.deliver(items)
    assert list(made.stream) == [1, 2, 3, 4]
    assert made.stream.value == "returned"


def test_yield_from_makes_the_returned_value_of_it() -> None:
    made = Stream()
    made.give(1)
    made.end("returned")

    def outer() -> Iterator[Any]:
        value = yield from made.stream
        yield value

    assert list(outer()) == [1, "returned"]


def test_payloads_are_unpickled_where_they_are_fetched() -> None:
    made = Stream()
    items = [{"a": 1}, [2], bytes(100_000)]
    made.give(*map(payload.dumps, items), packed=True)
    made.end()
    assert list(made.stream) == items


def test_an_item_that_cannot_be_unpickled_fails_in_its_place_and_stops_the_call() -> None:
    made = Stream()
    made.give(payload.dumps([1]), b"no pickle", packed=True)
    assert next(made.stream) == [1]
    with pytest.raises(Exception, match="could not be unpickled"):
        next(made.stream)
    assert made.engine.cancelled == [(made.batch, None, True)]
    assert list(made.stream) == []


def test_an_error_is_raised_once_after_the_items_before_it() -> None:
    made = Stream()
    made.give(1)
    made.fail(ValueError("no"))
    assert next(made.stream) == 1
    with pytest.raises(ValueError, match="no"):
        next(made.stream)
    assert list(made.stream) == []
    with pytest.raises(InvalidStateError):
        _ = made.stream.value


def test_an_error_that_would_end_a_loop_does_not() -> None:
    made = Stream()
    made.fail(StopIteration(3))
    with pytest.raises(RuntimeError, match="raised StopIteration"):
        list(made.stream)


@pytest.mark.parametrize(
    ("options", "item", "told"),
    [({"retries": 2}, [1], True), ({"retries": 2}, [], False), ({}, [1], False)],
)
def test_an_error_says_why_its_call_was_not_run_again(
    options: dict[str, Any], item: list[int], told: bool
) -> None:
    made = Stream(**options)
    made.give(*item)
    made.fail(ValueError("no"))
    with pytest.raises(ValueError, match="no") as info:
        list(made.stream)
    notes = getattr(info.value, "__notes__", [])
    assert any("not run again" in note for note in notes) is told


# -- what workers are told ------------------------------------------------------------------------


def test_it_tells_by_halves_of_the_window_and_before_it_waits() -> None:
    made = Stream(window=4)
    made.give(1, 2, 3)
    next(made.stream), next(made.stream)
    assert made.engine.fetched == [2]
    next(made.stream)
    assert made.engine.fetched == [2]
    tell, told = made.engine.tell_fetched, threading.Event()

    def tell_and_note(*what: Any) -> None:
        tell(*what)
        told.set()

    made.engine.tell_fetched = tell_and_note  # type: ignore[method-assign]
    giver = threading.Thread(target=lambda: made.give(4) if told.wait(30) else None)
    giver.start()
    next(made.stream)
    giver.join()
    assert made.engine.fetched == [2, 3]


def test_it_tells_nothing_of_a_call_that_has_ended() -> None:
    made = Stream(window=1)
    made.give(1, 2)
    made.end()
    assert list(made.stream) == [1, 2]
    assert made.engine.fetched == []


# -- closing --------------------------------------------------------------------------------------


def close(made: Stream) -> None:
    made.stream.close()


def leave(made: Stream) -> None:
    with made.stream:
        pass


def leave_async(made: Stream) -> None:
    async def block() -> None:
        async with made.stream:
            pass

    asyncio.run(block())


def aclose(made: Stream) -> None:
    asyncio.run(made.stream.aclose())


@pytest.mark.parametrize("way", [close, leave, leave_async, aclose])
def test_it_is_closed_once(way: Callable[[Stream], None]) -> None:
    made = Stream()
    made.give(1)
    way(made)
    way(made)
    assert made.engine.cancelled == [(made.batch, None, True)]
    assert list(made.stream) == []


def test_one_that_nobody_refers_to_is_closed() -> None:
    made = Stream()
    del made.stream
    gc.collect()
    assert made.engine.cancelled == [(made.batch, None, True)]


def test_one_that_has_ended_is_not_cancelled() -> None:
    made = Stream()
    made.end()
    assert list(made.stream) == []
    made.stream.close()
    del made.stream
    assert made.engine.cancelled == []


def test_closing_it_wakes_who_waits() -> None:
    made = Stream()
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(list(made.stream)))
    thread.start()
    made.stream.close()
    thread.join(20)
    assert got == [[]]


# -- its consumer waits for the engine's end ------------------------------------------------------


def test_what_is_not_full_runs_on_when_its_consumer_leaves() -> None:
    made = Stream(window=3)
    made.give(1)
    made.arrivals.leave(awaits=False)
    made.give(2)
    made.end()
    assert list(made.stream) == [1, 2]
    assert made.engine.cancelled == []


@pytest.mark.parametrize("before", [True, False])
def test_what_would_wait_for_a_consumer_who_has_left_is_cancelled(before: bool) -> None:
    made = Stream(window=3)
    made.give(1)
    next(made.stream)
    steps = [lambda: made.give(2, 3, 4), lambda: made.arrivals.leave(awaits=False)]
    for step in steps if before else steps[::-1]:
        step()
    assert made.engine.fetched == [1], "what was fetched makes room"
    assert made.engine.cancelled == [(made.batch, None, True)]
    assert [next(made.stream) for _ in range(3)] == [2, 3, 4]
    with pytest.raises(CancelledError):
        next(made.stream)


def test_what_another_thread_fetches_goes_on() -> None:
    made = Stream(window=1)
    made.give(1)
    thread = threading.Thread(target=lambda: next(made.stream))
    thread.start()
    thread.join()
    made.give(2)
    made.arrivals.leave(awaits=False)
    assert made.engine.cancelled == []


# -- asynchronous iteration -----------------------------------------------------------------------


def test_async_for_waits_for_items_that_come_from_elsewhere() -> None:
    made = Stream()

    async def main() -> list[Any]:
        giver = threading.Timer(0.01, lambda: (made.give(1, 2), made.give(3), made.end("r")))
        giver.start()
        return [item async for item in made.stream]

    assert asyncio.run(main()) == [1, 2, 3]
    assert made.stream.value == "r"


def test_an_item_is_not_lost_when_its_task_is_cancelled() -> None:
    made = Stream()

    async def main() -> list[Any]:
        for _ in range(3):
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(anext(made.stream), 0.001)
        assert not made.arrivals._letters
        made.give(1)
        made.end()
        return [item async for item in made.stream]

    assert asyncio.run(main()) == [1]


def test_other_tasks_have_their_turn_though_items_never_run_out() -> None:
    made = Stream(window=10_000)
    made.give(*range(10_000))
    made.end()
    turns = 0

    async def other() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def main() -> None:
        task = asyncio.create_task(other())
        async for _ in made.stream:
            pass
        task.cancel()

    asyncio.run(main())
    assert turns > 50


def test_a_loop_that_has_ended_keeps_nobody_from_the_items() -> None:
    made = Stream()
    loop = asyncio.new_event_loop()

    async def wait() -> Any:
        return await anext(made.stream)

    task = loop.create_task(wait())
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    made.give(1)
    assert next(made.stream) == 1
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # it is meant to be


def test_for_and_async_for_take_turns() -> None:
    made = Stream()
    made.give(1, 2, 3)
    made.end()
    assert next(made.stream) == 1

    async def one() -> Any:
        return await anext(made.stream)

    assert asyncio.run(one()) == 2
    assert list(made.stream) == [3]


def test_the_end_is_told_once() -> None:
    for end, error in [(Stream.end, type(None)), (close, GeneratorExit)]:
        made = Stream()
        told: list[type] = []
        made.arrivals.on_end = lambda error, told=told: told.append(type(error))  # type: ignore[misc]
        end(made)
        list(made.stream)
        made.stream.close()
        assert told == [error]


def test_a_cancelled_call_raises_that() -> None:
    made = Stream(retries=3)
    made.give(1)
    made.arrivals.deliver([(0, messages.CANCELLED, "all", None, None, None)])
    assert next(made.stream) == 1
    with pytest.raises(CancelledError):
        next(made.stream)

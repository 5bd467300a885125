"""Streaming calls in a worker: what they send, when they wait, and what closes them."""

from __future__ import annotations

import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from hybridexec.wire.payload import loads
from hybridexec.wire.surrounded import Surrounded
from hybridexec.worker.rows import Yields
from hybridexec.worker.sources import Sources, Streaming, install

CALL = 5


class Stopped(BaseException):
    """Raised in a call that is stopped where it waits."""


class Event:
    """Does in place of waiting what the test wants."""

    def __init__(self, lane: Lane) -> None:
        self._lane = lane
        self.waited = 0

    def set(self) -> None:
        pass

    def clear(self) -> None:
        pass

    def wait(self) -> None:
        self.waited += 1
        self._lane.meanwhile()


class Lane:
    """Runs one call, and keeps what it puts out."""

    def __init__(self) -> None:
        self.put: list[Any] = []
        self.got: list[Any] = []
        self.meanwhile: Callable[[], object] = self.fetch
        self.event = Event(self)
        self.stop: BaseException | None = None
        self.sources = Sources(
            lambda: CALL, self.put.append, lambda: self.event, lambda call: self.stop
        )

    def fetch(self) -> None:
        """Take what was put out, and say so."""
        self.take()
        self.sources.more(CALL, len(self.got))
        self.sources.look()

    def take(self) -> None:
        entries, self.put[:] = self.put[:], []
        for entry in entries:
            assert isinstance(entry, Yields)
            assert entry.call == CALL
            self.got += [loads(value) if entry.packed else value for value in entry.take()]

    def run(self, function: Callable[..., Any], *args: Any, window: int = 3) -> Any:
        return Streaming(window, self.sources, function)(*args)


@pytest.fixture
def lane() -> Lane:
    return Lane()


def count(numbers: int) -> Iterator[int]:
    yield from range(numbers)
    return "that was it"  # type: ignore[return-value]


def test_it_sends_what_is_yielded_and_returns_what_is_returned(lane: Lane) -> None:
    assert lane.run(count, 10) == "that was it"
    lane.take()
    assert lane.got == list(range(10))
    assert lane.event.waited == 3


def test_plain_items_and_others_stay_in_order(lane: Lane) -> None:
    items = [1, {"a": 1}, {"b": 2}, "text", [3], (1, 2), ((1,), 2)]
    assert lane.run(lambda: items, window=100) is None
    assert [entry.packed for entry in lane.put] == [False, True, False, True, False, True]
    lane.take()
    assert lane.got == items


def test_items_that_come_fast_leave_together_until_they_are_taken(lane: Lane) -> None:
    lane.run(count, 5, window=100)
    assert len(lane.put) == 1
    assert lane.put[0].values == [0, 1, 2, 3, 4]


def test_it_is_never_further_ahead_than_its_window(lane: Lane) -> None:
    ahead = []

    def watched() -> Iterator[int]:
        for n in range(20):
            ahead.append(n - len(lane.got))
            yield n

    lane.run(watched, window=4)
    assert max(ahead) == 3  # with that which is being made, four


@pytest.mark.parametrize("result", [7, None, object()])
def test_what_cannot_be_iterated_is_refused_by_name(lane: Lane, result: object) -> None:
    def one() -> object:
        return result

    with pytest.raises(TypeError, match=f"one returned an object of type {type(result).__name__}"):
        lane.run(one)


def test_what_only_a_loop_can_iterate_is_refused_by_its_remedy(lane: Lane) -> None:
    async def one() -> int:
        return 1

    async def some() -> AsyncIterator[int]:
        yield 1

    for function in (one, some):
        with pytest.raises(TypeError, match=r'options\(lane="async"\)'):
            lane.run(function)


def test_what_a_lambda_a_list_or_an_old_sequence_returns_is_iterated(lane: Lane) -> None:
    class Old:
        def __getitem__(self, place: int) -> int:
            return "ab"[place]  # type: ignore[return-value]

    for function in (lambda: iter("ab"), lambda: ["a", "b"], lambda: "ab", Old):
        lane.got.clear()
        lane.run(function)
        lane.take()
        assert lane.got == ["a", "b"]


def test_the_generator_is_closed_where_its_call_is_stopped(lane: Lane) -> None:
    how: list[str] = []

    def stop() -> None:
        raise Stopped

    def endless() -> Iterator[int]:
        try:
            while True:
                yield 0
        except GeneratorExit:
            how.append("closed")
            raise

    lane.meanwhile = stop
    with pytest.raises(Stopped):
        lane.run(endless)
    assert how == ["closed"]
    lane.sources.more(CALL, 3)  # it is not there any more
    assert not lane.sources.stirred


def test_one_that_has_swallowed_its_stop_is_closed_when_it_would_wait(lane: Lane) -> None:
    closed: list[int] = []

    def deaf() -> Iterator[int]:
        n = 0
        try:
            for n in range(100):
                lane.stop = Stopped()
                yield n
        finally:
            closed.append(n)

    with pytest.raises(Stopped):
        lane.run(deaf, window=4)
    assert closed == [3]
    assert lane.event.waited == 0


def test_what_cannot_be_pickled_fails_after_what_was_yielded(lane: Lane) -> None:
    closed: list[bool] = []

    def locks() -> Iterator[Any]:
        try:
            yield 1
            yield threading.Lock()
        finally:
            closed.append(True)

    with pytest.raises(TypeError, match=r"an item that .*locks yielded, of type \S*lock") as info:
        lane.run(locks)
    assert "Yield plain data" in str(info.value)
    assert closed == [True]
    lane.take()
    assert lane.got == [1]


def test_an_error_comes_after_the_items_before_it(lane: Lane) -> None:
    def bad() -> Iterator[int]:
        yield 1
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        lane.run(bad)
    lane.take()
    assert lane.got == [1]


def test_in_a_child_it_waits_for_nobody(lane: Lane) -> None:
    lane.meanwhile = lane.sources.let_go
    assert lane.run(count, 100) == "that was it"
    assert lane.event.waited == 1


def test_what_surrounds_a_call_surrounds_all_of_it(lane: Lane) -> None:
    inside: list[bool] = [False]

    class Around(Surrounded):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            inside[0] = True
            try:
                return self.function(*args, **kwargs)
            finally:
                inside[0] = False

    def look() -> Iterator[bool]:
        yield inside[0]

    around = Around(Around(look))
    streaming = install(around, lambda function: Streaming(3, lane.sources, function))
    streaming()
    lane.take()
    assert lane.got == [True]
    assert around.function.function is look, "other calls may share it"


def test_the_name_is_that_of_the_function(lane: Lane) -> None:
    assert Streaming(3, lane.sources, count).__qualname__ == "count"

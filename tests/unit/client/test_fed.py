"""Streams that are fed: how far ahead they read, and their ends, over an engine that runs nothing
by itself."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridexec.parent.client.fed import FedStream

from ..fakes import FUNCTION, OPTIONS, FakeEngine


class Stop(Exception):
    """What an iterable raises."""


def make(
    items: Iterable[Any],
    *,
    chunksize: int = 1,
    ordered: bool = True,
    least: int = 4,
    most: int | None = 8,
    buffersize: int | None = None,
    over: Callable[[], None] | None = None,
) -> tuple[FakeEngine, FedStream]:
    engine: Any = FakeEngine()
    stream = FedStream(
        engine, FUNCTION, None, True, OPTIONS, ordered, least, most, buffersize, over
    )
    stream.begin(items, chunksize)
    return engine, stream


def failing(count: int) -> Iterator[int]:
    yield from range(count)
    raise Stop


def take_all(stream: FedStream) -> list[Any]:
    """The outcomes that are there: values, and the types of errors."""
    taken = []
    while True:
        try:
            outcome = stream.take(0)
        except TimeoutError:
            return [*taken, "waits"]
        if outcome is None:
            return taken
        value, error = outcome
        taken.append(value if error is None else type(error))


def test_it_reads_ahead_of_calls_but_not_of_their_ends() -> None:
    read = []
    engine, stream = make(read.append(n) or n for n in range(100))  # type: ignore[func-returns-value]
    assert not stream.feed(wait=False)
    assert read == list(range(8))
    engine.finish()
    assert not stream.feed(wait=False)
    assert read == list(range(9)), "one more, though nobody has taken an outcome"


def test_an_item_of_a_generator_is_submitted_before_the_next_is_read() -> None:
    def items() -> Iterator[int]:
        for n in range(5):
            assert len(engine.open) == n
            yield n

    engine, stream = make(items())
    assert stream.feed(wait=False)
    assert len(engine.open) == 5


def test_items_that_lie_ready_are_submitted_many_at_a_time() -> None:
    engine, stream = make(list(range(1000)), most=None)
    assert stream.feed(wait=False)
    assert len(engine.open) == 1000
    assert len(engine.batches) < 10


def test_large_arguments_narrow_what_is_read_ahead() -> None:
    engine, stream = make([bytes(1 << 20)] * 100, most=None)
    assert not stream.feed(wait=False)
    assert len(engine.open) == 4
    engine.finish()
    assert not stream.feed(wait=False)
    assert len(engine.open) == 4


@pytest.mark.parametrize(("chunksize", "there"), [(1, 7), (2, 6), (4, 4), (10, 0)])
def test_what_an_iterable_raises_comes_after_the_chunks_that_were_read(
    chunksize: int, there: int
) -> None:
    engine, stream = make(failing(7), chunksize=chunksize, most=100)
    assert stream.feed(wait=False)
    engine.finish_all()
    assert take_all(stream) == [*range(there), Stop]


def test_what_cannot_be_iterated_is_an_outcome() -> None:
    nothing: Any = 5
    _, stream = make(nothing)
    assert stream.feed(wait=False)
    assert take_all(stream) == [TypeError]


@pytest.mark.parametrize("count", [0, 1, 20])
def test_who_waits_is_told_once_when_there_is_an_outcome_for_each_item(count: int) -> None:
    told: list[bool] = []
    engine, stream = make(range(count), most=None, over=lambda: told.append(stream.is_over))
    stream.feed(wait=False)
    assert bool(told) == (count == 0)
    while engine.open:
        assert not told
        engine.finish()
    stream.stop(Stop())
    assert told == [True]
    assert stream.gather() == (list(range(count)), None)


def test_outcomes_that_are_not_taken_count_where_a_bound_says_so() -> None:
    engine, stream = make(iter(range(100)), buffersize=3)
    assert not stream.feed(wait=False)
    assert len(engine.open) == 3
    engine.finish_all()
    assert not stream.feed(wait=False)
    assert not engine.open
    assert stream.take(0) == (0, None)
    assert not stream.feed(wait=False)
    assert len(engine.open) == 1


def test_a_stream_that_is_stopped_ends_with_an_error() -> None:
    engine, stream = make(iter(range(100)), most=2)
    stream.feed(wait=False)
    stream.stop(Stop())
    assert stream.feed(wait=False)
    engine.finish_all()
    assert take_all(stream) == [0, 1, Stop]


def test_a_stream_that_was_read_to_its_end_is_not_stopped() -> None:
    engine, stream = make(range(2))
    stream.feed(wait=False)
    stream.stop(Stop())
    engine.finish_all()
    assert take_all(stream) == [0, 1]


def test_an_engine_that_refuses_fails_the_calls_that_it_has_not_taken() -> None:
    engine, stream = make(list(range(5000)), most=None)
    submit, refusal = engine.submit, RuntimeError("shut down")

    def refuse_later(calls: Any) -> None:
        if engine.batches:
            raise refusal
        submit(calls)

    engine.submit = refuse_later  # type: ignore[method-assign]
    assert stream.feed(wait=False)
    taken = len(engine.open)
    assert 0 < taken < 5000
    engine.finish_all()
    assert stream.is_over
    outcomes = take_all(stream)
    assert outcomes[:taken] == list(range(taken))
    assert set(outcomes[taken:]) == {RuntimeError}


def test_who_feeds_waits_for_room_and_goes_on() -> None:
    engine, stream = make(iter(range(20)), most=2)
    ended = threading.Event()

    def feed() -> None:
        stream.feed(wait=True)
        ended.set()

    thread = threading.Thread(target=feed)
    thread.start()
    while not ended.is_set():
        if engine.open:
            engine.finish()
        ended.wait(0.001)
    thread.join()
    engine.finish_all()
    assert take_all(stream) == list(range(20))


def test_outcomes_of_a_forgotten_stream_are_dropped_and_its_calls_are_made() -> None:
    engine, stream = make(iter(range(20)), most=10)
    stream.feed(wait=False)
    engine.finish()
    stream.forget()
    engine.finish_all()
    assert stream.feed(wait=False) is False
    assert len(engine.open) == 10
    assert not stream._untaken


def test_a_forgotten_stream_with_a_bound_reads_no_more() -> None:
    engine, stream = make(iter(range(20)), buffersize=5)
    stream.feed(wait=False)
    stream.forget()
    assert engine.cancelled
    assert stream.feed(wait=True)
    assert len(engine.open) == 5


def test_who_forgets_a_stream_while_it_is_fed_cancels_all_that_is_sent(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    engine, stream = make(iter(range(20)), buffersize=5)
    submit, cancel = engine.submit, engine.cancel

    def submit_and_forget(calls: Any) -> None:
        submit(calls)
        stream.forget()  # as another thread, in the middle of it

    def cancel_and_submit(batch: Any, *how: Any) -> None:
        cancel(batch, *how)
        if len(engine.cancelled) == 1:
            stream._submit([77])  # who feeds was about to

    monkeypatch.setattr(engine, "cancel", cancel_and_submit)
    monkeypatch.setattr(engine, "submit", submit_and_forget)
    assert stream.feed(wait=True)
    assert [batch for batch, *_ in engine.cancelled] == engine.batches
    assert not stream._batches


def test_a_fork_gets_what_was_there_and_an_error_then() -> None:
    engine, stream = make(range(3))
    stream.feed(wait=False)
    engine.finish()
    engine.inert = True
    engine.check_open = lambda: exec("raise RuntimeError('forked')")  # type: ignore[attr-defined]
    assert stream.take(None) == (0, None)
    with pytest.raises(RuntimeError, match="forked"):
        stream.take(None)


@settings(deadline=None)
@given(
    size=st.integers(0, 60),
    chunksize=st.integers(1, 5),
    most=st.none() | st.integers(1, 20),
    buffersize=st.none() | st.integers(1, 20),
    sized=st.booleans(),
    choices=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 100)), max_size=200),
)
def test_every_item_has_one_outcome_whatever_happens_when(
    size: int,
    chunksize: int,
    most: int | None,
    buffersize: int | None,
    sized: bool,
    choices: list[tuple[int, int]],
) -> None:
    items = list(range(size))
    engine, stream = make(
        items if sized else iter(items), chunksize=chunksize, most=most, buffersize=buffersize
    )
    got: list[Any] = []

    def take() -> None:
        try:
            outcome = stream.take(0)
        except TimeoutError:
            return
        if outcome is not None:
            got.append(outcome[0])

    def check() -> None:
        slack = chunksize - 1
        if most is not None:
            assert len(engine.open) <= most + slack
        if buffersize is not None:
            assert stream._submitted - len(got) <= buffersize + slack

    for what, number in choices:
        if what == 0:
            stream.feed(wait=False)
        elif what == 1 and engine.open:
            engine.finish(number % len(engine.open))
        elif what == 2 and engine.open:
            engine.finish_row(number % 5)
        else:
            take()
        check()
    for _ in range(3 * size + 3):
        stream.feed(wait=False)
        engine.finish_all()
        take()
        check()
    assert got == items
    assert stream.is_over
    assert stream.take(0) is None

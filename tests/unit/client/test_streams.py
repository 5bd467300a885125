"""Streams: order, bounds, refills and ends, over an engine that runs nothing by itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from itertools import count
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridexec.parent.client.sending import ARGUMENTS_NOTE
from hybridexec.parent.work.batch import UNPICKLABLE
from hybridexec.wire import messages

from .stream_outcomes import make, outcomes_of, values


class Refuses:
    """Cannot be pickled."""

    def __reduce__(self) -> Any:
        raise RuntimeError("leave me here")


# -- order ------------------------------------------------------------------------------------


def test_an_ordered_stream_hands_out_in_the_order_of_the_items() -> None:
    engine, stream = make(range(5))
    stream.fill()
    for number in (4, 1, 0, 0, 0):
        engine.finish(number)
    assert values(outcomes_of(stream)) == [0, 1, 2, 3, 4]


def test_an_ordered_stream_waits_for_the_first_not_for_all() -> None:
    engine, stream = make(range(3))
    stream.fill()
    outcomes = outcomes_of(stream)
    engine.finish()
    assert values([next(outcomes)]) == [0]
    engine.finish_all()
    assert values(outcomes) == [1, 2]


def test_an_unordered_stream_hands_out_as_calls_end() -> None:
    engine, stream = make(range(5), ordered=False)
    stream.fill()
    for number in (4, 1, 0, 0, 0):
        engine.finish(number)
    assert values(outcomes_of(stream)) == [4, 1, 0, 2, 3]


def test_each_outcome_names_the_place_of_its_item() -> None:
    engine, stream = make("abc", ordered=False)
    stream.fill()
    for number in (2, 0, 0):
        engine.finish(number)
    assert [(o[0], o[2]) for o in outcomes_of(stream)] == [(2, "c"), (0, "a"), (1, "b")]


@given(
    size=st.integers(0, 60),
    bound=st.none() | st.integers(1, 20),
    ordered=st.booleans(),
    choices=st.lists(st.integers(0, 100), max_size=60),
)
def test_every_item_is_handed_out_once_whatever_the_order_of_ends(
    size: int, bound: int | None, ordered: bool, choices: list[int]
) -> None:
    engine, stream = make(range(size), bound=bound, ordered=ordered)
    stream.fill()
    outcomes = outcomes_of(stream)
    got: list[int] = []
    picks = iter(choices)
    while len(got) < size:
        fetchable = 0
        while engine.open and not fetchable:
            pick = next(picks, 0)
            if pick % 3:
                engine.finish(pick % len(engine.open))
            else:
                engine.finish_row(pick)
            fetchable = len(stream._arrived) + (len(got) in stream._by_place)
        got += values([next(outcomes)])
    assert next(outcomes, None) is None
    assert sorted(got) == list(range(size))
    if ordered:
        assert got == list(range(size))


def test_no_items_are_no_outcomes() -> None:
    for bound in (None, 3):
        engine, stream = make([], bound=bound)
        assert list(outcomes_of(stream)) == []
        assert not engine.batches


# -- bounds -----------------------------------------------------------------------------------


def test_without_a_bound_all_items_are_submitted_at_once() -> None:
    engine, stream = make(range(10_000))
    stream.fill()
    assert len(engine.open) == 10_000


@pytest.mark.parametrize("bound", [1, 2, 3, 10, 100])
@pytest.mark.parametrize("ordered", [True, False])
def test_no_more_calls_than_the_bound_are_unfinished_or_unfetched(
    bound: int, ordered: bool
) -> None:
    read = 0

    def items() -> Iterator[int]:
        nonlocal read
        for item in range(5 * bound):
            read += 1
            yield item

    engine, stream = make(items(), bound=bound, ordered=ordered)
    outcomes = outcomes_of(stream)
    stream.fill()
    assert read == bound
    for fetched in range(1, 5 * bound + 1):
        if engine.open:
            engine.finish()
        next(outcomes)
        assert read - fetched <= bound
    assert read == 5 * bound


def test_endless_items_are_read_as_outcomes_are_fetched() -> None:
    engine, stream = make(count(), bound=8)
    outcomes = outcomes_of(stream)
    stream.fill()
    got = []
    for _ in range(100):
        engine.finish()
        got += values([next(outcomes)])
    assert got == list(range(100))


def test_a_bounded_stream_is_refilled_many_items_at_a_time() -> None:
    engine, stream = make(range(1000), bound=100)
    outcomes = outcomes_of(stream)
    stream.fill()
    while engine.open:
        engine.finish()
        next(outcomes)
    assert next(outcomes, None) is None
    assert len(engine.batches) < 1000 / 20


def test_items_are_not_read_in_advance_of_the_first_fetch() -> None:
    def items() -> Iterator[int]:
        pytest.fail("nobody has asked for an outcome")
        yield 0

    make(items(), bound=5)


def test_an_error_of_the_iterable_reaches_the_consumer_after_what_came_before() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise LookupError("no more")

    engine, stream = make(items(), bound=1)
    outcomes = outcomes_of(stream)
    stream.fill()
    engine.finish()
    assert values([next(outcomes)]) == [1]
    engine.finish()
    with pytest.raises(LookupError, match="no more"):
        list(outcomes)


# -- what cannot be pickled -------------------------------------------------------------------


@pytest.mark.parametrize("bad", [0, 2, 4])
def test_an_item_that_cannot_be_pickled_fails_alone(bad: int) -> None:
    items: list[Any] = ["a", "b", "c", "d", "e"]
    items[bad] = Refuses()
    engine, stream = make(items)
    stream.fill()
    engine.finish_all()
    outcomes = list(outcomes_of(stream))
    assert [o[0] for o in outcomes] == [0, 1, 2, 3, 4]
    assert [o[1] for o in outcomes if o[0] != bad] == [messages.VALUE] * 4
    assert [o[2] for o in outcomes if o[0] != bad] == [i for i in items if type(i) is str]
    status, error = outcomes[bad][1:3]
    assert status == UNPICKLABLE
    assert type(error) is RuntimeError
    assert error.__notes__[-1] == ARGUMENTS_NOTE  # since Python 3.14, pickle has notes of its own


def test_items_that_cannot_be_pickled_fail_each_for_itself() -> None:
    engine, stream = make([Refuses(), Refuses(), Refuses()])
    errors = values(outcomes_of(stream))
    assert len({id(error) for error in errors}) == 3
    assert not engine.batches


def test_items_that_cannot_be_pickled_count_against_the_bound() -> None:
    _, stream = make([Refuses() for _ in range(20)], bound=3)
    assert len(list(outcomes_of(stream))) == 20


def test_a_function_that_cannot_be_pickled_fails_every_call() -> None:
    refusal = RuntimeError("no function")
    engine, stream = make(range(7), bound=3, refusal=refusal)
    outcomes = list(outcomes_of(stream))
    assert [(o[0], o[1], o[2]) for o in outcomes] == [(n, UNPICKLABLE, refusal) for n in range(7)]
    assert not engine.batches


def test_mixed_items_travel_plainly_where_they_can() -> None:
    engine, stream = make([1, [2], "3"])
    stream.fill()
    (batch,) = engine.batches
    assert [type(item) for item in batch.items] == [bytes, bytes, bytes]
    engine.finish_all()
    assert values(outcomes_of(stream)) == [1, [2], "3"]


def test_large_items_are_submitted_before_all_are_pickled() -> None:
    engine, stream = make([bytes([n]) * 1_000_000 for n in range(20)])
    stream.fill()
    assert len(engine.batches) > 2
    assert all(batch.size <= 6 for batch in engine.batches)
    assert {batch.weight // 100_000 for batch in engine.batches} == {10}
    assert [batch.offset for batch in engine.batches] == [
        sum(batch.size for batch in engine.batches[:n]) for n in range(len(engine.batches))
    ]
    engine.finish_all()
    assert [value[0] for value in values(outcomes_of(stream))] == list(range(20))


def test_what_large_items_weigh_is_spread_over_their_batch() -> None:
    engine, stream = make([1, bytes(100_000), "3", [4]])
    stream.fill()
    (batch,) = engine.batches
    assert batch.weight // 1000 == 25
    engine, stream = make(range(4))
    stream.fill()
    assert engine.batches[0].weight == 0


# -- time -------------------------------------------------------------------------------------


def test_a_deadline_that_has_passed_raises_while_nothing_is_there() -> None:
    _, stream = make(range(2))
    with pytest.raises(TimeoutError):
        next(outcomes_of(stream, deadline=time.monotonic() - 1))


def test_a_deadline_that_has_passed_does_not_withhold_what_is_there() -> None:
    engine, stream = make(range(2))
    stream.fill()
    engine.finish()
    outcomes = outcomes_of(stream, deadline=time.monotonic() - 1)
    assert values([next(outcomes)]) == [0]
    with pytest.raises(TimeoutError):
        next(outcomes)


@pytest.mark.parametrize("ordered", [True, False])
def test_a_consumer_that_waits_is_woken_by_an_outcome(ordered: bool) -> None:
    engine, stream = make(range(200), bound=7, ordered=ordered)
    got: list[int] = []
    consumer = threading.Thread(target=lambda: got.extend(values(outcomes_of(stream))))
    consumer.start()
    deadline = time.monotonic() + 20
    while consumer.is_alive() and time.monotonic() < deadline:
        if engine.open:
            engine.finish(-1)
    consumer.join(20)
    assert sorted(got) == list(range(200))


# -- closing ----------------------------------------------------------------------------------


def test_closing_cancels_what_has_not_ended_and_lets_it_run_if_it_has_started() -> None:
    engine, stream = make(range(10))
    stream.fill()
    engine.finish()
    stream.close()
    assert engine.cancelled == [(engine.batches[0], None, False)]


def test_closing_a_finished_stream_cancels_nothing() -> None:
    engine, stream = make(range(10), bound=2)
    outcomes = outcomes_of(stream)
    stream.fill()
    for _ in range(10):
        engine.finish()
        next(outcomes)
    stream.close()
    assert engine.cancelled == []


def test_a_closed_stream_reads_no_more_items() -> None:
    engine, stream = make(count(), bound=4)
    stream.fill()
    stream.close()
    stream.fill()
    assert len(engine.open) == 4


def test_closing_twice_cancels_once() -> None:
    engine, stream = make(range(3))
    stream.fill()
    stream.close()
    stream.close()
    assert len(engine.cancelled) == 1


# -- kept items -------------------------------------------------------------------------------


def test_kept_items_are_found_by_the_place_of_the_outcome() -> None:
    engine, stream = make("abc", bound=2, ordered=False)
    kept = stream.keep_items()
    found = []
    outcomes = outcomes_of(stream)
    stream.fill()
    for number in (1, 0, 0):
        engine.finish(number)
        outcome = next(outcomes)
        found.append((outcome[2], kept.pop(outcome[0])))
    assert found == [("b", "b"), ("a", "a"), ("c", "c")]
    assert not kept

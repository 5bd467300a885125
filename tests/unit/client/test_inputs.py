"""What streams read: frontiers, and what they get back."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hybridexec import Frontier
from hybridexec.parent.client.inputs import input_of
from hybridexec.parent.work.batch import ALL
from hybridexec.wire import messages

from .stream_outcomes import make, outcomes_of, values


def test_what_the_loop_adds_is_called_and_the_loop_ends_when_nothing_is_left() -> None:
    frontier = Frontier([1])
    engine, stream = make(frontier, bound=100, ordered=False)
    got = []
    stream.fill()
    engine.finish()
    for outcome in outcomes_of(stream):
        got.append(outcome[2])
        if outcome[2] < 20:
            frontier.extend([2 * outcome[2], 2 * outcome[2] + 1])
            stream.fill()
            engine.finish_all()
    stream.close()
    assert sorted(got) == list(range(1, 40))
    assert not engine.open


@pytest.mark.parametrize("bound", [1, 2, 5])
def test_the_bound_holds_for_what_is_found(bound: int) -> None:
    frontier = Frontier(range(10))
    engine, stream = make(frontier, bound=bound, ordered=False)
    stream.fill()
    assert len(engine.open) == bound
    engine.finish()
    got = 0
    for outcome in outcomes_of(stream):
        got += 1
        if outcome[2] < 10:
            frontier.add(outcome[2] + 100)
        assert len(engine.open) <= bound
        engine.finish(0) if engine.open else None
    assert got == 20


def test_another_thread_wakes_a_loop_that_waits_for_results() -> None:
    frontier = Frontier([0])
    engine, stream = make(frontier, bound=10, ordered=False)
    got: list[int] = []

    def consume() -> None:
        got.extend(values(outcomes_of(stream)))

    consumer = threading.Thread(target=consume)
    consumer.start()
    while not engine.open:
        pass
    frontier.add(1)
    while len(engine.open) < 2:
        pass
    engine.finish_all()
    consumer.join(30)
    assert sorted(got) == [0, 1]


def test_adding_to_a_full_stream_does_not_keep_it_awake() -> None:
    frontier = Frontier(range(3))
    _, stream = make(frontier, bound=2, ordered=False)
    stream._items.begin(stream)
    stream.fill()
    assert len(frontier) == 1
    frontier.add(9)
    assert stream._items.news
    assert not stream._may_go_on()


def test_a_loop_that_is_left_gives_back_what_it_has_no_result_for() -> None:
    frontier = Frontier(range(6))
    engine, stream = make(frontier, bound=4, ordered=False)
    stream.fill()
    engine.finish_row(3)
    outcomes = outcomes_of(stream)
    assert values([next(outcomes)]) == [0]
    stream.close()
    again = input_of([frontier], False)
    again.begin(stream)
    assert again.read(10) == [1, 2, 3, 4, 5]


def test_what_was_cancelled_with_all_other_calls_is_given_back() -> None:
    frontier = Frontier(range(3))
    source: Any = input_of([frontier], False)
    _, stream = make(frontier, bound=4, ordered=False)
    source.begin(stream)
    source.read(10)
    cancelled = (1, messages.CANCELLED, ALL, None, None, None)
    failed = (0, messages.CANCELLED, None, None, None, None)
    assert list(source.handing([failed, cancelled])) == [failed, cancelled]
    source.close()
    assert len(frontier) == 2


def test_a_second_loop_is_refused_and_takes_nothing_from_the_first() -> None:
    frontier = Frontier(range(3))
    engine, first = make(frontier, bound=1, ordered=False)
    _, second = make(frontier, bound=1, ordered=False)
    first.fill()
    engine.finish()
    outcomes = outcomes_of(first)
    next(outcomes)
    with pytest.raises(RuntimeError, match="another loop reads"):
        next(outcomes_of(second))
    second.close()
    engine.finish_all()
    assert values([next(outcomes)]) == [1]


def test_only_one_unordered_iterable_may_be_a_frontier() -> None:
    with pytest.raises(TypeError, match=r"map_unordered\(\) and outcomes\(\)"):
        input_of([Frontier("ab")], True)
    with pytest.raises(TypeError, match="several iterables"):
        input_of([Frontier("ab"), "xy"], False)

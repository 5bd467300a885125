"""The watchdog: what it decides, from heartbeats, answers and the time alone."""

from __future__ import annotations

import pytest

from hybridexec.parent.pool.watchdog import (
    ANSWER_SECONDS,
    DUMP_SECONDS,
    Ask,
    Discard,
    Dump,
    Over,
    Report,
    Watchdog,
)

LIMIT = 5.0


@pytest.fixture
def dog() -> Watchdog:
    return Watchdog(LIMIT)


def test_a_hub_that_ticks_is_left_alone(dog: Watchdog) -> None:
    for now in range(100):
        assert dog.look(now, {1: now - 0.2, 2: now - LIMIT + 0.01}) == []
    assert not dog.following


def test_a_blocked_hub_is_asked_about_and_reported_once(dog: Watchdog) -> None:
    assert dog.look(105.0, {1: 100.0, 2: 105.0}) == [Ask(1)]
    assert list(dog.following) == [1]
    dog.answered(1, 77, "its stack")
    assert dog.look(105.1, {1: 100.0, 2: 105.0}) == [Report(1, pytest.approx(5.1), 77, "its stack")]
    for now in range(106, 200):
        assert dog.look(now, {1: 100.0, 2: now}) == []
    assert dog.blocker(1) == 77
    assert dog.look(200.0, {1: 199.9, 2: 200.0}) == [Over(1, pytest.approx(99.9))]
    assert dog.blocker(1) == 0
    assert not dog.following
    assert dog.look(200.1, {1: 199.9, 2: 200.0}) == []


def test_each_episode_is_reported(dog: Watchdog) -> None:
    for began in (0.0, 100.0):
        assert dog.look(began + 50, {1: began}) in ([Ask(1)], [Over(1, 100.0), Ask(1)])
        dog.answered(1, 1, "stack")
        (report,) = dog.look(began + 50.1, {1: began})
        assert isinstance(report, Report)


def test_without_an_answer_a_dump_is_tried_and_then_it_is_reported_all_the_same(
    dog: Watchdog,
) -> None:
    beats = {1: 0.0}
    assert dog.look(LIMIT, beats) == [Ask(1)]
    assert dog.look(LIMIT + ANSWER_SECONDS / 2, beats) == []
    dumped_at = LIMIT + ANSWER_SECONDS
    assert dog.look(dumped_at, beats) == [Dump(1)]
    assert dog.look(dumped_at + DUMP_SECONDS / 2, beats) == []
    assert dog.look(dumped_at + DUMP_SECONDS, beats) == [
        Report(1, dumped_at + DUMP_SECONDS, 0, None)
    ]
    assert dog.look(100.0, beats) == []


def test_an_answer_that_comes_late_is_taken(dog: Watchdog) -> None:
    beats = {1: 0.0}
    dog.look(LIMIT, beats)
    assert dog.look(10.0, beats) == [Dump(1)]
    dog.answered(1, 5, "stack")
    assert dog.look(10.01, beats) == [Report(1, 10.01, 5, "stack")]


def test_a_hub_that_ticks_before_the_answer_was_not_blocked(dog: Watchdog) -> None:
    """The machine was asleep, or the parent stopped: all hubs looked late."""
    assert dog.look(1000.0, {1: 900.0, 2: 900.0}) == [Ask(1), Ask(2)]
    dog.answered(1, 0, "")
    dog.answered(2, 3, "stack")
    assert dog.look(1000.1, {1: 1000.05, 2: 1000.05}) == []
    assert not dog.following


def test_a_dump_that_nobody_needs_any_more_is_thrown_away(dog: Watchdog) -> None:
    """Or it would look like a part of what was written at the worker's death."""
    dog.look(LIMIT, {1: 0.0})
    dog.look(10.0, {1: 0.0})
    assert dog.look(10.1, {1: 10.0}) == [Discard(1)]
    assert dog.look(10.2, {1: 10.0}) == []


def test_an_answer_of_the_hub_itself_is_no_stack(dog: Watchdog) -> None:
    dog.look(LIMIT, {1: 0.0})
    dog.answered(1, 0, "")
    assert dog.look(LIMIT + 0.1, {1: 0.0}) == []
    assert dog.look(LIMIT + ANSWER_SECONDS, {1: 0.0}) == [Dump(1)]


def test_one_block_after_another_are_two_episodes(dog: Watchdog) -> None:
    dog.look(LIMIT, {1: 0.0})
    dog.answered(1, 1, "stack")
    dog.look(LIMIT, {1: 0.0})
    assert dog.look(20.0, {1: 10.0}) == [Over(1, 10.0), Ask(1)]


def test_a_worker_that_is_gone_is_forgotten(dog: Watchdog) -> None:
    dog.look(LIMIT, {1: 0.0})
    dog.forget(1)
    dog.answered(1, 1, "stack")
    assert dog.look(10.0, {}) == []
    assert not dog.following
    dog.forget(1)


def test_it_is_looked_at_more_often_while_something_is_unclear(dog: Watchdog) -> None:
    calm = dog.period
    assert calm <= LIMIT / 4
    dog.look(LIMIT, {1: 0.0})
    assert dog.period < calm
    dog.answered(1, 1, "stack")
    dog.look(LIMIT, {1: 0.0})
    assert dog.period == calm, "reported: only its end is waited for"
    assert Watchdog(0.4).period == 0.1

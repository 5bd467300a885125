"""Which workers are found to run their calls one after another, from samples alone."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest

from hybridexec.parent.engine.holdups import SAMPLE_SECONDS, SAMPLES, HeldUp, Holdups

STACK = '  File "a.py", line 1, in call\n    query()\n'

Answer = Callable[[int], tuple[int, str]]
looks = itertools.count()


def sampled(holdups: Holdups, answer: Answer, count: int = SAMPLES) -> list[HeldUp]:
    """What is reported of a worker whose main thread sleeps at each look."""
    found = []
    for number in range(count):
        now = next(looks) * SAMPLE_SECONDS
        assert holdups.look(now, [1]) == [1]
        found.append(holdups.answered(1, now, *answer(number)))
    return [report for report in found if report is not None]


def waiting(number: int) -> tuple[int, str]:
    return number + 1, STACK


def in_the_hub(number: int) -> tuple[int, str]:
    return 0, ""


@pytest.fixture
def holdups() -> Holdups:
    return Holdups()


def test_calls_that_wait_one_after_another_are_reported_with_the_last_of_them(
    holdups: Holdups,
) -> None:
    seconds = (SAMPLES - 1) * SAMPLE_SECONDS
    assert sampled(holdups, waiting) == [HeldUp(1, seconds, SAMPLES, STACK, SAMPLES)]


def test_a_hub_that_sleeps_is_not_reported(holdups: Holdups) -> None:
    assert sampled(holdups, in_the_hub, 5 * SAMPLES) == []


def test_a_hub_that_is_held_now_and_then_is_not_reported(holdups: Holdups) -> None:
    def half(number: int) -> tuple[int, str]:
        return waiting(number) if number % 2 else in_the_hub(number)

    assert sampled(holdups, half, 10 * SAMPLES) == []


def test_a_worker_that_computes_between_is_not_reported(holdups: Holdups) -> None:
    for number in range(5 * SAMPLES):
        now = number * SAMPLE_SECONDS
        asleep = [1] if number % 2 else []
        assert holdups.look(now, asleep) == asleep
        assert holdups.answered(1, now, *waiting(number)) is None


def test_a_place_is_reported_once_and_each_place_is(holdups: Holdups) -> None:
    assert len(sampled(holdups, waiting, 3 * SAMPLES)) == 1
    assert sampled(holdups, waiting, 3 * SAMPLES) == []
    (report,) = sampled(holdups, lambda number: (7, STACK.replace("line 1", "line 2")))
    assert report.call == 7


def test_it_asks_no_more_often_than_it_samples(holdups: Holdups) -> None:
    assert holdups.look(0.0, [1, 2]) == [1, 2]
    assert holdups.look(SAMPLE_SECONDS / 2, [1, 2]) == []


def test_an_answer_that_was_not_asked_for_is_no_sample(holdups: Holdups) -> None:
    for number in range(2 * SAMPLES):
        assert holdups.answered(1, float(number), *waiting(number)) is None


def test_a_worker_that_is_gone_is_forgotten(holdups: Holdups) -> None:
    sampled(holdups, waiting, SAMPLES - 1)
    holdups.forget(1)
    assert sampled(holdups, waiting, SAMPLES - 1) == []

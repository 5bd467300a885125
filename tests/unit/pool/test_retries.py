"""Calls that wait to be tried again: when, in which order, and that none is forgotten."""

from __future__ import annotations

import heapq
from typing import Any

import pytest

from hybridexec.parent.pool.retries import MAX_BACKOFF, Retries, delay
from hybridexec.parent.work.batch import Batch

from ..fakes import FUNCTION, OPTIONS
from ..simulation import Sink


def batch(size: int = 5) -> Batch:
    return Batch(FUNCTION, [(n,) for n in range(size)], Sink(), OPTIONS, 0)


@pytest.mark.parametrize(("retry", "longest"), [(1, 0.1), (2, 0.2), (3, 0.4), (8, 12.8)])
def test_each_wait_is_twice_as_long_less_up_to_a_half(retry: int, longest: float) -> None:
    assert delay(0.1, retry, lambda: 0.0) == pytest.approx(longest / 2)
    assert delay(0.1, retry, lambda: 0.5) == pytest.approx(longest * 0.75)
    assert delay(0.1, retry, lambda: 1.0) == pytest.approx(longest)


@pytest.mark.parametrize("backoff", [0.1, 60.0, 1e308])
@pytest.mark.parametrize("retry", [20, 65, 1000, 10**9])
def test_no_wait_is_longer_than_the_limit(backoff: float, retry: int) -> None:
    assert delay(backoff, retry, lambda: 1.0) == MAX_BACKOFF


def test_no_backoff_is_no_wait() -> None:
    assert delay(0, 1, lambda: 1.0) == 0
    assert delay(0, 1000, lambda: 1.0) == 0


def test_another_thread_may_ask_what_is_due_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    retries = Retries()
    push = heapq.heappush
    told: list[float | None] = []

    def push_when_asked(*arguments: Any) -> None:
        told.append(retries.next_due)
        push(*arguments)
        told.append(retries.next_due)

    monkeypatch.setattr(heapq, "heappush", push_when_asked)
    retries.add(batch(), 0, 3.0)
    assert told == [None, None]
    assert retries.next_due == 3.0


def test_calls_are_handed_out_when_they_are_due_the_soonest_first() -> None:
    retries, calls = Retries(), batch()
    for place, due in ((0, 3.0), (1, 1.0), (2, 2.0), (3, 1.0)):
        retries.add(calls, place, due)
    assert retries.count == 4
    assert retries.next_due == 1.0
    assert retries.take(0.9) == []
    assert retries.take(2.0) == [(calls, 1), (calls, 3), (calls, 2)]
    assert retries.count == 1
    assert retries.next_due == 3.0
    assert retries.take(3.0) == [(calls, 0)]
    assert retries.next_due is None


def test_a_cancelled_call_is_never_handed_out() -> None:
    retries, calls, others = Retries(), batch(), batch()
    assert retries.cancel(calls, (0, 1)) == []
    for place in range(3):
        retries.add(calls, place, 1.0)
    retries.add(others, 0, 1.0)
    assert retries.cancel(calls, (0, 2, 4)) == [0, 2]
    assert retries.cancel(calls, (0, 2, 4)) == []
    assert retries.count == 2
    assert retries.take(1.0) == [(calls, 1), (others, 0)]


def test_nothing_is_due_when_all_were_cancelled() -> None:
    retries, calls = Retries(), batch()
    retries.add(calls, 0, 1.0)
    retries.cancel(calls, (0,))
    assert retries.count == 0
    assert retries.next_due is None
    assert retries.take(5.0) == []


def test_a_call_may_wait_again_after_it_was_handed_out() -> None:
    retries, calls = Retries(), batch()
    retries.add(calls, 0, 1.0)
    assert retries.take(1.0) == [(calls, 0)]
    retries.add(calls, 0, 2.0)
    assert retries.take(1.5) == []
    assert retries.take(2.0) == [(calls, 0)]


def test_clearing_hands_out_all_but_the_cancelled() -> None:
    retries, calls = Retries(), batch()
    for place in range(4):
        retries.add(calls, place, 10.0**place)
    retries.cancel(calls, (2,))
    assert retries.clear() == [(calls, 0), (calls, 1), (calls, 3)]
    assert retries.count == 0
    assert retries.clear() == []

"""Suspects: how the culprit is found among them, and what that costs the others. (How the pool runs
them is in test_recovery.py.)"""

from __future__ import annotations

import random
import weakref
from collections import Counter

import pytest

from hybridexec.parent.pool.quarantine import (
    MAX_ALONE,
    MAX_DEATHS,
    MAX_DEATHS_IN_A_ROW,
    Call,
    Quarantine,
)
from hybridexec.parent.work.batch import Batch

from ..fakes import FUNCTION, OPTIONS, Sink, cancel, is_gone, watched


def some(size: int) -> list[Call]:
    batch = Batch(FUNCTION, [(n,) for n in range(size)], Sink(), OPTIONS, 0)
    return [(batch, place) for place in range(size)]


def number(call: Call) -> int:
    batch, place = call
    return batch.first + place


def places(calls: list[Call]) -> list[int]:
    return [place for _, place in calls]


def implicate(suspects: Quarantine, calls: list[Call], current: int = 0) -> list[Call]:
    return suspects.implicate(calls, len(calls), current, "it died")


# -- groups -----------------------------------------------------------------------------------


def test_those_who_may_have_done_it_are_split_into_four() -> None:
    suspects = Quarantine()
    assert implicate(suspects, some(10)) == []
    assert (suspects.count, suspects.groups) == (10, 4)
    assert [places(suspects.take(100)) for _ in range(4)] == [[0, 1, 2], [3, 4, 5], [6, 7, 8], [9]]
    assert (suspects.count, suspects.groups) == (0, 0)
    assert suspects.take(100) == []


def test_the_one_that_had_the_cpu_is_tried_first_and_alone_the_others_together() -> None:
    suspects, calls = Quarantine(), some(10)
    implicate(suspects, calls, number(calls[4]))
    assert places(suspects.take(100)) == [4]
    assert places(suspects.take(100)) == [0, 1, 2, 3, 5, 6, 7, 8, 9]


def test_the_others_are_split_if_they_have_died_before() -> None:
    suspects, calls = Quarantine(), some(9)
    implicate(suspects, calls)
    while suspects.take(100):
        pass
    implicate(suspects, calls, number(calls[0]))
    assert [places(suspects.take(100)) for _ in range(5)] == [[0], [1, 2], [3, 4], [5, 6], [7, 8]]


def test_one_that_is_not_among_them_had_the_cpu() -> None:
    suspects = Quarantine()
    implicate(suspects, some(4), 12345)
    assert suspects.groups == 4


def test_what_died_last_is_tried_first() -> None:
    suspects, first, second = Quarantine(), some(1), some(1)
    implicate(suspects, first)
    implicate(suspects, second)
    assert suspects.take(9) == second
    assert suspects.take(9) == first


def test_a_group_that_is_larger_than_a_worker_is_handed_out_in_parts() -> None:
    suspects = Quarantine()
    suspects.put_back(some(5))
    assert [places(suspects.take(2)) for _ in range(4)] == [[0, 1], [2, 3], [4], []]


def test_what_had_not_started_is_tried_first_and_as_it_was() -> None:
    suspects, calls = Quarantine(), some(8)
    implicate(suspects, calls[:4])
    suspects.put_back(calls[4:])
    assert places(suspects.take(9)) == [4, 5, 6, 7]
    assert all(not batch.histories or place not in batch.histories for batch, place in calls[4:])
    suspects.put_back([])
    assert suspects.groups == 4


def test_each_death_is_told_of() -> None:
    suspects, calls = Quarantine(), some(2)
    suspects.implicate(calls, 2, 0, "first")
    suspects.implicate(calls[:1], 1, 0, "second")
    assert calls[0][0].history_of(0).texts == ["first", "second"]
    assert calls[0][0].history_of(1).texts == ["first"]


# -- verdicts ---------------------------------------------------------------------------------


def test_a_call_that_dies_alone_again_and_again_is_the_culprit() -> None:
    suspects, calls = Quarantine(), some(1)
    for _ in range(MAX_ALONE - 1):
        assert implicate(suspects, calls) == []
        assert suspects.take(1) == calls
    assert implicate(suspects, calls) == calls
    assert suspects.count == 0
    # Its last run is told of by the error that it fails with.
    assert len(calls[0][0].history_of(0).texts) == MAX_ALONE - 1


def test_the_only_suspect_is_not_alone_if_others_ran_beside_it() -> None:
    suspects, calls = Quarantine(), some(1)
    for _ in range(MAX_ALONE):
        assert suspects.implicate(calls, 2, 0, "it died") == []
        suspects.take(1)


def test_a_call_that_dies_with_others_far_too_often_is_given_up() -> None:
    suspects, calls = Quarantine(), some(2)
    for _ in range(MAX_DEATHS - 1):
        assert implicate(suspects, calls) == []
        while suspects.take(9):
            pass
    assert implicate(suspects, calls) == calls


def test_if_nothing_comes_through_all_are_given_up() -> None:
    suspects, rest = Quarantine(), some(3)
    suspects.put_back(rest)
    for _ in range(MAX_DEATHS_IN_A_ROW - 1):
        assert implicate(suspects, some(1)) == []
    last = some(2)
    given_up = implicate(suspects, last)
    assert given_up[:2] == last
    assert given_up[-3:] == rest
    assert len(given_up) == 2 + MAX_DEATHS_IN_A_ROW - 1 + 3
    assert (suspects.count, suspects.groups) == (0, 0)
    # And a new count begins.
    assert implicate(suspects, some(1)) == []


def test_who_comes_through_gives_all_others_hope() -> None:
    suspects = Quarantine()
    for _ in range(MAX_DEATHS_IN_A_ROW):
        suspects.came_through()
        assert implicate(suspects, some(1)) == []


# -- cancelled --------------------------------------------------------------------------------


def test_a_cancelled_suspect_is_never_handed_out() -> None:
    suspects, calls = Quarantine(), some(6)
    batch = calls[0][0]
    suspects.put_back(calls[:3])
    suspects.put_back(calls[3:])
    cancel(suspects, batch, 1, 3, 4, 5)
    assert suspects.count == 2
    assert places(suspects.take(9)) == [0, 2]  # a group of which none is left is passed over


def test_nothing_is_left_to_try_when_all_were_cancelled() -> None:
    suspects, calls = Quarantine(), some(2)
    suspects.put_back(calls)
    cancel(suspects, calls[0][0], 0, 1)
    assert (suspects.count, suspects.groups) == (0, 0)
    assert suspects.take(9) == []


def test_clearing_hands_out_all_but_the_cancelled() -> None:
    suspects, calls = Quarantine(), some(5)
    implicate(suspects, calls)
    cancel(suspects, calls[0][0], 1)
    assert sorted(places(suspects.clear())) == [0, 2, 3, 4]
    assert (suspects.count, suspects.groups) == (0, 0)
    assert suspects.clear() == []


def test_a_cancelled_suspect_is_let_go() -> None:
    made, batch = Quarantine(), watched()
    seen = weakref.ref(batch)
    made.implicate([(batch, 0), (batch, 1)], 2, 0, "died")
    cancel(made, batch, 0, 1)
    del batch
    assert is_gone(seen)


# -- what it costs ----------------------------------------------------------------------------


def try_all(
    calls: list[Call], culprits: set[int], known: bool, slots: int
) -> tuple[set[int], int, Counter[int]]:
    """All calls are in flight at once in workers of so many slots, and the culprits kill theirs:
    which calls were given up, how many workers died, and how often each call was run."""
    suspects = Quarantine()
    given_up: set[int] = set()
    runs: Counter[int] = Counter()
    deaths = 0
    groups = [calls[start : start + slots] for start in range(0, len(calls), slots)]
    while groups or suspects.count:
        group = groups.pop() if groups else suspects.take(slots)
        guilty = [call for call in group if number(call) in culprits]
        runs.update(map(number, group))
        if guilty:
            deaths += 1
            current = number(random.choice(guilty)) if known else 0
            given_up |= set(map(number, implicate(suspects, group, current)))
        else:
            suspects.came_through()
    return given_up, deaths, runs


@pytest.mark.parametrize(
    ("known", "most_deaths", "most_runs"), [(True, 3, 2), (False, 8, 7)], ids=["known", "unknown"]
)
def test_one_culprit_of_a_thousand_is_given_up_and_nobody_else(
    known: bool, most_deaths: int, most_runs: int
) -> None:
    for culprit in (0, 1, 333, 500, 999):
        calls = some(1000)
        guilty = number(calls[culprit])
        given_up, deaths, runs = try_all(calls, {guilty}, known, slots=1000)
        assert given_up == {guilty}
        assert deaths <= most_deaths + 1  # the one in which it all began
        assert max(runs[number(call)] for call in calls if number(call) != guilty) <= most_runs
        assert runs[guilty] <= MAX_DEATHS


@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("slots", [100, 1000])
def test_fifty_culprits_of_a_thousand_are_given_up_and_nobody_else(known: bool, slots: int) -> None:
    random.seed(slots)
    for _ in range(20):
        calls = some(1000)
        guilty = {number(call) for call in random.sample(calls, 50)}
        given_up, deaths, runs = try_all(calls, guilty, known, slots)
        assert given_up == guilty
        assert deaths <= 50 * (MAX_ALONE + 5)
        assert max(runs.values()) <= MAX_DEATHS


def test_if_all_are_culprits_the_budget_ends_it() -> None:
    calls = some(1000)
    guilty = set(map(number, calls))
    given_up, deaths, _ = try_all(calls, guilty, False, 1000)
    assert given_up == guilty
    assert deaths <= MAX_DEATHS_IN_A_ROW

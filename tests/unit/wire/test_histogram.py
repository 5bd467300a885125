"""Histograms of seconds: how far what is read may be from what was added."""

from __future__ import annotations

import math
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridexec.wire.histogram import WORDS, Histogram, add

SECONDS = st.floats(1e-6, 60_000)


def histogram(values: Iterable[float], at: int = 0) -> Histogram:
    memory = memoryview(bytearray(8 * (WORDS + at)))
    words, times = memory.cast("q"), memory.cast("d")
    for value in values:
        add(words, times, at, value, 1)
    assert not any(words[:at])
    return Histogram.read(words, times, at)


@given(st.lists(SECONDS, min_size=1, max_size=200), st.floats(0, 1))
def test_a_quantile_is_off_by_a_sixteenth_at_most(values: list[float], share: float) -> None:
    exact = sorted(values)[max(1, math.ceil(share * len(values))) - 1]
    (found,) = histogram(values).quantiles(share)
    assert found == pytest.approx(exact, rel=1 / 16 + 1e-9)


@given(st.lists(SECONDS), st.lists(SECONDS))
def test_a_sum_is_the_histogram_of_all_values(some: list[float], others: list[float]) -> None:
    both, whole = histogram(some) + histogram(others, at=5), histogram(some + others)
    assert both.counts == whole.counts
    assert both.count == len(some) + len(others)
    assert both.total == pytest.approx(whole.total)
    assert both.largest == whole.largest == max(some + others, default=0.0)


@given(st.lists(SECONDS))
def test_values_are_between_their_buckets_edges(values: list[float]) -> None:
    buckets = histogram(values).buckets()
    assert sum(count for _, _, count in buckets) == len(values)
    assert [end for _, end, _ in buckets[:-1]] == [start for start, _, _ in buckets[1:]]
    if values:
        assert buckets[0][0] <= max(min(values), 2e-6)
        assert buckets[-1][0] <= max(values) <= buckets[-1][1]


def test_quantiles_rise() -> None:
    shares = [0.0, 0.25, 0.5, 0.9, 0.99, 1.0]
    found = histogram(number / 1000 for number in range(1, 1001)).quantiles(*shares)
    assert found == sorted(found)
    assert found[-1] <= 1.0


def test_what_is_out_of_range_counts_at_the_ends() -> None:
    found = histogram([-1.0, 0.0, 1e-12, 1e9])
    assert found.count == 4
    assert found.quantiles(0.5)[0] < 2e-6
    assert found.largest == 1e9
    assert found.quantiles(1.0)[0] > 60_000


def test_without_values_all_is_zero() -> None:
    assert histogram([]).quantiles(0.5, 0.99) == [0.0, 0.0]


def test_many_calls_are_added_at_once() -> None:
    memory = memoryview(bytearray(8 * WORDS))
    words, times = memory.cast("q"), memory.cast("d")
    add(words, times, 0, 0.5, 10**12)
    found = Histogram.read(words, times, 0)
    assert (found.count, found.total) == (10**12, 5 * 10**11)
    assert (found + found).count == 2 * 10**12

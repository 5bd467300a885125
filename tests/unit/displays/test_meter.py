"""Rates and times left, on a clock that is handed in."""

from __future__ import annotations

import pytest

from hybridexec import Progress
from hybridexec.displays.meter import Meter

from .counts import counts


def test_the_counts_are_passed_on() -> None:
    meter = Meter(None, 100.0)
    seen = meter.progress(counts(10, total=50, failed=2, retried=3, running=4), 102.0)
    assert seen == Progress(50, 10, 2, 3, 4, per_second=5.0, eta=8.0)


def test_at_first_nothing_is_known_of_the_rate() -> None:
    assert Meter(100, 7.0).progress(counts(), 7.0) == Progress(100, 0, 0, 0, 0, 0.0, None)
    assert Meter(100, 7.0).progress(counts(), 8.0) == Progress(100, 0, 0, 0, 0, 0.0, None)


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    meter = Meter(10_000, 0.0)
    for second in range(1, 31):
        meter.progress(counts(100 * second), float(second))
    for second in range(1, 11):
        seen = meter.progress(counts(3000 + 10 * second), 30.0 + second)
    assert seen.per_second == pytest.approx(10.0)
    assert seen.eta == pytest.approx((10_000 - 3100) / 10.0)


def test_the_rate_falls_while_nothing_ends() -> None:
    meter = Meter(1000, 0.0)
    meter.progress(counts(100), 1.0)
    rates = [meter.progress(counts(100), float(now)).per_second for now in (2, 5, 20)]
    assert rates == [50.0, 20.0, 5.0]


def test_the_rate_of_slow_calls_is_taken_over_twenty_of_them() -> None:
    meter = Meter(1000, 0.0)
    for minute in range(1, 101):
        seen = meter.progress(counts(minute), 60.0 * minute)
        if minute >= 21:
            assert len(meter._samples) <= 22
        assert seen.per_second == pytest.approx(1 / 60)


def test_few_samples_are_kept() -> None:
    meter = Meter(None, 0.0)
    for tick in range(1, 10_000):
        meter.progress(counts(50 * tick), tick / 10)
    assert len(meter._samples) < 130


def test_a_length_is_believed_until_there_is_more() -> None:
    meter = Meter(100, 0.0)
    assert meter.progress(counts(50, made=100), 1.0).total == 100
    assert meter.progress(counts(50, made=101), 1.0).total is None
    assert meter.progress(counts(50, made=120, total=120), 1.0).total == 120


def test_a_length_that_was_too_much_is_corrected() -> None:
    meter = Meter(100, 0.0)
    assert meter.progress(counts(50, made=60), 1.0).total == 100
    assert meter.progress(counts(60, made=60, total=60), 1.0).total == 60


def test_at_the_end_the_rate_is_that_of_the_whole_time() -> None:
    meter = Meter(100, 0.0)
    for second in range(1, 51):
        meter.progress(counts(second, total=100), float(second))
    meter.progress(counts(99, total=100), 51.0)
    last = meter.progress(counts(100, total=100), 200.0, last=True)
    assert (last.per_second, last.eta) == (0.5, 0.0)


def test_what_was_left_has_no_time_left() -> None:
    last = Meter(100, 0.0).progress(counts(50), 10.0, last=True)
    assert (last.done, last.total, last.eta) == (50, 100, None)

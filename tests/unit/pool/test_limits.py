"""What limits hold, over simulated time: starts in a time, calls at once for each key, turns."""

from __future__ import annotations

import gc
import math
import time
import weakref
from collections import Counter, defaultdict
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridexec.limits import MARGIN, SLACK, Key, Limits
from hybridexec.options import CallOptions
from hybridexec.parent.pool.limits import Limiter
from hybridexec.parent.work.batch import DROPPED, ENDED, LIMITED, RETRYING, SENT, Batch
from hybridexec.parent.work.function import Function

from ..fakes import Sink, is_gone

FUNCTION = Function(b"function", lasting=True)


class Watched(Batch):
    """A batch whose end can be seen."""

    __slots__ = ("__weakref__",)


class Calls:
    """What becomes of a limiter's calls, judged step by step; a call is known by its argument."""

    def __init__(self, **limits: Any) -> None:
        self.limits = Limits(**limits)
        self.waiting = 0
        self.limiter = Limiter(self.limits, self._told)
        self.now = 1000.0
        self.made = 0
        self.batches: list[Batch] = []
        self.started: list[tuple[float, object, int]] = []  # when, by key and number
        self.running: dict[int, tuple[Batch, int]] = {}
        self.at_once: Counter[object] = Counter()
        self.numbers: dict[tuple[int, int], tuple[int, object]] = {}

    def _told(self, batch: Batch, change: int) -> None:
        assert batch in self.batches
        self.waiting += change

    def add(self, *keys: object) -> Batch:
        batch = Watched(FUNCTION, [()] * len(keys), Sink(), CallOptions(), 0)
        self.batches.append(batch)
        if self.limits.key is not None:
            batch.keys = [self._key(key) for key in keys]
        for place, key in enumerate(keys):
            self.made += 1
            self.numbers[batch.first, place] = self.made, key
        self.limiter.add(batch)
        self.check()
        return batch

    def _key(self, key: object) -> Key:
        found = self.limits.find((key,), {})
        assert found is not None
        return found

    def start(self) -> list[int]:
        """Hand out all that may start now; their numbers."""
        numbers = []
        while self.limiter.peek(self.now) is not None:
            batch, place = self.limiter.take(self.now)
            number, key = self.numbers[batch.first, place]
            batch.send(place, place + 1)
            assert number not in self.running
            self.running[number] = batch, place
            self.at_once[key] += 1
            self.started.append((self.now, key, number))
            numbers.append(number)
            self.check()
        return numbers

    def end(self, number: int, how: int = ENDED) -> None:
        batch, place = self.running.pop(number)
        _, key = self.numbers[batch.first, place]
        self.at_once[key] -= 1
        if how == RETRYING:
            batch.park(place, RETRYING)
            self.limiter.put_back([(batch, place)])
        else:
            batch.end(place, place + 1)
        self.check()

    def cancel(self, batch: Batch, *places: int) -> None:
        """Cancel calls that wait; those that run go on."""
        for place in places:
            if batch.states[place] == LIMITED:
                batch.end(place, place + 1)
        self.check()

    def wait(self) -> bool:
        """Wait until something may start; whether anything can."""
        due = self.limiter.due(self.now)
        if due is None:
            return False
        assert due >= self.now
        sooner = (self.now + due) / 2
        if due > self.now:
            assert sooner == due or self.limiter.peek(sooner) is None, "nobody comes sooner"
            self.now = due
        assert self.limiter.peek(self.now) is not None, "nobody wakes up in vain"
        return True

    def left(self) -> Counter[object]:
        """How many calls wait, by key."""
        return Counter(
            self.numbers[batch.first, place][1]
            for batch in self.batches
            for place in range(batch.size)
            if batch.states[place] == LIMITED
        )

    def check(self) -> None:
        left = self.left().total()
        assert left == self.limiter.count == self.waiting
        most = self.limits.per_key
        assert most is None or max(self.at_once.values(), default=0) <= most

    def judge(self) -> None:
        """Whether no more started in any time than may."""
        self._judge([at for at, _, _ in self.started], self.limits.rate)
        by_key = defaultdict(list)
        for at, key, _ in self.started:
            by_key[key].append(at)
        for times in by_key.values():
            self._judge(times, self.limits.rate_per_key)

    def _judge(self, times: list[float], rate: float | None) -> None:
        if rate is None:
            return
        per, burst = self.limits.per, self.limits.burst
        for first, began in enumerate(times):
            for count, at in enumerate(times[first:], 1):
                passed = (at - began) / per
                if burst is not None:
                    assert count <= burst + rate * passed + 1e-6, (began, at)
                else:
                    assert count <= rate * (passed + SLACK) / MARGIN + 1 + 1e-6, (began, at)
                    assert count <= math.ceil(rate) or passed >= 1, (began, at)

    def finish(self) -> None:
        """Run everything, a call at a time, and judge."""
        while True:
            self.start()
            if self.running:
                self.end(next(iter(self.running)))
            elif not self.wait():
                break
        assert not self.left()
        assert self.limiter.due(self.now) is None
        self.judge()


def of_key(key: object) -> object:
    return key


LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "rate": st.sampled_from([0.5, 3, 7.3, 50, 1000]),
        "per": st.sampled_from([1.0, 0.3, 60.0]),
        "burst": st.integers(1, 5),
        "per_key": st.integers(1, 3),
        "rate_per_key": st.sampled_from([0.2, 2, 9.7, 300]),
    },
)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("add"), st.lists(st.integers(0, 4), min_size=1, max_size=9)),
        st.tuples(st.just("end"), st.integers(0, 99)),
        st.tuples(st.just("retry"), st.integers(0, 99)),
        st.tuples(st.just("cancel"), st.sets(st.integers(0, 40), max_size=9)),
        st.tuples(st.just("drop"), st.integers(0, 99)),
        st.tuples(st.just("start"), st.none()),
        st.tuples(st.just("wait"), st.none()),
        st.tuples(st.just("pass"), st.floats(0, 3)),
    ),
    max_size=40,
)


@settings(max_examples=300, deadline=None)
@given(limits=LIMITS, keyed=st.booleans(), steps=STEPS)
def test_limits_hold_whatever_happens(
    limits: dict[str, Any], keyed: bool, steps: list[tuple[str, Any]]
) -> None:
    if keyed:
        limits["key"] = of_key
    else:
        limits = {k: v for k, v in limits.items() if k not in ("per_key", "rate_per_key")}
    calls = Calls(**limits)
    for step, value in steps:
        numbers = list(calls.running)
        if step == "add":
            calls.add(*value)
        elif step in ("end", "retry", "drop") and numbers:
            number = numbers[value % len(numbers)]
            if step == "drop":  # cancelled, and runs on
                batch, place = calls.running[number]
                batch.drop([place])
            else:
                batch, place = calls.running[number]
                retries = step == "retry" and batch.states[place] != DROPPED
                calls.end(number, RETRYING if retries else ENDED)
        elif step == "cancel" and calls.batches:
            for batch in calls.batches[-3:]:
                calls.cancel(batch, *(place for place in value if place < batch.size))
        elif step == "start":
            due = calls.limiter.due(calls.now)
            assert bool(calls.start()) == (due == calls.now), "what may start does"
        elif step == "wait":
            calls.wait()
        elif step == "pass":
            calls.now += value
    calls.finish()


@settings(max_examples=100, deadline=None)
@given(
    keys=st.lists(st.integers(0, 5), min_size=1, max_size=60),
    per_key=st.integers(1, 4),
    steps=st.lists(st.integers(0, 99), max_size=80),
)
def test_of_those_that_may_go_on_each_key_has_a_call_started_before_any_has_two(
    keys: list[int], per_key: int, steps: list[int]
) -> None:
    calls = Calls(rate=1.0, burst=1, key=of_key, per_key=per_key)
    calls.add(*keys)
    since: dict[object, list[object]] = {key: [] for key in keys}
    for step in steps:
        numbers = list(calls.running)
        if numbers and step % 3 == 0:
            calls.end(numbers[step % len(numbers)])
        calls.now += 1.0
        free = {key for key in calls.left() if calls.at_once[key] < per_key}
        for key, others in since.items():
            if key not in free:
                others.clear()
        calls.start()
        if free:
            _, started, _ = calls.started[-1]
            assert started in free
            since[started] = []
            for key in free - {started}:
                since[key].append(started)
                assert len(since[key]) == len(set(since[key])), "no other has two turns meanwhile"
    calls.finish()


def test_without_a_burst_calls_start_evenly() -> None:
    calls = Calls(rate=4)
    calls.add(*range(6))
    calls.finish()
    times = [at - 1000 for at, _, _ in calls.started]
    assert times == pytest.approx([0, *(0.26 * n - 0.01 for n in range(1, 6))])


def test_a_rate_may_be_for_any_time() -> None:
    calls = Calls(rate=2, per=60.0, burst=1)
    calls.add(*range(3))
    calls.finish()
    assert [at - 1000 for at, _, _ in calls.started] == [0, 30, 60]


def test_a_burst_may_start_at_once_after_a_pause() -> None:
    calls = Calls(rate=4, burst=3)
    calls.add(*range(5))
    assert calls.start() == [1, 2, 3]
    calls.now += 0.25
    assert calls.start() == [4]
    calls.now += 100.0
    calls.add(*range(5))
    assert len(calls.start()) == 3, "no more are saved up"
    calls.finish()


@pytest.mark.parametrize("rate", [7, 50, 100, 2000])
def test_a_rate_is_kept_though_all_starts_are_late(rate: int) -> None:
    calls = Calls(rate=rate)
    calls.add(*range(3 * rate // 4))
    while calls.left():
        due = calls.limiter.due(calls.now)
        assert due is not None
        calls.now = due + 0.004
        calls.start()
        for number in list(calls.running):
            calls.end(number)
    passed = calls.started[-1][0] - calls.started[0][0]
    assert passed == pytest.approx((len(calls.started) - 1) * 1.04 / rate, abs=0.02)
    calls.judge()


def test_with_a_burst_of_one_a_late_start_is_not_made_up_for() -> None:
    calls = Calls(rate=4, burst=1)
    calls.add(*range(3))
    calls.start()
    calls.now += 0.4
    assert calls.start() == [2]
    assert calls.limiter.due(calls.now) == calls.now + 0.25
    calls.finish()


def test_so_many_run_at_once_for_each_key_and_no_more() -> None:
    calls = Calls(key=of_key, per_key=2)
    calls.add(*"aaaabbc")
    assert calls.start() == [1, 5, 7, 2, 6]
    assert calls.limiter.due(calls.now) is None, "it depends on the end of others"
    calls.end(5)
    assert not calls.start()
    calls.end(1)
    assert calls.start() == [3]
    calls.finish()


def test_each_key_has_a_rate_of_its_own() -> None:
    calls = Calls(key=of_key, rate_per_key=4, burst=1)
    calls.add(*"aaab")
    calls.finish()
    assert [(at - 1000, key) for at, key, _ in calls.started] == [
        (0, "a"),
        (0, "b"),
        (0.25, "a"),
        (0.5, "a"),
    ]


def test_a_key_is_known_until_its_time_has_come_and_no_longer() -> None:
    calls = Calls(key=of_key, rate_per_key=1, burst=1)
    calls.add("a")
    calls.start()
    calls.end(1)
    calls.batches.clear()  # none of them is known any more
    gc.collect()
    calls.now += 0.1
    calls.add("a", "b")
    assert calls.start() == [3]
    assert calls.limiter.due(calls.now) == 1001.0
    calls.finish()
    calls.batches.clear()
    calls.now += 1.0
    assert calls.limiter.due(calls.now) is None
    gc.collect()
    assert not calls.limits._keys


def test_a_slow_key_holds_up_no_other() -> None:
    calls = Calls(key=of_key, per_key=1)
    calls.add(*["slow"] * 1000, *range(100))
    started = calls.start()
    assert len(started) == 101
    calls.finish()


def test_a_retry_goes_before_the_others_of_its_key() -> None:
    calls = Calls(key=of_key, per_key=1)
    calls.add(*"aaa")
    calls.start()
    calls.end(1, RETRYING)
    assert calls.start() == [1]
    calls.finish()


def test_each_retry_is_a_start() -> None:
    calls = Calls(rate=1, burst=1)
    calls.add("a")
    for _ in range(3):
        assert calls.start() == [1]
        calls.end(1, RETRYING)
        assert not calls.start()
        assert calls.limiter.due(calls.now) == calls.now + 1
        calls.now += 1
    calls.finish()


@pytest.mark.parametrize("limits", [{"rate": 1}, {"per_key": 1}, {"rate_per_key": 1}])
def test_a_batch_is_let_go_when_none_of_its_calls_waits(limits: dict[str, Any]) -> None:
    calls = Calls(key=of_key, **limits)
    batch = calls.add(*"aaaa")
    calls.start()
    calls.end(1)
    calls.start()
    calls.cancel(batch, 1, 2, 3)
    for number in list(calls.running):
        calls.end(number)
    seen = weakref.ref(batch)
    calls.batches.clear()
    del batch
    assert is_gone(seen)


def test_calls_can_be_withdrawn() -> None:
    calls = Calls(key=of_key, per_key=1)
    first, second = calls.add(*"aab"), calls.add(*"ab")
    calls.start()
    for batch, low, high in calls.limiter.withdraw(lambda batch: batch is first):
        assert batch is first
        calls.cancel(batch, *range(low, high))
    assert calls.left() == Counter("ab")
    assert set(second.states) == {LIMITED}
    assert sorted(first.states) == [SENT, SENT, ENDED]
    calls.finish()


def seconds_for(run: Callable[[int], None], count: int) -> float:
    best = float("inf")
    for _ in range(3):
        began = time.thread_time()
        run(count)
        best = min(best, time.thread_time() - began)
    return best


@pytest.mark.parametrize("limits", [{"per_key": 1}, {"rate_per_key": 1e6}, {"rate": 1e9}])
def test_many_keys_cost_no_more_for_each(limits: dict[str, Any]) -> None:
    def run(count: int) -> None:
        asked = Limits(key=of_key, **limits)
        limiter = Limiter(asked, lambda batch, change: None)
        batch = Batch(FUNCTION, [()] * 2 * count, Sink(), CallOptions(), 0)
        batch.keys = [asked.find((n % count,), {}) for n in range(2 * count)]  # type: ignore[misc]
        limiter.add(batch)
        now = 0.0
        while limiter.count:
            due = limiter.due(now)
            assert due is not None
            now = due
            while limiter.peek(now) is not None:
                _, place = limiter.take(now)
                batch.end(place, place + 1)

    few, many = seconds_for(run, 500), seconds_for(run, 5000)
    assert many < 30 * few, "ten times as many keys"

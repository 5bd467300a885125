"""Which callbacks keep other results waiting, and how often that is said."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

import pytest

from hybridexec import native
from hybridexec.parent.work.callbacks import Callbacks

HERE = __file__


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(native, "monotonic", clock)
    return clock


class Sleeper:
    """Callbacks that sleep for so long."""

    def __init__(self, clock: Clock, seconds: float) -> None:
        self.clock = clock
        self.seconds = seconds

    def method(self, _: Future[Any]) -> None:
        self.clock.now += self.seconds

    def __call__(self, future: Future[Any]) -> None:
        self.method(future)

    def with_more(self, more: int, future: Future[Any]) -> None:
        self.method(future)


def ended() -> Future[Any]:
    future: Future[Any] = Future()
    future.set_result(1)
    return future


def texts(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.name == "hybridexec"]


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda sleeper: sleeper.method, "Sleeper.method"),
        (lambda sleeper: sleeper, "Sleeper"),
        (lambda sleeper: functools.partial(sleeper.with_more, 1), "Sleeper.with_more"),
    ],
)
def test_a_callback_that_sleeps_is_told_of_once_by_name(
    clock: Clock,
    caplog: pytest.LogCaptureFixture,
    make: Callable[[Sleeper], Callable[[Future[Any]], None]],
    name: str,
) -> None:
    callbacks = Callbacks(lambda: True)
    for _ in range(3):
        callbacks.call([make(Sleeper(clock, 2.0))], ended())
        clock.now += 100
    (text,) = texts(caplog)
    assert f"{__name__}.{name} ({HERE}:" in text
    assert "for 2.0 s:" in text
    assert "ThreadPoolExecutor" in text


def test_what_is_not_written_in_python_has_a_name_too(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks = Callbacks(lambda: True)
    clock_goes_on = iter(map(Sleeper(clock, 1.0), [ended()]))
    callbacks.call([functools.partial(next, clock_goes_on)], ended())
    assert "callback builtins.next has kept" in texts(caplog)[0]


def test_many_that_sleep_for_a_moment_are_told_of_too(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks = Callbacks(lambda: True)
    sleeper = Sleeper(clock, 0.1)
    for _ in range(5):
        callbacks.call([sleeper], ended())
    assert not texts(caplog)
    callbacks.call([sleeper], ended())
    (text,) = texts(caplog)
    assert "for 0.6 s, in 6 calls: no other" in text


@pytest.mark.parametrize(("seconds", "pause"), [(0.1, 2.0), (0.01, 0.0)])
def test_rare_ones_and_quick_ones_are_not(
    clock: Clock, caplog: pytest.LogCaptureFixture, seconds: float, pause: float
) -> None:
    callbacks = Callbacks(lambda: True)
    for _ in range(1000):
        callbacks.call([Sleeper(clock, seconds)], ended())
        clock.now += pause
    assert not texts(caplog)


def test_only_the_thread_counts_on_which_results_arrive(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks = Callbacks(lambda: False)
    callbacks.call([Sleeper(clock, 9.0)], ended())
    assert clock.now == 109
    assert not texts(caplog)


def test_who_waits_for_a_result_says_it_meanwhile(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks = Callbacks(lambda: True)

    def sleep(_: object) -> None:
        clock.now += 0.4
        callbacks.look()
        assert not texts(caplog)
        clock.now += 0.4
        callbacks.look()
        callbacks.look()
        assert len(texts(caplog)) == 1

    callbacks.call([sleep], ended())
    callbacks.look()
    (text,) = texts(caplog)
    assert "sleep" in text
    assert "for 0.8 s:" in text


def test_of_callbacks_within_callbacks_the_outer_is_to_blame(
    clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    callbacks = Callbacks(lambda: True)

    def outer(_: object) -> None:
        callbacks.call([Sleeper(clock, 1.0)], ended())
        callbacks.call([Sleeper(clock, 1.0)], ended())

    callbacks.call([outer], ended())
    (text,) = texts(caplog)
    assert "outer" in text


def test_all_are_called_whatever_one_raises(clock: Clock, caplog: pytest.LogCaptureFixture) -> None:
    called: list[Any] = []

    def fail(future: Future[Any]) -> None:
        clock.now += 1
        raise ValueError("bad")

    future = ended()
    Callbacks(lambda: True).call([fail, called.append], future)
    assert called == [future]
    assert [record.name for record in caplog.records] == ["concurrent.futures", "hybridexec"]
    assert "exception calling callback for" in caplog.records[0].getMessage()

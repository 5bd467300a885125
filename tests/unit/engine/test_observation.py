"""An observer has a thread of its own, and a bound on what waits for it."""

from __future__ import annotations

import threading

import pytest

from hybridexec.events import Event, WorkerReady
from hybridexec.parent.engine import observation
from hybridexec.parent.engine.observation import Observation

PATIENCE = 30.0


def events(count: int, first: int = 0) -> list[Event]:
    return [WorkerReady(0.0, number, None) for number in range(first, first + count)]


def test_the_observer_has_all_events_in_order_on_a_thread_of_its_own() -> None:
    got: list[Event] = []
    threads = set()

    def observer(event: Event) -> None:
        threads.add(threading.current_thread())
        got.append(event)

    ours = Observation(observer)
    ours.put(events(3))
    ours.put(events(2, 3))
    ours.close()
    assert got == events(5)
    assert len(threads) == 1
    assert threading.current_thread() not in threads
    assert not any(thread.is_alive() for thread in threads)


def test_without_events_there_is_no_thread() -> None:
    before = set(threading.enumerate())
    ours = Observation(print)
    assert not set(threading.enumerate()) - before
    ours.close()


def test_what_does_not_fit_is_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation, "_MOST", 10)
    begun, goes_on = threading.Event(), threading.Event()
    got: list[Event] = []

    def observer(event: Event) -> None:
        begun.set()
        assert goes_on.wait(PATIENCE)
        got.append(event)

    ours = Observation(observer)
    ours.put(events(1))
    assert begun.wait(PATIENCE)
    ours.put(events(8, 1))
    ours.put(events(5, 9))
    assert ours.dropped == 3
    goes_on.set()
    ours.close()
    assert got == events(11)


def test_an_observer_that_raises_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    got: list[Event] = []

    def observer(event: Event) -> None:
        got.append(event)
        raise SystemExit("broken")

    ours = Observation(observer)
    ours.put(events(3))
    ours.close()
    assert got == events(3)
    assert [record.levelname for record in caplog.records] == ["ERROR"]


def test_an_observer_may_close_itself() -> None:
    got: list[Event] = []
    ours: Observation

    def observer(event: Event) -> None:
        got.append(event)
        ours.close()

    ours = Observation(observer)
    ours.put(events(1))
    ours.join(PATIENCE)
    ours.put(events(1))
    ours.close()
    assert got == events(1)


def test_nobody_waits_for_ever_for_an_observer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(observation, "PATIENCE", 0.05)
    goes_on = threading.Event()
    ours = Observation(lambda _: goes_on.wait(PATIENCE))
    ours.put(events(1))
    ours.close()
    goes_on.set()
    ours.join(PATIENCE)


def test_if_no_thread_can_be_started_who_closes_calls_the_observer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    got: list[Event] = []
    ours = Observation(got.append)
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", fail)
        ours.put(events(3))
    assert not got
    ours.close()
    assert got == events(3)
    assert ours.dropped == 0

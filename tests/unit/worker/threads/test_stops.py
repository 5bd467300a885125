"""Stopping calls in threads: what is raised hits the call that was meant, wherever that is."""

from __future__ import annotations

import random
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

import pytest

from hybridexec.worker.inbox import Inbox, Job, Span
from hybridexec.worker.threads.loop import Loop
from hybridexec.worker.threads.stops import CallExpired, StopCall, Stopped, Stops


class Runner:
    """A thread that runs calls one after another, as the lane's do."""

    began = 0.0

    def __init__(self, stops: Stops) -> None:
        self.stops = stops
        self.ident = 0
        self.ended: list[tuple[int, Any]] = []
        self.errors: list[BaseException] = []

    def start(self, calls: dict[int, Callable[[], Any]]) -> threading.Thread:
        thread = threading.Thread(target=self._serve, args=(calls,))
        thread.start()
        return thread

    def _serve(self, calls: dict[int, Callable[[], Any]]) -> None:
        self.ident = threading.get_ident()
        try:
            for call, function in calls.items():
                self.stops.running[call] = self
                result = self.run(call, function)
                self.stops.end(call)
                self.ended.append((call, result))
        except BaseException as error:
            self.errors.append(error)

    def run(self, call: int, function: Callable[[], Any]) -> Any:
        result: Any = None
        try:
            try:
                self.stops.open(call, self)
                result = function()
            except BaseException as error:
                if not self.stops.is_told(call, error):
                    raise
                result = type(error)
            self.stops.close(call, self)
        except Stopped as error:
            self.stops.close(call, self)
            result = result or type(error)
        return result


@pytest.fixture
def loop() -> Iterator[Loop]:
    loop = Loop()
    yield loop
    loop.close()


@pytest.fixture
def stops(loop: Loop) -> Stops:
    return Stops(Inbox(), Runner.run.__code__, loop)


def is_busy(stops: Stops) -> bool:
    """Whether it knows of any call."""
    return bool(stops.running or stops._open or stops._wanted or stops._asked)


def wait_until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.0005)


def spin() -> str:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        pass
    return "never stopped"


def test_a_call_is_stopped_and_the_next_is_not(stops: Stops) -> None:
    runner = Runner(stops)
    thread = runner.start({1: spin, 2: spin, 3: lambda: "ran"})
    wait_until(lambda: 1 in stops.running)
    stops.cancel([1, 3], True)
    wait_until(lambda: 2 in stops.running)
    stops.expire(2)
    thread.join(30)
    assert runner.ended == [(1, StopCall), (2, CallExpired), (3, "ran")]
    assert not is_busy(stops)


def test_a_call_is_told_once(stops: Stops) -> None:
    told, trying = [], threading.Event()

    def clean_up() -> str:
        try:
            trying.set()
            return spin()
        except Stopped as error:
            told.append(type(error))
            stops.cancel([1], True)
            stops.expire(1)
            for _ in range(100_000):
                pass
            return "cleaned up"

    runner = Runner(stops)
    thread = runner.start({1: clean_up})
    assert trying.wait(30)
    stops.expire(1)
    thread.join(30)
    assert told == [CallExpired]
    assert runner.ended == [(1, "cleaned up")]


def test_one_that_was_taken_and_not_begun_is_stopped(stops: Stops) -> None:
    runner = Runner(stops)
    stops.running[1] = runner
    stops.cancel([1], True)
    runner.start({1: spin}).join(30)
    assert runner.ended == [(1, StopCall)]


def test_an_earlier_run_of_a_call_is_not_taken_for_it(stops: Stops) -> None:
    runner = Runner(stops)
    runner.began = 2.0
    stops.running[1] = runner
    stops.expire_run(1, 1.0)
    assert not stops._wanted
    stops.expire_run(1, 2.0)
    assert stops._wanted == {1: CallExpired}


def test_one_that_has_not_started_is_dropped(loop: Loop) -> None:
    inbox = Inbox()
    stops = Stops(inbox, Runner.run.__code__, loop)
    inbox.add(Span(Job(1, (None, False, False, None, None, 1)), 5, range(3), True))
    stops.cancel([6, 9], True)
    assert inbox.dropped == {6}
    assert not stops._wanted


def test_a_lock_that_a_stopped_call_holds_is_released(stops: Stops, loop: Loop) -> None:
    lock = threading.Lock()

    def take_by_hand() -> None:
        lock.acquire()
        try:
            pass
        finally:
            lock.release()

    def go_on() -> str:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            take_by_hand()
        return "never stopped"

    for call in range(1, 30):
        runner = Runner(stops)
        thread = runner.start({call: go_on})
        wait_until(lambda call=call: call in stops._open)
        stops.cancel([call], True)
        while thread.is_alive():
            if stops.held:
                stops.look()
            loop.timer(0.001).start(lambda: None)  # so that it waits for no longer
            loop.turn()
        assert runner.ended == [(call, StopCall)]
        assert not lock.locked()


@pytest.fixture
def hectic() -> Iterator[None]:
    """Threads take turns all the time."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


@pytest.mark.usefixtures("hectic")
def test_no_stop_hits_what_it_was_not_meant_for(stops: Stops) -> None:
    """Stops come at any time, also as calls end and in between."""
    calls, go = 150, threading.Event()

    def short(n: int) -> Callable[[], Any]:
        def run() -> int:
            for _ in range(n % 30):
                time.sleep(0)  # lets others run
            return n

        return run

    meant = set(random.Random(3).sample(range(1, calls), calls // 2))
    runner = Runner(stops)
    thread = runner.start({0: lambda: go.wait(30), **{n: short(n) for n in range(1, calls)}})
    asked: set[int] = set()

    def stop_whatever_runs() -> None:
        while thread.is_alive():
            for call in list(stops.running):
                if call in meant:
                    asked.add(call)
                    stops.cancel([call], True)

    others = [threading.Thread(target=stop_whatever_runs) for _ in range(2)]
    for other in others:
        other.start()
    go.set()
    for other in [thread, *others]:
        other.join(60)
    assert StopCall in [result for _, result in runner.ended]
    assert not runner.errors
    assert [call for call, _ in runner.ended] == [*range(calls)]
    for call, result in runner.ended[1:]:
        assert result == call or (result is StopCall and call in asked)
    assert not is_busy(stops)


def test_what_comes_too_late_leaves_nothing_for_the_interpreter_to_look_for(stops: Stops) -> None:
    runner = Runner(stops)

    def is_asked_for_at_its_end() -> None:
        del stops._open[1]
        stops._asked.add(1)

    runner.start({1: is_asked_for_at_its_end}).join()
    assert runner.ended == [(1, None)]
    assert not is_busy(stops)

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        frame.f_trace_opcodes = True
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        wait_until(lambda: True)  # or it never ends: a traced function does not begin
    finally:
        sys.settrace(before)

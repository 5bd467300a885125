"""The threads of a pool: callbacks one after another, iterables each by itself, and their ends."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hybridexec.pool_threads import CallbackThread, Feeders

PATIENCE = 30


class Result:
    """What a callback thread is given."""

    def __init__(self, do: Any = None) -> None:
        self.do = do
        self.finished: list[bool] = []
        self.done = threading.Event()

    def finish(self, call: bool) -> None:
        if call and self.do is not None:
            self.do()
        self.finished.append(call)
        self.done.set()


class Stream:
    """What feeders feed."""

    def __init__(self, at_once: bool = True) -> None:
        self.at_once = at_once
        self.gate = threading.Event()
        self.errors: list[BaseException] = []

    def feed(self, wait: bool) -> bool:
        if wait:
            assert self.gate.wait(PATIENCE)
        return wait or self.at_once

    def stop(self, error: BaseException) -> None:
        self.errors.append(error)
        self.gate.set()


@pytest.fixture
def callbacks() -> Any:
    thread: Any = CallbackThread()
    yield thread
    thread.stop()


def test_callbacks_are_called_in_order_by_one_thread(callbacks: Any) -> None:
    threads: list[Any] = []
    results = [Result(lambda: threads.append(threading.current_thread())) for _ in range(20)]
    for result in results:
        callbacks.post(result)
    callbacks.join()
    assert [result.finished for result in results] == [[True]] * 20
    assert len(set(threads)) == 1
    assert threads[0] is not threading.current_thread()


def test_who_stops_in_a_callback_is_not_waited_for(callbacks: Any) -> None:
    gate = threading.Event()

    def stop() -> None:
        assert gate.wait(PATIENCE)
        callbacks.stop()
        callbacks.join()

    first, second = Result(stop), Result()
    callbacks.post(first)
    callbacks.post(second)
    gate.set()
    assert first.done.wait(PATIENCE)
    assert second.done.wait(PATIENCE)
    assert (first.finished, second.finished) == ([True], [False])


def test_once_stopped_results_are_ready_without_callbacks(callbacks: Any) -> None:
    callbacks.stop()
    result = Result()
    callbacks.post(result)
    assert result.finished == [False]


def test_a_stream_that_has_to_wait_is_fed_in_a_thread() -> None:
    feeders, idle = Feeders(), threading.Event()
    stream: Any = Stream(at_once=False)
    feeders.feed(stream, wait=False)
    feeders.call_when_idle(idle.set)
    assert not idle.is_set()
    stream.gate.set()
    feeders.join()
    assert idle.wait(PATIENCE)


def test_a_stream_that_needs_no_thread_has_none() -> None:
    feeders, idle = Feeders(), threading.Event()
    stream: Any = Stream()
    before = set(threading.enumerate())
    feeders.feed(stream, wait=False)
    feeders.call_when_idle(idle.set)
    assert idle.is_set()
    assert not set(threading.enumerate()) - before


def test_what_feeding_raises_ends_the_stream() -> None:
    feeders = Feeders()
    stream: Any = Stream()
    stream.feed = lambda wait: exec("raise SystemExit(3)")
    feeders.start(stream)
    feeders.join()
    assert [type(error) for error in stream.errors] == [SystemExit]


def test_all_streams_are_stopped() -> None:
    feeders = Feeders()
    streams: list[Any] = [Stream(at_once=False) for _ in range(3)]
    for stream in streams:
        feeders.add(stream)
        feeders.start(stream)
    error = ValueError()
    feeders.stop(error)
    feeders.join()
    assert [stream.errors for stream in streams] == [[error]] * 3

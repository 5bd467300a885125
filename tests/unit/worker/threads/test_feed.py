"""When runners are woken: one for what comes, more when those that are awake are kept."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator

import pytest

from hybridexec import native
from hybridexec.worker.threads import feed
from hybridexec.worker.threads.feed import Feed, Runner
from hybridexec.worker.threads.loop import Timer


class Taking:
    """How many calls wait."""

    waiting = 0


class Loop:
    """Timers that the test fires, so late as it likes."""

    def __init__(self) -> None:
        self.timers: list[Timer] = []
        self.woken = 0

    def timer(self, after: float) -> Timer:
        return Timer(lambda due, timer: self.timers.append(timer), after)

    def wake(self) -> None:
        self.woken += 1


class World:
    """A feed whose runners take a call when they are woken, and keep it until they are told."""

    def __init__(self, slots: int, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 100.0
        monkeypatch.setattr(native, "monotonic", lambda: self.now)
        self.taking, self.loop, self.running = Taking(), Loop(), dict[int, Runner]()
        self.served: list[Runner] = []
        self.keep = threading.Event()
        made: Callable[..., Feed] = Feed
        self.feed = made(slots, self.taking, self.loop, self.running, self._serve)

    def _serve(self, me: Runner) -> None:
        self.running[me.slot] = me
        self.taking.waiting -= 1
        self.served.append(me)  # last: it is waited for
        assert self.keep.wait(30)
        self.running.pop(me.slot, None)
        while not self.feed.ending:
            self.feed.rest(me)

    def come(self, calls: int) -> None:
        """Calls have come."""
        self.taking.waiting += calls
        self.feed.begin()
        self.settle()

    def look(self, seconds: float, late: float) -> None:
        """After so many seconds, main looks, so many seconds later than it had wanted to."""
        (timer,) = self.loop.timers
        self.loop.timers.clear()
        self.now += seconds
        timer.due = self.now - late
        timer.fire()
        self.settle()

    def settle(self) -> None:
        """Wait until all that were started have taken a call."""
        deadline = time.monotonic() + 30
        while len(self.served) < len(self.feed.runners):
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def end(self) -> None:
        self.taking.waiting = 0
        self.keep.set()
        self.feed.end()


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    world = World(8, monkeypatch)
    yield world
    monkeypatch.undo()
    world.end()
    assert not any(runner.thread and runner.thread.is_alive() for runner in world.feed.runners)


def test_one_is_started_for_what_comes(world: World) -> None:
    world.come(3)
    assert len(world.served) == 1


def test_none_is_for_nothing(world: World) -> None:
    world.feed.begin()
    assert (world.served, world.loop.timers) == ([], [])


def test_while_calls_are_taken_and_the_gil_is_used_one_is_enough(world: World) -> None:
    world.come(100)
    for _ in range(5):
        world.feed.latest = world.now + 0.005
        world.look(0.005, late=0.004)
    assert len(world.served) == 1


def test_those_that_are_kept_are_joined_by_ever_more(world: World) -> None:
    world.come(100)
    counts = []
    for _ in range(3):
        world.look(0.0011, late=0.0009)
        counts.append(len(world.served))
    assert counts == [2, 4, 8]
    assert not world.loop.timers or not world.feed._wanted()


def test_where_the_gil_is_free_more_are_woken_though_calls_are_taken(world: World) -> None:
    world.come(100)
    counts = []
    for _ in range(4):
        world.feed.latest = world.now + 0.001
        world.look(0.001, late=0.0)
        counts.append(len(world.served))
    assert counts == [1, 2, 4, 8]


def test_one_that_is_about_to_take_a_call_is_given_time(world: World) -> None:
    world.come(100)
    (runner,) = world.running.values()
    world.running.clear()  # it is between two calls
    world.look(0.005, late=0.0)
    world.look(0.005, late=0.0)
    assert len(world.served) == 1
    world.look(feed._PATIENCE, late=0.01)
    assert len(world.served) == 2
    world.running[runner.slot] = runner


def test_what_comes_while_all_are_kept_is_not_kept_waiting(world: World) -> None:
    world.come(1)
    world.now += 1
    world.come(1)
    assert len(world.served) == 2


def test_one_that_ends_while_calls_wait_has_another_started(world: World) -> None:
    world.come(1)
    (runner,) = world.served
    world.taking.waiting = 1
    world.feed.retire(runner)
    assert (world.feed.is_due, world.loop.woken) == (True, 1)
    world.served.clear()
    world.feed.begin()
    world.settle()
    assert [each.slot for each in world.served] == [runner.slot]


def test_one_may_end_before_its_start_has_returned(monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def start_late(thread: threading.Thread) -> None:
        start(thread)
        thread.join(30)

    def serve(me: Runner) -> None:
        taking.waiting = 0
        served.append(me.slot)
        feed.retire(me)

    monkeypatch.setattr(threading.Thread, "start", start_late)
    taking, served = Taking(), list[int]()
    made: Callable[..., Feed] = Feed
    feed = made(1, taking, Loop(), {}, serve)
    for _ in range(2):
        taking.waiting = 1
        feed.begin()
    assert (served, feed.runners) == ([0, 0], [])

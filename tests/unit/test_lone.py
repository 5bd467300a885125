"""Who may send a call in the I/O thread's place, and when."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any

import pytest

from hybridexec.options import CallOptions
from hybridexec.parent import lone as lone_module
from hybridexec.parent.batch import Batch
from hybridexec.parent.functions import Function
from hybridexec.parent.lone import LoneCalls
from hybridexec.parent.queue import Queue
from hybridexec.wire import frames

from .simulation import Simulation, Sink


class IdleFleet:
    """Does nothing of what the pool decides; its workers send nothing."""

    led = False

    def send(self, *_: object) -> None:
        pass

    def lead(self, *_: object) -> int:
        return 0

    def nothing(self) -> None:
        pass

    receive_led = follow = act = nothing


def make() -> tuple[Simulation, LoneCalls, Queue]:
    """The pool of one idle worker, and what callers may do with it."""
    simulation = Simulation(max_workers=1)
    simulation.submit()
    simulation.turn()
    simulation.ready(1)
    simulation.run(lambda: not simulation.pool.unfinished)
    fleet: Any = IdleFleet()
    queue = Queue()
    return simulation, LoneCalls(simulation.pool, fleet, threading.RLock(), queue), queue


def make_batch() -> Batch:
    return Batch(Function(b"f", lasting=True), [(0,)], Sink(), CallOptions(), 0)


@pytest.mark.parametrize(
    ("asleep", "watching", "sent"),
    [(True, True, True), (False, True, False), (True, False, False)],
)
def test_a_caller_sends_only_while_the_io_thread_watches_in_its_sleep(
    asleep: bool, watching: bool, sent: bool
) -> None:
    simulation, lone, queue = make()
    # It may have been otherwise when the caller looked first.
    queue.asleep, lone.watching = asleep, watching
    assert lone.express(make_batch()) is sent
    assert simulation.pool.unfinished == sent


class Clock:
    """Stands for the clock and for poll; a call's result comes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.comes_at = 0.0
        self.slept = 0

    def monotonic(self) -> float:
        self.now += 1e-6
        return self.now

    def register(self, *_: object) -> None:
        pass

    def poll(self, milliseconds: float) -> bool:
        if milliseconds:
            self.slept += 1
            self.now = max(self.now, self.comes_at)
        return self.now >= self.comes_at


SHORT, LONG = 0.0001, 0.001


@pytest.mark.parametrize(
    ("cpus", "rest", "takes", "sleeps"),
    [
        pytest.param(2, 0.0, [SHORT] * 4, [1, 0, 0, 0], id="short calls in a row"),
        pytest.param(2, 0.001, [SHORT] * 4, [1, 1, 1, 1], id="after a rest"),
        pytest.param(2, 0.0, [LONG] * 4, [1, 1, 1, 1], id="long calls"),
        pytest.param(2, 0.0, [SHORT, LONG, SHORT, SHORT], [1, 1, 1, 1], id="after one in vain"),
        pytest.param(1, 0.0, [SHORT] * 4, [1, 1, 1, 1], id="the worker needs the processor"),
    ],
)
def test_an_outcome_is_waited_for_without_sleep_if_it_can_be_expected_soon(
    cpus: int, rest: float, takes: list[float], sleeps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lone_module, "usable_cpus", lambda: cpus)
    simulation, lone, queue = make()
    clock = Clock()
    monkeypatch.setattr(lone_module, "time", clock)
    monkeypatch.setattr(lone, "_poll", lambda: clock)
    queue.asleep = lone.watching = True
    slept = []
    for seconds in takes:
        call: Any = SimpleNamespace(batch=make_batch(), place=0)
        assert lone.express(call.batch)
        clock.comes_at, clock.slept = clock.now + seconds, 0
        lone.lead(call, None)
        assert clock.now >= clock.comes_at
        slept.append(clock.slept)
        simulation.workers[1].page.taken += 1
        simulation.pool.results(1, [(call.batch.first, frames.VALUE, None, None)], [], clock.now)
        clock.now += rest
    assert slept == sleeps

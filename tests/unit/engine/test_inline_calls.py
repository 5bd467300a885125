"""Who may send a call in the I/O thread's place, and when."""

from __future__ import annotations

import dis
import itertools
import sys
import threading
from types import FrameType
from typing import Any

import pytest

from hybridexec import native
from hybridexec.parent.engine import inline_calls as inline_module
from hybridexec.parent.engine.entry_queue import EntryQueue
from hybridexec.parent.engine.inline_calls import InlineCalls
from hybridexec.parent.engine.leader import Leader, Reading
from hybridexec.parent.work.future import CallFuture
from hybridexec.wire import messages

from ..fakes import FUNCTION, OPTIONS, FakeEngine
from ..simulation import Simulation


class FakeSupervisor:
    """Its one worker has run the call that it was sent by when its results are read."""

    pid = 0
    results_fd = 0
    broken = False

    def __init__(self, simulation: Simulation) -> None:
        self.simulation = simulation
        connections: Any = {1: self}
        self.connections = connections
        self.leader = Leader(connections)
        poller: Any = self
        self.leader.open(poller)

    def receive(self, *_: object) -> None:
        worker = self.simulation.pool.workers[1]
        ((call, _),) = worker.in_flight.calls()
        self.simulation.workers[1].page.taken += 1
        self.simulation.pool.results(1, [(call, messages.VALUE, "value", None)], [], 0.0)

    def nothing(self, *_: object) -> None:
        pass

    write = flush = act = modify = nothing


def make() -> tuple[Simulation, InlineCalls, EntryQueue]:
    """The pool of one idle worker, and what callers may do with it."""
    simulation = Simulation(max_workers=1)
    simulation.submit()
    simulation.turn()
    simulation.ready(1)
    simulation.run(lambda: not simulation.pool.ledger.unfinished)
    supervisor: Any = FakeSupervisor(simulation)
    queue = EntryQueue()
    return simulation, InlineCalls(simulation.pool, supervisor, threading.RLock(), queue), queue


def make_call() -> CallFuture[Any]:
    engine: Any = FakeEngine()
    return CallFuture(engine, FUNCTION, (0,), OPTIONS)


@pytest.mark.parametrize(
    ("asleep", "watching", "sent"),
    [(True, True, True), (False, True, False), (True, False, False)],
)
def test_a_caller_sends_only_while_the_io_thread_watches_in_its_sleep(
    asleep: bool, watching: bool, sent: bool
) -> None:
    simulation, calls, queue = make()
    # It may have been otherwise when the caller looked first.
    queue.asleep, calls.watching = asleep, watching
    assert calls.send(make_call()) is sent
    assert simulation.pool.ledger.unfinished == sent


@pytest.mark.parametrize("wakes_up", [False, True])
def test_a_leader_leaves_the_next_results_to_the_io_thread_that_is_awake(
    wakes_up: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, calls, queue = make()
    queue.asleep = calls.watching = True

    class Poll(Clock):
        def poll(self, milliseconds: float) -> bool:
            queue.asleep = not wakes_up
            return True

    monkeypatch.setattr(calls, "_new_poll", Poll)
    call = make_call()
    assert calls.send(call)
    calls.lead(call, None)
    assert call.result() == "value"
    # It may have looked who leads, and be about to send that worker a call.
    assert calls._leader.reading is (Reading.IO_THREAD if wakes_up else Reading.NOBODY)


def test_a_leader_leaves_an_outcome_to_the_io_thread_if_somebody_is_to_be_called_back(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulation, calls, queue = make()
    queue.asleep = calls.watching = True
    called: list[object] = []
    call = make_call()

    class Poll(Clock):
        def poll(self, milliseconds: float) -> bool:
            call.add_done_callback(called.append)  # by another thread, while this one waits
            return True

    monkeypatch.setattr(calls, "_new_poll", Poll)
    assert calls.send(call)
    calls.lead(call, None)
    assert not call.done()
    queue.handle(simulation.pool)
    ((sink, ended),) = simulation.pool.ledger.take_outcomes()
    assert not called
    sink.deliver(ended)
    assert called == [call]
    assert call.result() == "value"


def test_a_leader_whose_time_is_up_and_the_next_one_wait_apart(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _, calls, queue = make()
    queue.asleep = calls.watching = True
    call = make_call()
    polled = []

    class Poll(Clock):
        def poll(self, milliseconds: float) -> bool:
            assert self not in polled, "the system's would raise RuntimeError"
            polled.append(self)
            if len(polled) == 1:
                calls._leader._until = 0.0
                calls.lead(call, None)
            return True

    monkeypatch.setattr(calls, "_new_poll", Poll)
    assert calls.send(call)
    calls.lead(call, None)
    assert len(polled) == 2
    assert call.result() == "value"


def after_calls(code: Any) -> list[int]:
    """Where in a function Ctrl-C is noticed: behind its calls."""
    instructions = list(dis.get_instructions(code))
    pairs = itertools.pairwise(instructions)
    return [after.offset for before, after in pairs if before.opname.startswith("CALL")]


@pytest.mark.parametrize("step", ["send", "lead"])
def test_wherever_ctrl_c_hits_a_caller_its_turn_ends(
    step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = getattr(InlineCalls, step).__code__
    hits = 0
    for offset in after_calls(code):
        _, calls, queue = make()
        queue.asleep = calls.watching = True
        monkeypatch.setattr(calls, "_new_poll", Clock)

        def trace(frame: FrameType, event: str, _: object, offset: int = offset) -> Any:
            if frame.f_code is not code:
                return None
            frame.f_trace_opcodes = True
            if event == "opcode" and frame.f_lasti == offset:
                raise KeyboardInterrupt
            return trace

        call = make_call()
        if step == "lead":
            assert calls.send(call)
        before = sys.gettrace()
        sys.settrace(trace)
        try:
            calls.lead(call, None) if step == "lead" else calls.send(call)
        except KeyboardInterrupt:
            hits += 1
        finally:
            sys.settrace(before)
        assert not calls._turning._is_owned()
    assert hits > 5


class Clock:
    """Stands for the clock and for poll; a call's result comes when it is told to."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.comes_at = 0.0
        self.slept = 0
        self.looked = 0

    def monotonic(self) -> float:
        self.now += 1e-6
        return self.now

    def register(self, *_: object) -> None:
        pass

    def poll(self, milliseconds: float) -> bool:
        self.looked += not milliseconds
        if milliseconds:
            self.slept += 1
            self.now = max(self.now, self.comes_at)
        return self.now >= self.comes_at


SHORT, LONG = 0.00005, 0.001


@pytest.mark.parametrize(
    ("cpus", "rest", "takes", "sleeps"),
    [
        pytest.param(2, 0.0, [SHORT] * 4, [1, 0, 0, 0], id="short calls in a row"),
        pytest.param(2, 0.001, [SHORT] * 4, [1, 1, 1, 1], id="after a rest"),
        pytest.param(2, 0.0, [LONG] * 4, [1, 1, 1, 1], id="long calls"),
        pytest.param(2, 0.0, [SHORT, 3 * SHORT, SHORT, SHORT], [1, 1, 1, 0], id="a look in vain"),
        pytest.param(1, 0.0, [SHORT] * 4, [1, 1, 1, 1], id="the worker needs the processor"),
    ],
)
def test_an_outcome_is_waited_for_without_sleep_if_it_can_be_expected_soon(
    cpus: int, rest: float, takes: list[float], sleeps: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inline_module, "usable_cpus", lambda: cpus)
    assert [slept for slept, _ in run_inline_calls(takes, rest, monkeypatch)] == sleeps


def test_long_calls_are_hardly_ever_looked_for_in_vain(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(inline_module, "usable_cpus", lambda: 2)
    looks = [bool(looked) for _, looked in run_inline_calls([LONG] * 100, 0.0, monkeypatch)]
    assert sum(looks) < 25
    assert any(looks[-10:]), "they may be shorter by now"


def run_inline_calls(
    takes: list[float], rest: float, monkeypatch: pytest.MonkeyPatch
) -> list[tuple[int, int]]:
    """Send calls that take so many seconds one after another, and wait for each: how often each
    was slept for, and looked for without sleeping."""
    _, calls, queue = make()
    clock = Clock()
    monkeypatch.setattr(native, "monotonic", clock.monotonic)
    monkeypatch.setattr(calls, "_new_poll", lambda: clock)
    queue.asleep = calls.watching = True
    waits = []
    for seconds in takes:
        call = make_call()
        assert calls.send(call)
        clock.comes_at, clock.slept, clock.looked = clock.now + seconds, 0, 0
        calls.lead(call, None)
        assert clock.now >= clock.comes_at
        assert call.result() == "value"
        waits.append((clock.slept, clock.looked))
        clock.now += rest
    return waits

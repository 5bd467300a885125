"""Interrupting a call that keeps the CPU: its own code is hit, and nothing else.

The runner here is a greenlet of the test's; the signal is raised by the code under test itself, or
by hand, so that it comes at a known point.
"""

from __future__ import annotations

import _thread
import contextvars
import functools
import importlib
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any

import greenlet
import pytest

from hybridexec.worker.greenlets import interrupts
from hybridexec.worker.greenlets.interrupts import Interrupts
from hybridexec.worker.greenlets.shield import Shield


class Stopped(BaseException):
    """What is raised in calls here."""


def run(function: Callable[..., Any], *arguments: Any) -> tuple[str, Any]:
    """As a runner runs a call."""
    try:
        return "value", contextvars.copy_context().run(function, *arguments)
    except Stopped:
        return "stopped", None
    except ValueError as error:
        return "failed", str(error)


#: Lines of that on which the call has ended.
AFTERWARDS = range(run.__code__.co_firstlineno + 4, run.__code__.co_firstlineno + 8)


class Runner(greenlet.greenlet):
    """A greenlet that notes what was raised in which call."""

    raised: tuple[int, type[BaseException] | None] = (0, None)


def tell(runner: Any, call: int, error: type[BaseException]) -> None:
    runner.raised = (call, error)


@pytest.fixture
def running() -> dict[int, Runner]:
    return {}


@pytest.fixture
def made(running: dict[int, Runner]) -> Iterator[Interrupts]:
    before = signal.getsignal(interrupts._SIGNAL)
    made = Interrupts(running.get, run.__code__, frozenset({"ours.py"}), tell)
    yield made
    made._wanted = None
    a_while()  # it may be about to look again
    signal.signal(interrupts._SIGNAL, before)


def start(
    running: dict[int, Runner], call: int, function: Callable[..., Any], *arguments: Any
) -> Any:
    """Run a call in a greenlet, until it ends or switches here."""
    running[call] = Runner(run)
    return running[call].switch(function, *arguments)


def burn(call: int, made: Interrupts) -> str:
    """Keep the CPU until ``call`` is interrupted, and ask for that now and then, as a helper thread
    does: what measures coverage may run the handler where it has to ignore a signal."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        if not made.interrupt(call, Stopped):
            return "refused"
        a_while()
    return "never interrupted"


def want(made: Interrupts, call: int) -> None:
    """As if an interrupt of ``call`` had been asked for."""
    made._wanted = (call, Stopped)
    made._looks = 100_000


def a_while() -> str:
    """Long enough for any signal to be handled."""
    for _ in range(1000):
        pass
    return "ran on"


def test_the_call_that_has_the_cpu_is_interrupted(running: Any, made: Interrupts) -> None:
    assert start(running, 1, burn, 1, made) == ("stopped", None)
    assert running[1].raised == (1, Stopped)


def test_a_call_is_interrupted_once(running: Any, made: Interrupts) -> None:
    def clean_up() -> str:
        try:
            return burn(1, made)
        except Stopped:
            assert made.interrupt(1, Stopped), "it has the CPU"
            return a_while()

    assert start(running, 1, clean_up) == ("value", "ran on")


def test_it_is_interrupted_from_another_thread(running: Any, made: Interrupts) -> None:
    asked = []

    def hog() -> str:
        thread = threading.Thread(target=lambda: asked.append(made.interrupt(1, Stopped)))
        thread.start()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            pass
        return "never interrupted"

    assert start(running, 1, hog) == ("stopped", None)
    assert asked == [True]


def test_it_is_interrupted_deep_in_its_code(running: Any, made: Interrupts) -> None:
    def deep(levels: int) -> str:
        return deep(levels - 1) if levels else burn(1, made)

    assert start(running, 1, deep, 50) == ("stopped", None)


def test_an_import_is_not_cut_short(
    running: Any, made: Interrupts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.joinpath("asks_for_it.py").write_text(
        "from unit.worker.greenlets import test_interrupts\n"
        "asked = test_interrupts.made_here.interrupt(1, test_interrupts.Stopped)\n"
        "ran = test_interrupts.a_while()\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(globals(), "made_here", made)

    def imports() -> str:
        importlib.import_module("asks_for_it")
        return burn(1, made)

    assert start(running, 1, imports) == ("stopped", None)
    assert sys.modules["asks_for_it"].ran == "ran on", "it was stopped when that was done"


def test_a_call_that_waits_is_left_to_the_hub(running: Any, made: Interrupts) -> None:
    here = greenlet.getcurrent()
    start(running, 1, lambda: here.switch("waiting"))
    assert not made.interrupt(1, Stopped)
    assert start(running, 2, burn, 1, made) == ("value", "refused")
    assert running[1].switch("done") == ("value", "done")


def test_a_call_that_does_not_run_is_left_alone(made: Interrupts) -> None:
    assert not made.interrupt(1, Stopped)


def test_a_signal_that_comes_late_hits_no_other_call(running: Any, made: Interrupts) -> None:
    here = greenlet.getcurrent()
    start(running, 1, lambda: here.switch("waiting"))
    want(made, 1)  # it had the CPU when that was asked for

    def other() -> str:
        signal.raise_signal(interrupts._SIGNAL)
        return a_while()

    assert start(running, 2, other) == ("value", "ran on")
    assert running[1].switch("done") == ("stopped", None), "it has the CPU now"


def test_a_signal_that_comes_when_its_call_has_ended_hits_nothing(made: Interrupts) -> None:
    want(made, 1)
    signal.raise_signal(interrupts._SIGNAL)
    assert a_while() == "ran on"


def test_a_signal_that_nobody_asked_for_does_nothing(running: Any, made: Interrupts) -> None:
    def call() -> str:
        signal.raise_signal(interrupts._SIGNAL)
        return a_while()

    assert start(running, 1, call) == ("value", "ran on")


def test_our_own_functions_are_not_interrupted_nor_what_they_call(
    running: Any, made: Interrupts
) -> None:
    def ours() -> str:
        signal.raise_signal(interrupts._SIGNAL)
        told = a_while()
        made._wanted = None
        return told

    want(made, 1)
    code = ours.__code__.replace(co_filename="ours.py")
    assert start(running, 1, FunctionType(code, globals(), closure=ours.__closure__)) == (
        "value",
        "ran on",
    )
    running[2] = running[1]
    want(made, 2)
    assert start(running, 2, ours) == ("stopped", None)


def test_a_tracer_that_is_called_when_the_call_has_ended_is_not_interrupted(
    running: Any, made: Interrupts
) -> None:
    def fail() -> None:
        raise ValueError("of the call's own")

    def traced(frame: FrameType, event: str, _: object) -> Any:
        if frame.f_code is run.__code__ and event == "line" and frame.f_lineno in AFTERWARDS:
            want(made, 1)
            signal.raise_signal(interrupts._SIGNAL)
            told.append(a_while())
        return traced

    told: list[str] = []
    before = sys.gettrace()
    sys.settrace(traced)
    try:
        ended = start(running, 1, fail)
    finally:
        sys.settrace(before)
    assert ended == ("failed", "of the call's own")
    assert set(told) == {"ran on"}


def test_an_interrupt_that_is_asked_for_again_while_the_handler_looks_hits_nothing_there(
    running: Any, made: Interrupts, monkeypatch: pytest.MonkeyPatch
) -> None:
    looked = []

    def lines(code: Any) -> frozenset[int | None]:
        signal.raise_signal(interrupts._SIGNAL)
        looked.append(a_while())
        return frozenset()  # the call's C function has failed: that is no place to raise

    monkeypatch.setattr(interrupts, "_lines_that_call", lines)
    want(made, 1)
    assert start(running, 1, signal.raise_signal, interrupts._SIGNAL) == ("value", None)
    assert set(looked) == {"ran on"}


# -- giving way -------------------------------------------------------------------------------


def give_way(running: Any, monkeypatch: pytest.MonkeyPatch, sleep: Callable[..., Any]) -> str:
    """Have the main greenlet, which runs no call, wait for a moment in ``sleep``."""
    main = greenlet.getcurrent()
    monkeypatch.setattr("gevent.sleep", sleep)
    before = signal.getsignal(interrupts._SIGNAL)
    made = Interrupts(running.get, run.__code__, frozenset(), tell, lambda who: who is main)
    try:
        made.make_way()
        return a_while()
    finally:
        assert not made._handling
        signal.signal(interrupts._SIGNAL, before)


def test_while_something_gives_way_calls_are_interrupted(
    running: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    ends = []

    def sleep(seconds: float) -> None:
        made = signal.getsignal(interrupts._SIGNAL).__self__  # type: ignore[union-attr]
        ends.append(start(running, 1, burn, 1, made))

    assert give_way(running, monkeypatch, sleep) == "ran on"
    assert ends == [("stopped", None)]


def test_what_gives_way_may_be_stopped_there(running: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def sleep(seconds: float) -> None:
        raise Stopped

    with pytest.raises(Stopped):
        give_way(running, monkeypatch, sleep)


def test_what_does_no_calls_work_gives_no_way(made: Interrupts) -> None:
    made.make_way()
    assert a_while() == "ran on"
    assert not made._looks_for_way


# -- critical sections ------------------------------------------------------------------------


class Lock:
    """A lock made in Python; what is done between taking it and having it is counted."""

    def __init__(self) -> None:
        self.taken = self.owned = 0

    def acquire(self) -> None:
        self.taken += 1
        signal.raise_signal(interrupts._SIGNAL)
        a_while()
        self.owned += 1

    def release(self) -> None:
        signal.raise_signal(interrupts._SIGNAL)
        a_while()
        self.owned -= 1
        self.taken -= 1

    def __enter__(self) -> None:
        self.acquire()

    def __exit__(self, *error: object) -> None:
        self.release()


@pytest.mark.parametrize("step", ["acquire", "release"])
def test_a_lock_is_taken_and_owned_or_neither(running: Any, made: Interrupts, step: str) -> None:
    lock = Lock()

    def call() -> str:
        if step == "release":
            with lock:
                want(made, 1)
        else:
            want(made, 1)
            with lock:
                pass
        return a_while()

    assert start(running, 1, call) == ("stopped", None)
    assert (lock.taken, lock.owned) == (0, 0)


class Taken:
    """A lock taken in C, as threads' are: the signal is handled once that has returned."""

    __enter__ = staticmethod(functools.partial(_thread.interrupt_main, interrupts._SIGNAL))

    def __init__(self) -> None:
        self.given_back = False

    def __exit__(self, *error: object) -> None:
        self.given_back = True


def test_a_lock_that_with_has_just_taken_is_given_back(running: Any, made: Interrupts) -> None:
    lock = Taken()

    def call() -> str:
        want(made, 1)
        with lock:
            pass
        return a_while()

    assert start(running, 1, call) == ("stopped", None)
    assert lock.given_back


def test_a_shield_is_left_before_its_call_is_stopped(running: Any, made: Interrupts) -> None:
    done = []

    def call() -> str:
        with Shield():
            signal.raise_signal(interrupts._SIGNAL)
            done.append(a_while())
        return a_while()

    want(made, 1)
    assert start(running, 1, call) == ("stopped", None)
    assert done == ["ran on"]


def test_code_that_no_runner_called_is_not_interrupted(running: Any, made: Interrupts) -> None:
    def elsewhere() -> str:
        want(made, 1)
        signal.raise_signal(interrupts._SIGNAL)
        return a_while()

    running[1] = Runner(elsewhere)
    assert running[1].switch() == "ran on"

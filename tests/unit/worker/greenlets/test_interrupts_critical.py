"""Interrupts: what gives way, and critical sections."""

from __future__ import annotations

import _thread
import functools
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

import greenlet
import pytest

from hybridexec.worker.greenlets import interrupts
from hybridexec.worker.greenlets.interrupts import Interrupts
from hybridexec.worker.greenlets.shield import Shield

from .interrupted import Runner, Stopped, a_while, burn, run, start, tell, want

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


@pytest.mark.parametrize("rest", ["for n in numbers:\n    if n < 0: return", "while cares(): pass"])
def test_what_a_loop_jumps_back_from_sees_what_is_raised_there(
    running: Any, made: Interrupts, rest: str
) -> None:
    names: dict[str, Any] = {"numbers": range(1000), "cares": [1].__len__, "in_it": [], "left": []}
    text = (
        "def loop():\n try:\n  in_it.append(True)\n"
        f"  while True:\n   {rest}\n finally: left.append(True)\n"
    )
    exec(text, names)
    for count in range(1, 21):

        def ask(count: int = count) -> None:
            while len(names["in_it"]) < count:
                time.sleep(0.001)
            assert made.interrupt(1, Stopped)

        thread = threading.Thread(target=ask)
        thread.start()
        assert start(running, 1, names["loop"]) == ("stopped", None)
        thread.join()
        assert len(names["left"]) == count

"""Interrupting a call that keeps the CPU: its own code is hit, and nothing else."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
import time
from pathlib import Path
from types import FrameType, FunctionType
from typing import Any

import greenlet
import pytest

from hybridexec.worker.greenlets import interrupts
from hybridexec.worker.greenlets.interrupts import Interrupts

from .interrupted import AFTERWARDS, Stopped, a_while, burn, run, start, want


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
    thread = threading.Thread(target=lambda: asked.append(made.interrupt(1, Stopped)))

    def hog() -> str:
        thread.start()
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            pass
        return "never interrupted"

    assert start(running, 1, hog) == ("stopped", None)
    thread.join(30)
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

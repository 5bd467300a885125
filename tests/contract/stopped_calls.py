"""Calls that tests stop, and how they resist."""

from __future__ import annotations

import ctypes
import threading
import time
from concurrent.futures import Future
from typing import Any

import pytest

from hybridexec import CallTimeout

from .helpers import PATIENCE, Gate

TIMEOUT = 0.3


#: Far more than any rung needs, far less than the calls would take.
SOON = 30.0


#: What calls would take if nobody stopped them.
LONG = 60


def burn(gate: Gate | None = None, seconds: float = LONG) -> str:
    """Keep the CPU in Python code."""
    if gate is not None:
        gate.arrive("burn")
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        pass
    return "burnt"


def burn_without_except_exception(cleaned: Gate) -> str:
    try:
        return burn()
    except Exception:
        return "caught"
    finally:
        cleaned.arrive("cleaned")


def burn_and_wait_while_cleaning_up(burning: Gate, cleaned: Gate) -> None:
    try:
        burn(burning)
    finally:
        time.sleep(0.1)
        cleaned.arrive("cleaned")


def swallow(gate: Gate) -> str:
    """Wait, and go on waiting whatever is raised."""
    deadline = time.monotonic() + LONG
    while time.monotonic() < deadline:
        try:
            gate.arrive("swallow")
            time.sleep(0.05)
        except BaseException:
            pass
    return "swallowed"


_lock = threading.Lock()


def compute_with_lock(gate: Gate) -> None:
    """Compute in a loop that jumps back from where nothing is to be done, as most do."""
    numbers = range(1000)
    with _lock:
        gate.arrive("computes")
        while True:
            for number in numbers:
                if number < 0:
                    return


def take_lock() -> bool:
    """Take and give back what ``compute_with_lock`` has taken."""
    taken = _lock.acquire(timeout=PATIENCE / 2)
    if taken:
        _lock.release()
    return taken


def hold_gil(gate: Gate) -> None:
    """Be in C code that keeps the GIL, so that no Python code runs in this process."""
    gate.arrive("gil")
    ctypes.PyDLL(None).sleep(LONG)


def clean_up(gate: Gate, seconds: float) -> str:
    """Take so long to clean up after the time is up, and then return in spite of it."""
    try:
        time.sleep(LONG)
    except BaseException:
        gate.arrive("told")
        time.sleep(seconds)
        gate.arrive("cleaned")
    return "cleaned"


def times_out(future: Future[Any]) -> None:
    with pytest.raises(CallTimeout, match=f"its timeout of {TIMEOUT} s"):
        future.result(timeout=SOON)

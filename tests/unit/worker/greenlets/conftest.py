"""Interrupts of greenlets that stand for runners."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import pytest

from hybridexec.worker.greenlets import interrupts
from hybridexec.worker.greenlets.interrupts import Interrupts

from .interrupted import Runner, a_while, run, tell


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

"""Where a call that keeps the loop may be left though it waits in C."""

from __future__ import annotations

import sys
import threading
import time
from types import FrameType
from typing import Any

import pytest

from hybridexec.worker.tasks.interrupts import Interrupts

WAITING = "def wait(lock, there):\n    there.set()\n    lock.acquire()\n"


def frame_of(thread: threading.Thread) -> FrameType:
    assert thread.ident is not None
    return sys._current_frames()[thread.ident]


def _is_at(frame: FrameType, file: str, line: int) -> bool:
    return (frame.f_code.co_filename, frame.f_lineno) == (file, line)


@pytest.mark.parametrize(
    ("where", "is_stuck"),
    [("/a/module.py", True), ("<frozen importlib._bootstrap_external>", False)],
)
def test_code_that_waits_is_left_unless_it_reads_a_module(where: str, is_stuck: bool) -> None:
    names: dict[str, Any] = {}
    exec(compile(WAITING, where, "exec"), names)
    lock, there = threading.Lock(), threading.Event()
    interrupts = Interrupts.__new__(Interrupts)
    interrupts._seen = 0, 0, 0.0
    with lock:
        thread = threading.Thread(target=names["wait"], args=(lock, there))
        thread.start()
        there.wait(30)
        deadline = time.monotonic() + 30
        while not _is_at(frame_of(thread), where, WAITING.count("\n")):
            assert time.monotonic() < deadline
            time.sleep(0.001)
        found = False
        for _ in range(1000):  # until it waits there
            frame = frame_of(thread)
            assert frame.f_back is not None
            found = found or interrupts._is_stuck(frame, frame.f_back)
    thread.join()
    assert found == is_stuck

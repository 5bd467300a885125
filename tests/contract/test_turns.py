"""Calls that hold the hub one after another: between them, its loop gets its turn."""

from __future__ import annotations

import ctypes
import itertools
import socket
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from hybridexec import CallTimeout, HybridExecutor

from .conftest import Make
from .helpers import PATIENCE, Gate

#: Blocks as a C library does: outside Python, without the GIL, and unknown to gevent.
_usleep = ctypes.CDLL(None).usleep
_BLOCK_US = 20_000
#: Shorter than a call that blocks: over when that is.
_NAP = 0.01

# In a worker: what has happened, in that order.
events: list[Any] = []


def block(n: int) -> int:
    events.append(n)
    _usleep(_BLOCK_US)
    return n


def block_and_return_an_object(n: int) -> dict[str, int]:
    return {"n": block(n)}


def block_and_fail(n: int) -> None:
    raise ValueError(block(n))


def block_and_wait(n: int) -> int:
    block(n)
    time.sleep(0)
    return n


def block_each_second_time(n: int) -> int:
    if n % 2:
        return block(n)
    events.append(n)
    return n


def compute(n: int) -> int:
    events.append(n)
    end = time.monotonic() + _BLOCK_US / 1e6
    while time.monotonic() < end:
        pass
    return n


def tick(last: int) -> None:
    """Be woken by timers for as long as calls come."""
    events.append("ticks")
    while last not in events:
        time.sleep(_NAP)
        events.append("tick")


mouths: list[socket.socket] = []


def listen() -> None:
    """Be woken by a descriptor."""
    mouth, ear = socket.socketpair()
    mouths.append(mouth)
    events.append("listens")
    events.append(ear.recv(10).decode())


def block_and_speak(n: int) -> int:
    block(n)
    mouths[0].send(b"heard")
    return n


def nap_or_end(seconds: float) -> None:
    events.append("naps")
    try:
        time.sleep(seconds)
    finally:
        events.append("ends")


def happened() -> list[Any]:
    return events


def submit(executor: HybridExecutor, function: Callable[[int], Any], calls: range) -> None:
    for future in [executor.submit(function, n) for n in calls]:
        future.exception(timeout=60)


def submit_with_timeout(
    executor: HybridExecutor, function: Callable[[int], Any], calls: range
) -> None:
    submit(executor.options(timeout=60), function, calls)


def map_outcomes(executor: HybridExecutor, function: Callable[[int], Any], calls: range) -> None:
    list(executor.outcomes(function, calls))


@pytest.fixture(params=[2, 30], ids=["few slots", "many slots"])
def worker(request: pytest.FixtureRequest, make: Make) -> HybridExecutor:
    """A worker in which calls follow one another, or each has a slot of its own."""
    return make(max_workers=1, concurrency=request.param)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("send", "function"),
    [
        (submit, block),
        (submit, block_and_return_an_object),
        (submit, block_and_fail),
        (submit, block_and_wait),
        (submit, block_each_second_time),
        (submit, compute),
        (submit_with_timeout, block),
        (map_outcomes, block),
    ],
)
def test_timers_are_due_between_calls_that_hold_the_hub(
    worker: HybridExecutor, send: Callable[..., None], function: Callable[[int], Any]
) -> None:
    ticking = worker.submit(tick, 11)
    send(worker, function, range(12))
    ticking.result(timeout=30)
    seen = worker.submit(happened).result(timeout=30)
    seen = seen[seen.index("ticks") :]
    calls_in_a_row = [len([*row]) for kind, row in itertools.groupby(seen, type) if kind is int]
    assert max(calls_in_a_row) <= 2, seen


def test_descriptors_are_looked_at_between_calls_that_hold_the_hub(worker: HybridExecutor) -> None:
    listening = worker.submit(listen)
    submit(worker, block_and_speak, range(12))
    listening.result(timeout=30)
    seen = worker.submit(happened).result(timeout=30)
    seen = seen[seen.index("listens") :]
    assert seen.index("heard") <= 3, seen


def test_calls_whose_time_is_up_are_stopped_between_calls_that_hold_the_hub(
    worker: HybridExecutor,
) -> None:
    napping = worker.options(timeout=_NAP).submit(nap_or_end, PATIENCE)
    submit(worker, block, range(12))
    with pytest.raises(CallTimeout):
        napping.result(timeout=30)
    seen = worker.submit(happened).result(timeout=30)
    assert seen.index("ends") - seen.index("naps") <= 3, seen


def block_until_open(gate: Gate) -> None:
    gate.arrive("block")
    deadline = time.monotonic() + PATIENCE
    while not gate.is_open() and time.monotonic() < deadline:
        _usleep(_BLOCK_US)
    events.append("open")


def test_calls_are_cancelled_between_calls_that_hold_the_hub(
    worker: HybridExecutor, gate: Gate
) -> None:
    napping = worker.submit(nap_or_end, PATIENCE)
    held = worker.submit(block_until_open, gate)
    gate.wait_for(1)
    blocking = [worker.submit(block, n) for n in range(40)]
    assert napping.cancel()
    for _ in range(2):  # what is posted now is done when that has been sent
        turn = threading.Event()
        worker._engine._queue.post(turn.set)
        assert turn.wait(30)
    gate.open()
    held.result(timeout=30)
    assert [future.result(timeout=30) for future in blocking] == [*range(40)]
    seen = worker.submit(happened).result(timeout=30)
    # The parent may take a moment to say so, and must not have to wait for all of them.
    assert seen.index("ends") - seen.index("open") < 20, seen


def nap_and_hog(seconds: float, gate: Gate) -> None:
    time.sleep(seconds)
    gate.hog("hog")


def test_a_result_held_back_for_others_leaves_though_a_call_keeps_the_hub(
    make: Make, gate: Gate
) -> None:
    worker = make(max_workers=1, concurrency=60)
    crowd = [worker.submit(nap_or_end, PATIENCE) for _ in range(50)]
    napping = worker.submit(nap_or_end, 0.3)  # its result may wait for 10 ms
    hogging = worker.submit(nap_and_hog, 0.302, gate)
    napping.result(timeout=PATIENCE / 2)
    assert not hogging.done()
    gate.open()
    hogging.result(timeout=PATIENCE)
    worker.cancel_all()
    assert all(future.cancelled() for future in crowd)

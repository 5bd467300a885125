"""Who may send a call in the I/O thread's place, and when."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hybridexec.options import CallOptions
from hybridexec.parent.batch import Batch
from hybridexec.parent.functions import Function
from hybridexec.parent.lone import LoneCalls
from hybridexec.parent.queue import Queue

from .simulation import Simulation, Sink


class IdleFleet:
    """Does nothing of what the pool decides."""

    led = False

    def send(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("asleep", "watching", "sent"),
    [(True, True, True), (False, True, False), (True, False, False)],
)
def test_a_caller_sends_only_while_the_io_thread_watches_in_its_sleep(
    asleep: bool, watching: bool, sent: bool
) -> None:
    simulation = Simulation(max_workers=1)
    simulation.submit()
    simulation.turn()
    simulation.ready(1)
    simulation.run(lambda: not simulation.pool.unfinished)
    fleet: Any = IdleFleet()
    queue = Queue()
    lone = LoneCalls(simulation.pool, fleet, threading.RLock(), queue)
    # It may have been otherwise when the caller looked first.
    queue.asleep, lone.watching = asleep, watching
    batch = Batch(Function(b"f", lasting=True), [(0,)], Sink(), CallOptions(), 0)
    assert lone.express(batch) is sent
    assert simulation.pool.unfinished == sent

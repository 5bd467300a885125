"""Pools in situations with which several files' tests begin."""

from __future__ import annotations

from typing import Any

from hybridexec.parent.pool.worker import FIRST_WINDOW
from hybridexec.parent.work.function import Function

from ..simulation import Simulation


def running(max_workers: int = 1, slots: int = 1, **options: Any) -> Simulation:
    """A pool with all its workers ready, and no calls."""
    simulation = Simulation(max_workers, slots, **options)
    batch = simulation.submit(max_workers)
    simulation.turn()
    simulation.ready(*simulation.workers)
    simulation.run(lambda: not simulation.pool.ledger.unfinished)
    assert len(simulation.workers) == max_workers
    assert not batch.remaining
    for worker in simulation.pool.workers.values():
        worker.window = FIRST_WINDOW
    simulation.in_flight.clear()
    return simulation


def stuck() -> Simulation:
    """Worker 1 runs a call and has others waiting behind it; worker 2 is idle."""
    simulation = running(max_workers=2, slots=1)
    simulation.submit(6)
    simulation.turn()
    simulation.take(1)
    simulation.take(2)
    while simulation.calls_at(2):
        simulation.answer(2)
        if simulation.workers[2].inbox:
            simulation.take(2)
    assert len(simulation.calls_at(1)) > 1
    simulation.turn(0.001)  # the pool sees that worker 1 has just taken a call
    return simulation


def far_behind() -> Simulation:
    """As stuck(), but the calls are batches of their own, and ten of them wait."""
    simulation = running(max_workers=2, slots=1, budget=100)
    simulation.pool.workers[1].window = simulation.pool.workers[1].ahead = 20
    simulation.submit()
    simulation.turn()
    simulation.take(1)
    simulation.pool.workers[2].budget = 0  # for a moment it gets none
    for _ in range(10):
        simulation.submit()
    simulation.turn(0.001)
    simulation.turn(0.001)
    assert len(simulation.calls_at(1)) == 11
    simulation.pool.workers[2].budget = 100
    simulation.pool.workers[2].window = simulation.pool.workers[2].ahead = 20
    return simulation


GRACE = 0.75


def late(*, traced: bool, hog: int | None = 0, size: int = 3, **options: Any) -> Simulation:
    """Of some calls in a worker, call ``hog`` keeps the hub; all others have a timeout, too."""
    simulation = running(slots=size, grace=GRACE)
    function = Function(b"passing", lasting=False)
    batch = simulation.submit(size, function, timeout=1.0, **options)
    simulation.turn()
    simulation.take(1, size)
    if hog is not None:
        simulation.workers[1].keep_hub(batch.first + hog, traced)
    return simulation

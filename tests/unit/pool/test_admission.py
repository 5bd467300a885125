"""When calls with limits are handed to their crews: slots, workers, and others that wait."""

from __future__ import annotations

import pytest

from hybridexec.limits import Limits
from hybridexec.parent.pool.worker import MAX_AHEAD
from hybridexec.wire import messages

from ..simulation import Simulation
from .situations import running


def test_workers_are_started_for_what_may_start_only() -> None:
    simulation = Simulation(4, 2)
    simulation.submit(100, limits=Limits(rate=1, burst=1))
    simulation.turn()
    assert len(simulation.workers) == 1
    simulation.ready(1)
    simulation.turn()
    assert len(simulation.calls_at(1)) == 1
    assert len(simulation.workers) == 1
    assert simulation.pool.limited == 99
    assert simulation.pool.wait_seconds(simulation.now) == 1.0


def test_calls_whose_start_is_limited_are_not_sent_ahead() -> None:
    simulation = running(slots=2)
    simulation.submit(20, limits=Limits(rate=1000, burst=10))
    simulation.turn()
    assert len(simulation.calls_at(1)) == 2
    simulation.turn(5.0)
    assert len(simulation.calls_at(1)) == 2
    assert simulation.pool.wait_seconds(simulation.now) is None, "only the end of a call matters"
    simulation.take(1, 2)
    simulation.answer(1)
    simulation.turn()
    assert len(simulation.calls_at(1)) == 2
    simulation.finish()


@pytest.mark.parametrize("weights", [(2 * MAX_AHEAD, 0), (0, 2 * MAX_AHEAD), (0, 1, 2 * MAX_AHEAD)])
@pytest.mark.parametrize("turns", [1, 2, 3])
def test_none_is_let_go_that_is_too_heavy_to_be_sent_beside_others(
    weights: tuple[int, ...], turns: int
) -> None:
    """Or several would start together later. (The simulation judges how many do.)"""
    simulation = Simulation(1, 4)
    fast, slow = Limits(rate=400, burst=1), Limits(rate=100, burst=3)
    for weight in weights:
        simulation.submit(5, weight=weight, limits=fast if weight == weights[0] else slow)
    for _ in range(turns):
        simulation.turn()
    simulation.ready(1)
    simulation.turn()
    simulation.resize(2)
    simulation.turn()
    simulation.ready(2)
    simulation.turn(0.01)
    simulation.finish()


def test_others_get_every_other_slot() -> None:
    simulation = running(slots=1)
    limited = simulation.submit(50, limits=Limits(rate=1e6, burst=50))
    others = simulation.submit(50)
    ended = []
    for _ in range(40):
        simulation.turn(0.001)
        if not simulation.workers[1].running:
            simulation.take(1)
        (call,) = simulation.workers[1].running
        ended.append(simulation.batch_of[call])
        simulation.answer(1)
    assert abs(ended.count(limited) - ended.count(others)) <= 4
    simulation.finish()


def test_calls_of_which_few_may_run_at_once_are_sent_ahead() -> None:
    simulation = running(slots=1)
    simulation.submit(20, limits=Limits(key=str, per_key=5), keys=["a", "b"])
    simulation.turn()
    assert simulation.pool.limited == 10
    assert simulation.pool.wait_seconds(simulation.now) is None
    assert len(simulation.calls_at(1)) > 1
    simulation.finish()


def test_a_retry_that_outlasts_idle_workers_gets_one() -> None:
    simulation = running(idle_timeout=1.0)
    simulation.submit(limits=Limits(rate=0.1, burst=1), retries=1, backoff=0.0)
    simulation.turn()
    simulation.take(1)
    simulation.answer(1, status=messages.RETRIABLE)
    simulation.turn(2.0)
    simulation.die(1)
    simulation.turn(9.0)
    assert list(simulation.workers) == [2]
    simulation.finish()


def test_what_waits_ends_with_the_pool() -> None:
    simulation = running()
    batch = simulation.submit(5, limits=Limits(rate=1, burst=1))
    simulation.turn()
    simulation.shutdown(cancel_unstarted=True)
    assert simulation.pool.limited == 0
    assert batch.remaining == 1
    simulation.finish()

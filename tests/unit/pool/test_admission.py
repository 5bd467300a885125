"""When calls with limits are handed to their crews: slots, workers, and others that wait."""

from __future__ import annotations

from hybridexec.limits import Limits
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

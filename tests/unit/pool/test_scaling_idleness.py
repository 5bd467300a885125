"""Workers that have had no calls for ``idle_timeout`` seconds are stopped, and started again when
calls come."""

from __future__ import annotations

import hypothesis
import pytest
from hypothesis import strategies

from hybridexec.parent.pool.worker import WorkerState
from hybridexec.wire import messages

from ..simulation import Simulation
from .situations import running

TIMEOUT = 5.0


def idle(workers: int = 1, **options: object) -> Simulation:
    """All workers have had calls, and have none from now on."""
    return running(workers, idle_timeout=TIMEOUT, **options)


def stopped(simulation: Simulation) -> list[int]:
    return [number for number, worker in simulation.workers.items() if worker.stopped]


def let_stop(simulation: Simulation) -> None:
    """Those that were told to end are gone."""
    for number, worker in list(simulation.workers.items()):
        simulation.read(number)
        if worker.stopped:
            simulation.die(number)


def test_without_a_limit_a_worker_stays() -> None:
    simulation = running()
    assert simulation.pool.rest_seconds(simulation.now) is None
    simulation.turn(1e9)
    assert not simulation.heads(messages.Stop)


def test_a_worker_is_stopped_when_it_has_been_idle_for_so_long_and_no_sooner() -> None:
    simulation = idle()
    seconds = simulation.pool.rest_seconds(simulation.now)
    assert seconds is not None
    assert 0 < seconds <= TIMEOUT
    simulation.turn(seconds - 0.001)
    assert not simulation.heads(messages.Stop)
    simulation.turn(0.001)
    assert simulation.heads(messages.Stop, 1) == [messages.Stop().head]
    assert simulation.pool.rest_seconds(simulation.now) is None


def test_its_time_begins_when_its_last_call_ends() -> None:
    simulation = idle()
    simulation.submit()
    simulation.turn()
    simulation.take(1)
    simulation.turn(10 * TIMEOUT)
    simulation.answer(1)
    simulation.turn(TIMEOUT - 0.001)
    assert not simulation.heads(messages.Stop)
    simulation.turn(0.001)
    assert simulation.heads(messages.Stop, 1)


def test_one_that_is_started_but_gets_no_call_has_its_time_too() -> None:
    simulation = Simulation(idle_timeout=TIMEOUT)
    simulation.pool.want(1, "greenlet")
    simulation.turn()
    simulation.turn(10 * TIMEOUT)
    simulation.ready(1)
    simulation.turn(TIMEOUT / 2)
    assert not simulation.heads(messages.Stop)
    simulation.turn(TIMEOUT / 2)
    assert simulation.heads(messages.Stop, 1)


def test_a_call_that_comes_when_it_is_due_is_run_there() -> None:
    simulation = idle()
    simulation.now += TIMEOUT
    simulation.submit()
    simulation.turn()
    assert not simulation.heads(messages.Stop)
    assert len(simulation.calls_at(1)) == 1
    simulation.finish()


@pytest.mark.parametrize("gone", [False, True])
def test_a_call_that_comes_after_that_gets_another_worker(gone: bool) -> None:
    simulation = idle()
    simulation.turn(TIMEOUT)
    if gone:
        let_stop(simulation)
        simulation.turn()
        assert not simulation.workers
    simulation.submit()
    simulation.turn()
    assert simulation.pool.workers[2].state is WorkerState.STARTING
    simulation.finish()
    assert simulation.sink.statuses() == [messages.VALUE] * 2


def test_no_worker_is_started_before_there_is_a_call_for_it() -> None:
    simulation = idle(3)
    simulation.turn(TIMEOUT)
    let_stop(simulation)
    simulation.turn()
    assert not simulation.workers
    simulation.submit()
    simulation.turn()
    assert list(simulation.workers) == [4]
    simulation.finish()


def busy_beside_an_idle_one(**options: object) -> Simulation:
    """Worker 1 runs two calls for long; worker 2 has ended because it had none."""
    simulation = idle(2, slots=2, **options)
    simulation.submit(4)
    simulation.turn()
    simulation.take(1, 2)
    simulation.take(2, 2)
    simulation.answer(2)
    simulation.turn(TIMEOUT)
    assert simulation.heads(messages.Stop, 2)
    let_stop(simulation)
    return simulation


@pytest.mark.parametrize("all_at_once", [False, True])
def test_calls_that_others_run_do_not_bring_it_back(all_at_once: bool) -> None:
    simulation = busy_beside_an_idle_one(all_at_once=all_at_once)
    simulation.turn()
    simulation.turn(10 * TIMEOUT)
    assert list(simulation.workers) == [1]
    simulation.finish()


def test_one_more_call_does() -> None:
    simulation = busy_beside_an_idle_one()
    simulation.submit()
    simulation.turn()
    assert list(simulation.workers) == [1, 3]
    simulation.finish()


def test_as_many_calls_as_before_get_as_many_workers_as_before() -> None:
    simulation = busy_beside_an_idle_one()
    simulation.answer(1)
    simulation.submit(2)
    simulation.turn()
    assert list(simulation.workers) == [1, 3]
    simulation.finish()


def test_a_call_that_is_to_run_again_gets_a_worker_when_all_have_ended() -> None:
    simulation = idle()
    simulation.submit(retries=1, backoff=60.0)
    simulation.turn()
    simulation.take(1)
    simulation.answer(1, status=messages.RETRIABLE)
    simulation.turn(TIMEOUT)
    assert simulation.heads(messages.Stop, 1)
    let_stop(simulation)
    simulation.turn()
    assert not simulation.workers
    simulation.turn(600.0)
    assert list(simulation.workers) == [2]
    simulation.finish()


def test_a_replacement_that_waits_for_slots_stays() -> None:
    simulation = Simulation(max_workers=1, slots=1, budget=1, idle_timeout=TIMEOUT)
    simulation.submit(3)
    simulation.turn()
    simulation.ready(1)
    simulation.turn()
    simulation.take(1)
    simulation.ready(2)
    simulation.turn(10 * TIMEOUT)
    assert not simulation.heads(messages.Stop)
    assert simulation.pool.rest_seconds(simulation.now) is None
    simulation.finish()


def test_its_end_is_no_loss_and_no_restart() -> None:
    simulation = idle()
    simulation.turn(TIMEOUT)
    tally = simulation.pool.actions.tally
    let_stop(simulation)
    told = [entry[1:] for entry in tally.log if entry[1] in ("WorkerRecycled", "WorkerEnded")]
    pid = told[0][2]
    assert told == [
        ("WorkerRecycled", 1, pid, "idle_timeout"),
        ("WorkerEnded", 1, pid, False, ""),
    ]
    assert tally.idle_ends == 1
    assert tally.restarts == 0


def test_when_the_pool_ends_nobody_is_said_to_be_idle() -> None:
    simulation = idle()
    simulation.shutdown()
    simulation.turn(TIMEOUT)
    assert simulation.pool.actions.tally.idle_ends == 0
    assert simulation.pool.rest_seconds(simulation.now) is None


@hypothesis.given(
    strategies.lists(
        strategies.tuples(
            strategies.integers(0, 5), strategies.floats(0, 2 * TIMEOUT), strategies.booleans()
        ),
        max_size=20,
    )
)
def test_no_call_is_lost_and_no_worker_stays_whatever_comes_when(
    steps: list[tuple[int, float, bool]],
) -> None:
    simulation = Simulation(max_workers=3, idle_timeout=TIMEOUT)
    for calls, seconds, runs in steps:
        if calls:
            simulation.submit(calls)
        simulation.turn(seconds)
        if runs:
            simulation.run(lambda: not simulation.pool.ledger.unfinished)
    simulation.run(lambda: not simulation.pool.ledger.unfinished)
    while (left := simulation.pool.rest_seconds(simulation.now)) is not None or simulation.workers:
        let_stop(simulation)
        for number, worker in list(simulation.workers.items()):
            if not worker.greeted:
                simulation.ready(number)
        simulation.turn(left or 0.0)
    assert simulation.sink.statuses() == [messages.VALUE] * simulation.sink.size
    simulation.finish()

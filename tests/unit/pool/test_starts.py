"""Worker starts that come to nothing: the next ones come singly, after longer and longer pauses,
and after a few in a row there are no more."""

from __future__ import annotations

import pytest

from hybridexec.errors import ExecutorBroken, WorkerLost
from hybridexec.parent.pool.pool import Phase
from hybridexec.parent.pool.starts import MAX_FAILED_STARTS
from hybridexec.parent.work.batch import LOST

from ..simulation import Simulation
from .situations import running


def die_at_once(simulation: Simulation, ready: bool = False) -> BaseException:
    """The newest worker ends before it has taken a call."""
    number = max(simulation.workers)
    simulation.start(number)
    if ready:
        simulation.ready(number)
        simulation.turn()
    return simulation.die(number)


@pytest.mark.parametrize("ready", [[0, 0, 0], [1, 1, 1], [0, 1, 0], [1, 0, 1]])
def test_starts_in_a_row_that_come_to_nothing_break_the_pool(ready: list[int]) -> None:
    simulation = Simulation(max_workers=1)
    simulation.submit(2)
    for each in ready:
        assert simulation.pool.phase is Phase.RUNNING
        simulation.turn(60)
        lost = die_at_once(simulation, ready=bool(each))
    assert len(ready) == MAX_FAILED_STARTS
    assert simulation.pool.phase is Phase.BROKEN
    assert [outcome[1:3] for outcome in simulation.sink.got.values()] == [(LOST, lost)] * 2
    assert simulation.pool.finished


def test_the_next_start_comes_after_a_pause_each_longer_than_the_one_before() -> None:
    simulation = Simulation(max_workers=1)
    simulation.submit(1)
    simulation.turn()
    pauses = []
    for _ in range(MAX_FAILED_STARTS - 1):
        die_at_once(simulation)
        simulation.dispatch()
        assert not simulation.workers
        pause = simulation.pool.wait_seconds(simulation.now)
        assert pause is not None
        pauses.append(pause)
        simulation.turn(pause)
        assert len(simulation.workers) == 1
        assert simulation.pool.wait_seconds(simulation.now) is None
    assert 0 < pauses[0] < pauses[1] < 1


def test_workers_that_were_started_together_and_die_together_count_once() -> None:
    simulation = Simulation(max_workers=8)
    simulation.submit(20)
    simulation.turn()
    for number in list(simulation.workers):
        simulation.start(number)
    for number in list(simulation.workers):
        simulation.die(number)
    assert simulation.pool.phase is Phase.RUNNING
    for _ in range(MAX_FAILED_STARTS - 1):
        simulation.turn(60)
        assert len(simulation.workers) == 1, "the others wait until one has taken a call"
        die_at_once(simulation)
    assert simulation.pool.phase is Phase.BROKEN


def test_when_a_worker_has_taken_a_call_all_others_are_started() -> None:
    simulation = Simulation(max_workers=4)
    simulation.submit(8)
    simulation.turn()
    die_at_once(simulation)
    for number in list(simulation.workers):
        simulation.start(number)
        simulation.die(number)
    simulation.turn(60)
    (number,) = simulation.workers
    simulation.start(number)
    simulation.ready(number)
    simulation.turn()
    simulation.take(number)
    simulation.answer(number)
    simulation.hear(number)
    simulation.turn()
    assert len(simulation.workers) == 4


def test_a_worker_that_has_taken_a_call_forgives_earlier_starts() -> None:
    simulation = Simulation(max_workers=1)
    simulation.submit(20)
    for _ in range(3 * MAX_FAILED_STARTS):
        simulation.turn(60)
        die_at_once(simulation, ready=True)
        simulation.turn(60)
        (number,) = simulation.workers
        simulation.start(number)
        simulation.ready(number)
        simulation.turn()
        simulation.take(number)
        simulation.die(number)
    assert simulation.pool.phase is Phase.RUNNING


def test_a_worker_that_can_run_calls_is_kept_whatever_becomes_of_others() -> None:
    simulation = running(max_workers=2)
    simulation.die(1)
    simulation.submit(20)
    started = set(simulation.workers)
    for _ in range(20):
        simulation.turn(5)
        if max(simulation.workers) not in started:
            started.add(max(simulation.workers))
            die_at_once(simulation)
    assert simulation.pool.phase is Phase.RUNNING
    assert MAX_FAILED_STARTS < len(started) < 10
    simulation.run(lambda: not simulation.pool.ledger.unfinished)
    assert simulation.pool.phase is Phase.RUNNING


def test_idle_workers_that_die_unused_break_nothing() -> None:
    simulation = Simulation(max_workers=2, all_at_once=True)
    batch = simulation.submit(1)
    simulation.turn()
    simulation.cancel(batch, None, running=False)
    for _ in range(3 * MAX_FAILED_STARTS):
        for number in list(simulation.workers):
            simulation.start(number)
            simulation.ready(number)
            simulation.die(number)
        simulation.turn(60)
    assert not simulation.workers, "nobody needs any"
    simulation.submit(2)
    simulation.run(lambda: not simulation.pool.ledger.unfinished)
    assert simulation.pool.phase is Phase.RUNNING


def test_suspects_for_which_no_worker_can_be_had_are_given_up() -> None:
    simulation = running(slots=1, max_workers=2)
    simulation.submit(1, on_worker_loss="retry")
    simulation.turn()
    victim = next(n for n in simulation.workers if simulation.calls_at(n))
    simulation.take(victim)
    simulation.die(victim)
    started = set(simulation.workers)
    for _ in range(40):
        simulation.turn(5)
        if set(simulation.workers) - started:
            started |= set(simulation.workers)
            die_at_once(simulation)
    assert simulation.pool.phase is Phase.RUNNING
    (outcome,) = (o for o in simulation.sink.got.values() if o[1] == LOST)
    assert isinstance(outcome[2], WorkerLost)


def test_a_worker_that_cannot_get_ready_breaks_the_pool_only_if_there_is_no_other() -> None:
    simulation = running(max_workers=2)
    simulation.submit(20)
    simulation.die(1)
    simulation.turn(60)
    new = max(simulation.workers)
    why = ExecutorBroken("no process")
    simulation.pool.unready(new, why)
    assert simulation.pool.phase is Phase.RUNNING
    simulation.die(2)
    simulation.pool.unready(new, why)
    assert simulation.pool.phase is Phase.BROKEN

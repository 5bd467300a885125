"""A pool's limit of workers is changed while it runs."""

from __future__ import annotations

import hypothesis
from hypothesis import strategies

from hybridexec.parent.pool.worker import WorkerState
from hybridexec.wire import messages

from ..simulation import Simulation
from .situations import running


def resize(simulation: Simulation, max_workers: int) -> None:
    simulation.resize(max_workers)
    simulation.turn()


def active(simulation: Simulation) -> list[int]:
    return [
        worker.id
        for worker in simulation.pool.workers.values()
        if worker.state in (WorkerState.STARTING, WorkerState.READY)
    ]


def test_with_a_higher_limit_waiting_calls_get_more_workers() -> None:
    simulation = running(1)
    simulation.submit(3)
    simulation.turn()
    resize(simulation, 3)
    assert len(active(simulation)) == 3
    simulation.finish()


def test_with_a_lower_limit_idle_workers_end_first() -> None:
    simulation = running(3)
    simulation.submit()
    simulation.turn()
    simulation.take(1)
    resize(simulation, 1)
    assert active(simulation) == [1]
    assert not simulation.heads(messages.Stop, 1)
    assert simulation.heads(messages.Stop, 2)
    assert simulation.heads(messages.Stop, 3)
    simulation.finish()


def test_a_busy_one_that_is_too_many_finishes_what_it_runs_and_gives_back_the_rest() -> None:
    simulation = running(2)
    simulation.submit(6)
    simulation.turn()
    simulation.take(1)
    simulation.take(2)
    resize(simulation, 1)
    assert [w.state for w in simulation.pool.workers.values()].count(WorkerState.RETIRING) == 1
    assert simulation.heads(messages.Recall)
    simulation.finish()
    assert simulation.sink.statuses() == [messages.VALUE] * simulation.sink.size


def test_one_that_is_only_starting_ends_when_it_is_ready() -> None:
    simulation = Simulation(max_workers=2)
    simulation.submit(2)
    simulation.turn()
    resize(simulation, 1)
    simulation.ready(1, 2)
    simulation.turn()
    assert len(active(simulation)) == 1
    simulation.finish()


def test_nobody_takes_the_place_of_those_that_were_too_many() -> None:
    simulation = running(3)
    resize(simulation, 1)
    simulation.submit(5)
    simulation.run(lambda: not simulation.pool.ledger.unfinished)
    simulation.run(lambda: len(simulation.workers) == 1)
    assert simulation.pool.actions.tally.restarts == 0
    simulation.finish()


@hypothesis.given(
    strategies.lists(
        strategies.tuples(strategies.integers(1, 5), strategies.integers(0, 6)), max_size=12
    )
)
def test_calls_end_and_the_limit_holds_whatever_comes_when(steps: list[tuple[int, int]]) -> None:
    simulation = Simulation(max_workers=2)
    for max_workers, calls in steps:
        if calls:
            simulation.submit(calls)
        resize(simulation, max_workers)
        for number, worker in list(simulation.workers.items()):
            if not worker.greeted:
                simulation.ready(number)
        simulation.turn(0.01)
        assert len(active(simulation)) <= max_workers
    simulation.finish()
    assert simulation.sink.statuses() == [messages.VALUE] * simulation.sink.size

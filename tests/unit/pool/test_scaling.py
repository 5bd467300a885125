"""How many workers are started, and which are replaced: after their share of calls, or when they
hold too much memory."""

from __future__ import annotations

import pytest

from hybridexec.parent.pool.pool import Phase
from hybridexec.parent.pool.worker import WorkerState
from hybridexec.wire import messages

from ..simulation import Simulation
from .situations import running

# -- how many ---------------------------------------------------------------------------------


@pytest.mark.parametrize(("calls", "workers"), [(1, 1), (2, 2), (3, 3), (9, 3)])
def test_one_worker_is_started_per_unfinished_call(calls: int, workers: int) -> None:
    simulation = Simulation(max_workers=3)
    simulation.submit(calls)
    simulation.turn()
    assert len(simulation.workers) == workers
    simulation.finish()


def test_no_worker_is_started_without_a_call() -> None:
    simulation = Simulation()
    simulation.turn()
    assert not simulation.workers


def test_all_at_once_starts_every_worker_with_the_first_call() -> None:
    simulation = Simulation(max_workers=3, all_at_once=True)
    simulation.submit()
    simulation.turn()
    assert len(simulation.workers) == 3
    simulation.finish()


def test_an_idle_worker_takes_a_later_call_but_for_those_still_running() -> None:
    simulation = Simulation(max_workers=3)
    for _ in range(3):
        simulation.submit()
        simulation.run(lambda: not simulation.pool.ledger.unfinished)
    assert len(simulation.workers) == 1


def test_a_lost_worker_is_replaced_even_if_idle() -> None:
    simulation = running(max_workers=2)
    simulation.die(1)
    simulation.turn()
    assert len(simulation.workers) == 2


@pytest.mark.parametrize("seen", [0, 1, 2, 25])
@pytest.mark.parametrize("ready", [False, True])
def test_calls_that_come_with_the_shutdown_get_as_many_workers_as_others(
    seen: int, ready: bool
) -> None:
    simulation = Simulation(max_workers=5, slots=1)
    for _ in range(seen):
        simulation.submit()
    simulation.turn()
    if ready:
        simulation.ready(*simulation.workers)
        simulation.turn()
    for _ in range(25 - seen):
        simulation.submit()
    simulation.shutdown()
    simulation.turn()
    assert len(simulation.pool.workers) == 5
    simulation.finish()


def test_no_worker_is_started_for_the_last_calls_when_those_there_are_do() -> None:
    simulation = running(max_workers=5, slots=1)
    simulation.submit(3)
    simulation.turn()
    simulation.die(5)  # it was idle
    simulation.shutdown()
    simulation.turn()
    assert len(simulation.pool.workers) == 4
    simulation.finish()


# -- retiring ---------------------------------------------------------------------------------


def retiring(slots: int = 2, budget: int = 2, calls: int = 6) -> Simulation:
    """Worker 1 runs the last calls of its budget, worker 2 is to replace it."""
    simulation = Simulation(max_workers=1, slots=slots, budget=budget)
    simulation.submit(calls)
    simulation.turn()
    simulation.ready(1)
    simulation.turn()
    simulation.take(1, min(slots, budget))
    return simulation


def test_a_worker_is_sent_no_more_calls_than_its_budget() -> None:
    simulation = retiring(slots=10, budget=3)
    assert simulation.calls_at(1) == [0, 1, 2]
    assert simulation.pool.workers[1].state is WorkerState.RETIRING


def test_its_replacement_is_started_while_it_drains() -> None:
    simulation = retiring()
    assert set(simulation.workers) == {1, 2}
    assert simulation.pool.workers[2].state is WorkerState.STARTING


def test_the_replacement_gets_the_slots_that_its_predecessor_has_left() -> None:
    simulation = retiring()
    simulation.turn()
    simulation.ready(2)
    simulation.turn()
    assert simulation.calls_at(2) == []
    simulation.answer(1, next(iter(simulation.workers[1].running)))
    simulation.turn()
    assert simulation.calls_at(2) == [2]


def test_a_chain_of_replacements_shares_one_workers_slots() -> None:
    simulation = Simulation(max_workers=1, slots=4, budget=1)
    simulation.submit(20)
    for _ in range(12):
        simulation.turn(0.01)
        for number, worker in list(simulation.workers.items()):
            if not worker.greeted:
                simulation.ready(number)
            simulation.read(number)
            if worker.inbox:
                simulation.take(number)
    assert sum(len(worker.running) for worker in simulation.workers.values()) == 4
    assert len(simulation.workers) <= 5
    simulation.finish()


def test_a_retired_worker_is_stopped_when_it_has_drained() -> None:
    simulation = retiring()
    assert not simulation.heads(messages.Stop)
    simulation.answer(1)
    assert simulation.heads(messages.Stop, 1) == [messages.Stop().head]
    assert simulation.pool.workers[1].state is WorkerState.STOPPING


def test_the_last_call_of_all_stops_a_worker_whose_budget_is_spent() -> None:
    simulation = retiring(calls=2)
    simulation.answer(1)
    assert simulation.heads(messages.Stop, 1) == [messages.Stop().head]
    simulation.finish()


def test_recalled_calls_do_not_count_against_the_budget() -> None:
    simulation = Simulation(max_workers=2, slots=1, budget=10)
    simulation.submit(6)
    simulation.turn()
    simulation.ready(1, 2)
    simulation.turn()
    simulation.take(1)
    simulation.run(lambda: len(simulation.sink.got) == 6 or bool(simulation.heads(messages.Recall)))
    simulation.finish()
    assert simulation.sink.statuses() == [messages.VALUE] * 6


def test_the_end_of_a_stopped_worker_is_no_loss() -> None:
    simulation = retiring(calls=2)
    simulation.answer(1)
    simulation.read(1)
    simulation.die(1)
    assert simulation.sink.statuses() == [messages.VALUE, messages.VALUE]
    assert simulation.pool.phase is Phase.RUNNING


# -- memory -----------------------------------------------------------------------------------


def test_a_worker_that_holds_too_much_is_replaced_without_losing_a_call() -> None:
    simulation = running(slots=1, memory=1000)
    simulation.submit(5)
    simulation.turn()
    simulation.take(1)
    simulation.measure(1, 1000)
    assert simulation.pool.workers[1].state is WorkerState.READY
    simulation.measure(1, 1001)
    assert simulation.pool.workers[1].state is WorkerState.RETIRING
    assert len(simulation.heads(messages.Recall, 1)) == 1
    simulation.turn()
    assert len(simulation.workers) == 2
    simulation.measure(1, 2000)
    assert len(simulation.workers) == 2
    simulation.finish()
    assert simulation.sink.statuses() == [messages.VALUE] * 6


def test_an_idle_worker_that_holds_too_much_ends_at_once() -> None:
    simulation = running(memory=1000)
    simulation.measure(1, 2000)
    assert simulation.heads(messages.Stop, 1)
    simulation.finish()


def test_a_worker_that_has_done_nothing_yet_is_not_replaced() -> None:
    simulation = Simulation(max_workers=1, memory=1000)
    simulation.submit()
    simulation.turn()
    simulation.ready(1)
    simulation.measure(1, 2000)
    assert simulation.pool.workers[1].state is WorkerState.READY
    simulation.finish()


def test_memory_is_nobodys_business_without_a_limit() -> None:
    simulation = running()
    simulation.measure(1, 2**60)
    simulation.measure(77, 2**60)  # one that has ended meanwhile
    assert simulation.pool.workers[1].state is WorkerState.READY
    simulation.finish()


# -- places -----------------------------------------------------------------------------------


def places(simulation: Simulation) -> dict[int, int]:
    return {worker.id: worker.place for worker in simulation.pool.workers.values()}


def test_each_worker_has_a_place_of_its_own_and_who_comes_after_it_the_same() -> None:
    simulation = running(max_workers=3)
    assert places(simulation) == {1: 0, 2: 1, 3: 2}
    simulation.die(2)
    simulation.turn()
    assert places(simulation) == {1: 0, 3: 2, 4: 1}
    simulation.finish()


def test_a_replacement_has_the_place_of_the_one_that_drains() -> None:
    assert places(retiring()) == {1: 0, 2: 0}


def test_who_is_one_too_many_shares_a_place() -> None:
    simulation = running(max_workers=2, slots=1)
    simulation.pool.resize(1)
    simulation.pool.resize(3)
    simulation.submit(9)
    simulation.turn()
    assert max(places(simulation).values()) == 2
    assert simulation.pool.place_of(1) == 0
    assert simulation.pool.place_of(99) == 0
    simulation.finish()

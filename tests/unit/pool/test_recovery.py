"""What follows from a worker's death: which calls fail, which run again, and which of these apart
from others."""

from __future__ import annotations

from typing import Any

import pytest

from hybridexec.errors import NodeLost, WorkerLost
from hybridexec.parent.pool.quarantine import MAX_ALONE, MAX_DEATHS
from hybridexec.parent.pool.recall import STUCK_SECONDS
from hybridexec.parent.pool.worker import FIRST_WINDOW, WorkerState
from hybridexec.parent.work.batch import LOST
from hybridexec.wire import messages

from ..simulation import Simulation
from .situations import GRACE, late, running, stuck

# -- losing workers ---------------------------------------------------------------------------


def test_a_lost_worker_fails_what_it_ran_and_gives_back_the_rest_in_order() -> None:
    simulation = Simulation(max_workers=1, slots=2)
    simulation.submit(10)
    simulation.turn()
    simulation.ready(1)
    simulation.turn()
    simulation.take(1, 2)
    lost = simulation.die(1)
    got = simulation.sink.got
    assert set(got) == {0, 1}
    for place, (_, status, loss, *_) in got.items():
        assert (status, loss.error, loss.place) == (LOST, lost, place)
    simulation.turn()
    simulation.ready(2)
    simulation.turn()
    assert simulation.calls_at(2) == list(range(2, 2 + FIRST_WINDOW))
    simulation.finish()


def test_a_death_while_a_recall_is_under_way_loses_only_what_had_started() -> None:
    simulation = stuck()
    running_call = simulation.calls_at(1)[0]
    simulation.turn(2 * STUCK_SECONDS)
    simulation.die(1)
    simulation.finish()
    assert [i for i, outcome in simulation.sink.got.items() if outcome[1] == LOST] == [running_call]


def test_a_cancelled_call_that_dies_with_its_worker_is_silent() -> None:
    simulation = running(slots=1)
    batch = simulation.submit(3)
    simulation.turn()
    simulation.take(1)
    simulation.cancel(batch, None, running=True)
    simulation.die(1)
    simulation.finish()
    assert set(simulation.sink.got) == {0}


def test_a_cancelled_call_is_not_sent_again_when_its_worker_dies() -> None:
    simulation = running(slots=1)
    batch = simulation.submit(3)
    simulation.turn()
    simulation.take(1)
    simulation.cancel(batch, None, running=False)
    simulation.die(1)
    simulation.turn()
    simulation.ready(2)
    simulation.turn()
    assert simulation.calls_at(2) == []
    assert simulation.sink.statuses() == [
        messages.VALUE,
        LOST,
        messages.CANCELLED,
        messages.CANCELLED,
    ]


# -- suspects ---------------------------------------------------------------------------------


def with_suspects(
    max_workers: int = 1, calls: int = 4, why: type[WorkerLost] = WorkerLost, **options: Any
) -> Simulation:
    """Worker 1 has died while it ran calls that may run again."""
    simulation = running(max_workers, slots=calls, **options)
    batch = simulation.submit(calls * max_workers, on_worker_loss="retry")
    assert batch.size
    while len(simulation.at) < batch.size:
        simulation.turn()
        for number in list(simulation.workers):
            simulation.take(number, len(simulation.workers[number].pipe) and 1)
            simulation.read(number)
            simulation.take(number, len(simulation.workers[number].inbox))
            simulation.hear(number)
    simulation.die(1, why)
    return simulation


def apart(simulation: Simulation) -> list[int]:
    return [w.id for w in simulation.pool.workers.values() if w.quarantine]


def test_calls_whose_machine_is_gone_are_no_suspects() -> None:
    simulation = with_suspects(why=NodeLost)
    crew = simulation.pool.crews["greenlet"]
    assert (crew.suspects.count, crew.backlog.count) == (0, 4)
    simulation.finish()
    assert simulation.sink.statuses() == [messages.VALUE] * 5


def test_suspects_run_in_workers_of_their_own_that_end_with_them() -> None:
    simulation = with_suspects()
    assert simulation.pool.crews["greenlet"].suspects.count == 4
    simulation.turn()
    (number,) = apart(simulation)
    simulation.ready(number)
    assert simulation.pool.workers[number].state is WorkerState.QUARANTINE
    simulation.turn()
    assert simulation.calls_at(number) == [1]
    assert simulation.pool.workers[number].state is WorkerState.RETIRING
    simulation.take(number)
    simulation.answer(number)
    assert simulation.heads(messages.Stop, number)
    simulation.finish()
    assert simulation.sink.statuses() == [messages.VALUE] * 5


def test_several_groups_are_tried_at_once_though_their_workers_are_ready_together() -> None:
    simulation = with_suspects(max_workers=4)
    simulation.turn()
    numbers = apart(simulation)
    assert len(numbers) == 1  # three others are alive and well
    simulation = running(max_workers=4, slots=4)
    simulation.submit(4, on_worker_loss="retry")
    simulation.turn()
    for number in (1, 2):
        simulation.take(number)
        simulation.die(number)
    simulation.turn()
    numbers = apart(simulation)
    assert len(numbers) == 2
    simulation.ready(*numbers)
    simulation.turn()
    assert [len(simulation.calls_at(number)) for number in numbers] == [1, 1]
    simulation.finish()


def test_the_one_that_had_the_cpu_is_tried_alone() -> None:
    simulation = running(slots=4)
    batch = simulation.submit(4, on_worker_loss="retry")
    simulation.turn()
    simulation.take(1, 4)
    simulation.workers[1].page.current = batch.first + 2
    simulation.die(1)
    simulation.turn()
    (number,) = apart(simulation)
    simulation.ready(number)
    simulation.turn()
    assert simulation.calls_at(number) == [3]
    simulation.finish()


def test_a_call_that_kills_its_worker_again_and_again_is_lost() -> None:
    simulation = running()
    simulation.submit(1, on_worker_loss="retry")
    simulation.turn()
    simulation.take(1)
    lost = simulation.die(1)
    for _ in range(MAX_ALONE - 1):
        assert 1 not in simulation.sink.got
        simulation.turn()
        (number,) = apart(simulation)
        simulation.ready(number)
        simulation.turn()
        simulation.take(number)
        lost = simulation.die(number)
    _, status, loss, *_ = simulation.sink.got[1]
    assert (status, loss.error) == (LOST, lost)
    simulation.finish()


def test_calls_that_may_not_run_again_are_lost_at_once() -> None:
    simulation = running(slots=2)
    simulation.submit(1, on_worker_loss="retry")
    simulation.submit(1)
    simulation.turn()
    simulation.take(1, 2)
    simulation.die(1)
    assert {index: outcome[1] for index, outcome in simulation.sink.got.items() if index} == {
        2: LOST
    }
    simulation.finish()


def test_suspects_that_had_not_started_stay_apart() -> None:
    simulation = with_suspects(calls=1)
    simulation.turn()
    (number,) = apart(simulation)
    simulation.ready(number)
    simulation.turn()
    simulation.die(number)  # before it took its call
    assert simulation.pool.crews["greenlet"].suspects.count == 1
    simulation.finish()
    assert simulation.sink.statuses() == [messages.VALUE] * 2


def test_a_quarantine_that_is_not_needed_any_more_ends() -> None:
    simulation = with_suspects()
    simulation.turn()
    (number,) = apart(simulation)
    simulation.ready(number)
    simulation.cancel(simulation.batches[-1], None, running=True)
    assert simulation.pool.ledger.unfinished == 0
    assert simulation.heads(messages.Stop, number)
    simulation.finish()


@pytest.mark.parametrize("kill", [True, False])
def test_suspects_end_with_the_pool(kill: bool) -> None:
    simulation = with_suspects()
    if kill:
        simulation.kill()
    else:
        simulation.shutdown(cancel_unstarted=True)
    assert simulation.sink.statuses()[1:] == [messages.CANCELLED] * 4
    simulation.run(lambda: simulation.pool.finished)


def test_shutdown_waits_for_suspects() -> None:
    simulation = with_suspects()
    simulation.shutdown()
    simulation.run(lambda: simulation.pool.finished)
    assert simulation.sink.statuses() == [messages.VALUE] * 5


# -- late calls that cost their worker --------------------------------------------------------


def test_who_keeps_the_hub_costs_its_worker_and_the_others_follow_their_options() -> None:
    simulation = running(slots=3, grace=GRACE)
    hog = simulation.submit(1, timeout=1.0)
    simulation.submit(1)
    simulation.submit(1, on_worker_loss="retry")
    simulation.turn()
    simulation.take(1, 3)
    simulation.workers[1].keep_hub(hog.first)
    simulation.turn(2.0)
    assert [kill.worker for kill in simulation.kills] == [1]
    assert simulation.pool.workers[1].state is WorkerState.STOPPING
    assert len(simulation.workers) == 2  # its replacement gets ready meanwhile
    simulation.die(1)
    assert simulation.sink.got[1][1] == messages.TIMED_OUT
    assert simulation.sink.got[2][1] == LOST
    assert simulation.pool.pending == 1
    assert simulation.pool.crews["greenlet"].suspects.count == 0
    simulation.finish()
    assert simulation.sink.got[3][1] == messages.VALUE


def test_a_victim_that_swallows_its_stop_costs_the_worker_in_the_end() -> None:
    simulation = late(traced=True, size=2)
    batch = simulation.batches[-1]
    victim = batch.first + 1
    simulation.workers[1].keep_hub(batch.first, traced=False)
    simulation.turn(1.01 + GRACE)
    assert not simulation.kills
    assert victim in simulation.pool.workers[1].deadlines.abandoned
    simulation.answer(1, batch.first)
    simulation.turn(GRACE)
    assert not simulation.kills
    simulation.turn(GRACE + 0.01)
    assert [kill.worker for kill in simulation.kills] == [1]
    simulation.finish()


def test_a_call_that_cost_its_worker_may_be_tried_again() -> None:
    simulation = late(traced=True, size=1, retries=1)
    simulation.turn(2.0)
    simulation.die(1)
    assert simulation.pool.crews["greenlet"].retries.count == 1
    simulation.finish()
    assert simulation.sink.statuses() == [messages.VALUE] * 2


def test_who_loses_its_worker_to_anothers_deadline_too_often_is_given_up() -> None:
    simulation = running(slots=2, grace=GRACE)
    simulation.submit(1, on_worker_loss="retry")
    number = 1
    for _ in range(MAX_DEATHS):
        assert 1 not in simulation.sink.got
        hog = simulation.submit(1, timeout=1.0)
        while len(simulation.at) < 2:
            simulation.turn()
            number = max(simulation.workers)
            if not simulation.workers[number].greeted:
                simulation.ready(number)
        simulation.take(number, 2)
        simulation.workers[number].keep_hub(hog.first)
        simulation.turn(2.0)
        simulation.die(number)
    assert simulation.sink.got[1][1] == LOST
    simulation.finish()


def test_suspects_beside_a_call_that_costs_their_worker_stay_suspects() -> None:
    simulation = running(slots=8, grace=GRACE)
    hog = simulation.submit(1, on_worker_loss="retry", timeout=1.0)
    simulation.submit(7, on_worker_loss="retry")
    while len(simulation.at) < 8:
        simulation.turn()
        simulation.read(1)
        simulation.take(1, len(simulation.workers[1].inbox))
        simulation.hear(1)
    simulation.die(1)
    simulation.turn()
    (number,) = apart(simulation)
    simulation.ready(number)
    simulation.turn()
    assert simulation.calls_at(number) == [1, 2]
    simulation.take(number, 2)
    simulation.workers[number].keep_hub(hog.first)
    simulation.turn(2.0)
    simulation.die(number)
    assert simulation.pool.crews["greenlet"].suspects.count == 7
    assert simulation.pool.pending == 0
    simulation.finish()


def test_a_retiring_worker_is_killed_like_others() -> None:
    simulation = running(slots=2, grace=GRACE, budget=3)
    simulation.submit(2, timeout=1.0)
    simulation.turn()
    simulation.take(1, 2)
    assert simulation.pool.workers[1].state is WorkerState.RETIRING
    simulation.turn(2.0)
    assert simulation.kills
    simulation.finish()

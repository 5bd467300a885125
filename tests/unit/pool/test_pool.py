"""The pool's decisions, one at a time: given what happened, what does it do?"""

from __future__ import annotations

import signal
from typing import Any

import pytest

from hybridexec.errors import ExecutorBroken, WorkerLost
from hybridexec.parent.pool import invariants
from hybridexec.parent.pool.dispatch import (
    HOARD_SECONDS,
    HOLD_SECONDS,
    MAX_FRAME,
    SILENT_SECONDS,
    STUCK_SECONDS,
)
from hybridexec.parent.pool.in_flight import InFlight
from hybridexec.parent.pool.pool import Phase
from hybridexec.parent.pool.quarantine import MAX_ALONE, MAX_LIVES
from hybridexec.parent.pool.starts import MAX_FAILED_STARTS
from hybridexec.parent.pool.worker import FIRST_WINDOW, MAX_WINDOW, MIN_WINDOW, WorkerState
from hybridexec.parent.work.batch import LOST, Batch
from hybridexec.parent.work.function import Function
from hybridexec.wire import frames

from ..simulation import Simulation, Sink


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


# -- starting workers -------------------------------------------------------------------------


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


def test_calls_are_sent_to_ready_workers_only() -> None:
    simulation = Simulation(max_workers=1)
    simulation.submit()
    simulation.turn()
    simulation.start(1)
    simulation.turn()
    assert not simulation.in_flight
    simulation.ready(1)
    simulation.turn()
    assert simulation.calls_at(1) == [0]


def test_n_calls_land_on_n_workers_one_each_though_one_is_ready_first() -> None:
    simulation = Simulation(max_workers=4, slots=100)
    simulation.submit(4)
    simulation.turn()
    for number in list(simulation.workers):
        simulation.ready(number)
        simulation.turn()
        assert simulation.calls_at(number) == [number - 1]


def test_separate_submits_are_spread_like_one_batch() -> None:
    simulation = Simulation(max_workers=3, slots=100)
    for _ in range(3):
        simulation.submit()
        simulation.turn()
    for number in list(simulation.workers):
        simulation.ready(number)
        simulation.turn()
    assert [len(simulation.calls_at(number)) for number in simulation.workers] == [1, 1, 1]


def test_calls_go_to_the_least_loaded_worker() -> None:
    simulation = running(max_workers=2, slots=10)
    simulation.submit(4)
    simulation.turn()
    assert [len(simulation.calls_at(n)) for n in (1, 2)] == [2, 2]
    simulation.take(1, 2)
    simulation.take(2, 2)
    simulation.answer(2)
    simulation.submit(2)
    simulation.turn()
    assert [len(simulation.calls_at(n)) for n in (1, 2)] == [2, 2]


# -- functions --------------------------------------------------------------------------------


def test_a_lasting_function_is_sent_to_each_worker_once() -> None:
    simulation = running()
    function = Function(b"lasting", lasting=True)
    for _ in range(3):
        simulation.submit(2, function)
        simulation.run(lambda: not simulation.pool.ledger.unfinished)
    introduced = [head[1] for head in simulation.heads(frames.CALLS)]
    assert len(introduced) >= 3
    assert introduced[0] == [(function.number, b"lasting", [])]
    assert not any(introduced[1:])
    assert not simulation.heads(frames.FORGET)


def test_a_passing_function_is_forgotten_after_its_batch() -> None:
    simulation = running()
    function = Function(b"passing", lasting=False)
    simulation.submit(2, function)
    simulation.turn()
    simulation.take(1)
    simulation.answer(1)
    assert not simulation.heads(frames.FORGET)
    simulation.run(lambda: not simulation.pool.ledger.unfinished)
    assert simulation.heads(frames.FORGET) == [(frames.FORGET, function.number)]


def test_a_function_that_several_batches_share_is_forgotten_after_the_last() -> None:
    simulation = running(slots=10)
    function = Function(b"passing", lasting=False)
    simulation.submit(2, function)
    other = simulation.submit(2, function)
    simulation.turn()
    simulation.take(1, 4)
    simulation.answer(1, *simulation.workers[1].running.keys() - {other.first})
    assert not simulation.heads(frames.FORGET)
    simulation.answer(1, other.first)
    assert simulation.heads(frames.FORGET) == [(frames.FORGET, function.number)]


def test_the_function_of_a_single_call_travels_with_it() -> None:
    simulation = running()
    simulation.submit(1, Function(b"passing", lasting=False))
    simulation.turn()
    ((_, introduced, spans),) = simulation.heads(frames.CALLS)
    assert introduced == []
    assert spans[0][0] == b"passing"
    simulation.run(lambda: not simulation.pool.ledger.unfinished)
    assert not simulation.heads(frames.FORGET)


def test_a_cancelled_batch_is_forgotten_too() -> None:
    simulation = running()
    function = Function(b"passing", lasting=False)
    batch = simulation.submit(50, function)
    simulation.turn()
    simulation.take(1)
    simulation.cancel(batch, None, running=True)
    simulation.run(lambda: not simulation.at)
    assert simulation.heads(frames.FORGET) == [(frames.FORGET, function.number)]


# -- credit -----------------------------------------------------------------------------------


def test_a_new_worker_gets_no_more_than_its_first_window() -> None:
    simulation = Simulation(max_workers=1, slots=100)
    simulation.submit(50)
    simulation.turn()
    simulation.ready(1)
    simulation.turn()
    assert len(simulation.calls_at(1)) == FIRST_WINDOW


def test_a_worker_with_one_slot_gets_few_calls_ahead() -> None:
    simulation = running(slots=1)
    simulation.submit(50)
    simulation.turn()
    for _ in range(10):
        assert len(simulation.calls_at(1)) <= 1 + MIN_WINDOW
        simulation.take(1)
        simulation.turn(0.1)
        simulation.answer(1)
        simulation.turn(0.1)


def test_the_window_grows_for_calls_that_are_taken_fast() -> None:
    simulation = running(slots=400)
    simulation.submit(1000)
    simulation.turn()
    most = 0
    for _ in range(12):
        simulation.read(1)
        most = max(most, len(simulation.workers[1].inbox))
        simulation.take(1, len(simulation.workers[1].inbox))
        simulation.now += 0.001
        simulation.hear(1)
        simulation.turn()
    assert most > 10 * FIRST_WINDOW
    assert simulation.pool.workers[1].window <= MAX_WINDOW


def test_the_window_shrinks_for_calls_that_hog_the_worker() -> None:
    simulation = running(slots=100)
    worker = simulation.pool.workers[1]
    worker.window = 1024
    simulation.submit(5000)
    simulation.turn()
    for _ in range(12):
        simulation.take(1)
        simulation.answer(1)
        simulation.turn(0.5)
    assert worker.window == MIN_WINDOW


def test_no_frame_holds_more_than_its_limit() -> None:
    simulation = running(slots=4 * MAX_FRAME)
    simulation.pool.workers[1].window = MAX_WINDOW
    simulation.submit(4 * MAX_FRAME)
    simulation.turn()
    sizes = [
        sum(len(items) for *_, items, _ in spans) for *_, spans in simulation.heads(frames.CALLS)
    ]
    assert max(sizes) <= MAX_FRAME


def test_a_worker_that_runs_dry_gets_more_next_time_whatever_it_waited_for() -> None:
    simulation = running(slots=1)
    worker, process = simulation.pool.workers[1], simulation.workers[1]
    simulation.submit(5000)
    simulation.turn()
    for _ in range(4):
        before = worker.window
        simulation.now += 10  # it gets to a processor once in a long while only
        simulation.read(1)
        while process.inbox:  # but then it runs all it has
            simulation.take(1)
            process.answer(next(iter(process.running)))
        simulation.hear(1)
        simulation.turn()
        assert worker.window == 2 * before


def test_results_make_room_for_more_calls() -> None:
    simulation = running(slots=2)
    simulation.submit(50)
    simulation.turn()
    simulation.take(1, 2)
    simulation.turn()
    had = set(simulation.calls_at(1))
    simulation.answer(1)
    simulation.turn()
    assert set(simulation.calls_at(1)) - had


# -- asking -----------------------------------------------------------------------------------


def test_a_worker_is_asked_to_say_when_its_inbox_is_low_if_calls_are_left_over() -> None:
    simulation = running(slots=10)
    simulation.submit(50)
    simulation.turn()
    assert len(simulation.heads(frames.ASK)) == 1


def test_a_worker_is_not_asked_if_no_calls_are_left_over() -> None:
    simulation = running(slots=10)
    simulation.submit(2)
    simulation.turn()
    assert simulation.heads(frames.CALLS)
    assert not simulation.heads(frames.ASK)


def test_a_worker_is_asked_when_calls_are_left_over_later() -> None:
    simulation = running(slots=10)
    simulation.submit(FIRST_WINDOW)
    simulation.turn()
    assert not simulation.heads(frames.ASK)
    simulation.submit(50)
    simulation.turn()
    assert len(simulation.heads(frames.ASK)) == 1


def test_a_worker_is_asked_once_until_it_answers() -> None:
    simulation = running(slots=10)
    simulation.submit(50)
    for _ in range(3):
        simulation.turn()
    assert len(simulation.heads(frames.ASK)) == 1


def test_a_hungry_worker_gets_more() -> None:
    simulation = running(slots=10)
    simulation.submit(50)
    simulation.turn()
    before = len(simulation.calls_at(1))
    simulation.take(1, before)
    simulation.hear(1)
    simulation.turn()
    assert len(simulation.calls_at(1)) > before


def exchanges(simulation: Simulation, number: int, turns: int = 20) -> int:
    """How many frames go to a worker while nothing happens but that both sides answer."""
    before = len(simulation.in_flight)
    for _ in range(turns):
        simulation.read(number)
        simulation.hear(number)
        simulation.turn(0.001)
    return len(simulation.in_flight) - before


def test_a_worker_whose_slots_are_full_is_not_asked_in_circles() -> None:
    simulation = running(slots=10)
    simulation.submit(100)
    simulation.turn()
    for _ in range(10):
        worker = simulation.workers[1]
        simulation.take(1, min(len(worker.inbox), 10 - len(worker.running)))
        simulation.hear(1)
        simulation.turn(0.1)
    assert len(worker.running) == 10
    assert exchanges(simulation, 1) <= 2


def test_a_worker_that_waits_for_others_to_start_is_not_asked_in_circles() -> None:
    simulation = Simulation(max_workers=2, slots=10)
    simulation.submit(4)
    simulation.turn()
    simulation.ready(1)
    simulation.turn()
    simulation.take(1, 2)
    assert simulation.pool.pending == 2
    assert exchanges(simulation, 1) <= 2


def test_a_replacement_that_waits_for_slots_is_not_asked_in_circles() -> None:
    simulation = Simulation(max_workers=1, slots=2, budget=2)
    simulation.submit(6)
    simulation.turn()
    simulation.ready(1)
    simulation.turn()
    simulation.take(1, 2)
    simulation.turn()
    simulation.ready(2)
    simulation.turn()
    assert simulation.pool.pending == 4
    assert exchanges(simulation, 2) <= 2


# -- recall -----------------------------------------------------------------------------------


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
    simulation.pool.workers[2].window = 0  # for a moment it gets none
    for _ in range(10):
        simulation.submit()
    simulation.turn(0.001)
    simulation.turn(0.001)
    assert len(simulation.calls_at(1)) == 11
    simulation.pool.workers[2].window = simulation.pool.workers[2].ahead = 20
    return simulation


def test_many_recalled_calls_come_back_in_order() -> None:
    simulation = far_behind()
    budget = simulation.pool.workers[1].budget
    simulation.turn(2 * STUCK_SECONDS)
    ((_, count),) = simulation.heads(frames.RECALL, 1)
    assert count > 1
    recalled = simulation.calls_at(1)[-count:]
    simulation.read(1)
    simulation.hear(1)
    assert simulation.pool.workers[1].budget == budget + count
    simulation.turn()
    assert simulation.calls_at(2) == recalled


def test_nothing_is_sent_to_a_worker_with_much_credit_either_while_it_is_recalled() -> None:
    simulation = far_behind()
    simulation.turn(2 * STUCK_SECONDS)
    assert simulation.heads(frames.RECALL, 1)
    before = simulation.calls_at(1)
    simulation.pool.workers[1].window = simulation.pool.workers[1].ahead = 100
    simulation.submit(40)
    simulation.turn()
    assert simulation.calls_at(1) == before


def test_calls_behind_a_stuck_one_go_to_an_idle_worker() -> None:
    simulation = stuck()
    simulation.turn(2 * STUCK_SECONDS)
    assert len(simulation.heads(frames.RECALL, 1)) == 1
    simulation.read(1)
    simulation.hear(1)
    simulation.turn()
    assert simulation.calls_at(2)
    simulation.run(lambda: not simulation.pool.ledger.unfinished)
    assert len(simulation.sink.got) == simulation.sink.size


def test_a_worker_that_runs_out_of_calls_gets_those_behind_a_stuck_one_at_once() -> None:
    simulation = stuck()
    simulation.now += 2 * STUCK_SECONDS
    simulation._event(simulation.pool.dispatch, simulation.now)  # time does not tell it to look
    assert len(simulation.heads(frames.RECALL, 1)) == 1


def test_a_stuck_worker_gives_back_what_it_hoards_while_others_work() -> None:
    simulation = running(max_workers=2, slots=1)
    simulation.pool.workers[1].window = simulation.pool.workers[1].ahead = 50
    simulation.submit(60)
    simulation.turn()
    assert len(simulation.at) > 40
    assert simulation.pool.pending
    for number in (1, 2):
        simulation.take(number)
    simulation.turn(HOARD_SECONDS)  # they have taken a call each
    seconds = simulation.pool.wait_seconds(simulation.now)
    assert seconds is not None
    assert 0 < seconds <= HOARD_SECONDS
    simulation.turn(2 * HOARD_SECONDS)
    simulation.read(1)
    simulation.hear(1)
    simulation.turn()
    assert len([call for call, number in simulation.at.items() if number == 1]) == 1 + MIN_WINDOW
    simulation.finish()


def test_a_lone_worker_keeps_what_it_hoards() -> None:
    simulation = running(max_workers=1, slots=1)
    simulation.pool.workers[1].window = simulation.pool.workers[1].ahead = 50
    simulation.submit(60)
    simulation.turn()
    simulation.take(1)
    for _ in range(3):
        simulation.turn(HOARD_SECONDS)
        assert simulation.pool.wait_seconds(simulation.now) is None
    assert not simulation.heads(frames.RECALL)
    simulation.finish()


def test_a_worker_is_not_stuck_at_once() -> None:
    simulation = stuck()
    simulation.turn(STUCK_SECONDS / 10)
    assert not simulation.heads(frames.RECALL)


def test_the_pool_wants_to_look_again_while_a_worker_may_be_stuck() -> None:
    simulation = stuck()
    seconds = simulation.pool.wait_seconds(simulation.now)
    assert seconds is not None
    assert 0 < seconds <= 0.1


def test_an_idle_pool_sleeps_until_something_happens() -> None:
    simulation = running(max_workers=2)
    assert simulation.pool.wait_seconds(simulation.now) is None


def test_nothing_is_sent_to_a_worker_while_it_is_recalled() -> None:
    simulation = stuck()
    simulation.turn(2 * STUCK_SECONDS)
    simulation.in_flight.clear()
    simulation.submit(20)
    simulation.turn()
    assert not simulation.heads(frames.CALLS, 1)
    assert not simulation.heads(frames.ASK, 1)
    assert not simulation.heads(frames.RECALL, 1)


def test_one_recall_is_on_its_way_at_a_time() -> None:
    simulation = stuck()
    for _ in range(3):
        simulation.turn(2 * STUCK_SECONDS)
    assert len(simulation.heads(frames.RECALL)) == 1


def test_a_recall_that_comes_too_late_changes_nothing() -> None:
    simulation = stuck()
    simulation.turn(2 * STUCK_SECONDS)
    worker = simulation.workers[1]
    while worker.inbox:  # it was not stuck, and has run them all before it reads the RECALL
        worker.answer(next(iter(worker.running)))
        simulation.may_have_started.add(worker.take())
    simulation.read(1)
    simulation.answer(1)
    simulation.finish()
    assert simulation.sink.statuses() == [frames.VALUE] * simulation.sink.size


def test_recalled_calls_are_sent_before_others_and_in_order() -> None:
    simulation = stuck()
    waiting = simulation.calls_at(1)[1:]
    simulation.turn(2 * STUCK_SECONDS)
    simulation.submit(2)  # these wait behind
    simulation.read(1)
    simulation.hear(1)
    simulation.turn()
    first = simulation.calls_at(2)[0]
    assert first in waiting
    assert simulation.calls_at(2) == sorted(simulation.calls_at(2))


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
    assert not simulation.heads(frames.STOP)
    simulation.answer(1)
    assert simulation.heads(frames.STOP, 1) == [(frames.STOP,)]
    assert simulation.pool.workers[1].state is WorkerState.STOPPING


def test_the_last_call_of_all_stops_a_worker_whose_budget_is_spent() -> None:
    simulation = retiring(calls=2)
    simulation.answer(1)
    assert simulation.heads(frames.STOP, 1) == [(frames.STOP,)]
    simulation.finish()


def test_recalled_calls_do_not_count_against_the_budget() -> None:
    simulation = Simulation(max_workers=2, slots=1, budget=10)
    simulation.submit(6)
    simulation.turn()
    simulation.ready(1, 2)
    simulation.turn()
    simulation.take(1)
    simulation.run(lambda: len(simulation.sink.got) == 6 or bool(simulation.heads(frames.RECALL)))
    simulation.finish()
    assert simulation.sink.statuses() == [frames.VALUE] * 6


def test_the_end_of_a_stopped_worker_is_no_loss() -> None:
    simulation = retiring(calls=2)
    simulation.answer(1)
    simulation.read(1)
    simulation.die(1)
    assert simulation.sink.statuses() == [frames.VALUE, frames.VALUE]
    assert simulation.pool.phase is Phase.RUNNING


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


def test_the_calls_of_a_lost_worker_are_sent_before_others() -> None:
    simulation = running(slots=1)
    simulation.submit(3)
    simulation.turn()
    waiting = simulation.calls_at(1)
    simulation.submit(5)
    simulation.die(1)
    simulation.turn()
    simulation.ready(2)
    simulation.turn()
    assert simulation.calls_at(2)[: len(waiting)] == waiting


def test_the_calls_of_a_lost_worker_keep_their_order_across_batches() -> None:
    simulation = far_behind()
    waiting = simulation.calls_at(1)[1:]
    simulation.die(1)
    simulation.turn()
    simulation.ready(3)
    simulation.turn()
    for number in (2, 3):
        sent = simulation.calls_at(number)
        assert sent
        assert sent == sorted(sent)
        assert set(sent) <= set(waiting)


def test_results_written_before_the_death_count() -> None:
    simulation = running(slots=2)
    simulation.submit(2)
    simulation.turn()
    simulation.take(1, 2)
    for call in list(simulation.workers[1].running):
        simulation.workers[1].answer(call)
    simulation.die(1)
    assert simulation.sink.statuses() == [frames.VALUE] * 3


def test_a_lost_worker_is_replaced_even_if_idle() -> None:
    simulation = running(max_workers=2)
    simulation.die(1)
    simulation.turn()
    assert len(simulation.workers) == 2


def test_a_death_while_a_recall_is_under_way_loses_only_what_had_started() -> None:
    simulation = stuck()
    running_call = simulation.calls_at(1)[0]
    simulation.turn(2 * STUCK_SECONDS)
    simulation.die(1)
    simulation.finish()
    assert [i for i, outcome in simulation.sink.got.items() if outcome[1] == LOST] == [running_call]


# -- starts that come to nothing --------------------------------------------------------------


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


def test_a_failed_initializer_breaks_the_pool_and_ends_every_call_with_it() -> None:
    simulation = Simulation(max_workers=2, slots=2)
    simulation.submit(20)
    simulation.turn()
    simulation.ready(1)
    simulation.turn()
    simulation.take(1)
    simulation.start(2)
    cause = simulation.fail_to_get_ready(2)
    simulation.die(2)
    assert simulation.pool.phase is Phase.BROKEN
    assert [outcome[1:3] for outcome in simulation.sink.got.values()] == [(LOST, cause)] * 20
    assert [(kill.worker, kill.signal) for kill in simulation.kills if kill.worker == 1] == [
        (1, signal.SIGTERM)
    ]


def test_the_calls_that_ran_when_the_pool_broke_name_their_worker_the_others_none() -> None:
    simulation = Simulation(max_workers=2, slots=2)
    simulation.submit(6)
    simulation.turn()
    simulation.ready(1)
    simulation.turn()
    simulation.take(1)
    simulation.start(2)
    simulation.fail_to_get_ready(2)
    simulation.die(2)
    assert {outcome[4] for index, outcome in simulation.sink.got.items() if index} == {None}
    assert simulation.sink.got[0][4] == simulation.workers[1].pid


def test_a_broken_pool_fails_calls_that_come_late_and_ends() -> None:
    simulation = Simulation(max_workers=1)
    cause = ExecutorBroken("no workers")
    simulation.pool.fail(cause)
    simulation.submit(3)
    simulation.turn()
    assert [outcome[1:3] for outcome in simulation.sink.got.values()] == [(LOST, cause)] * 3
    assert simulation.pool.finished
    assert not simulation.workers


def test_a_worker_that_comes_to_be_after_the_pool_broke_is_killed() -> None:
    simulation = Simulation(max_workers=2)
    simulation.submit(2)
    simulation.turn()
    simulation.pool.fail(ExecutorBroken("no workers"))
    simulation.start(1)
    assert simulation.workers[1].doomed


def test_results_that_arrive_after_the_pool_broke_are_not_delivered_twice() -> None:
    simulation = running(slots=2)
    simulation.submit(2)
    simulation.turn()
    simulation.take(1, 2)
    simulation.pool.fail(ExecutorBroken("no workers"))
    simulation.answer(1)
    simulation.die(1)
    assert simulation.sink.statuses() == [frames.VALUE, LOST, LOST]
    assert simulation.pool.finished


def test_a_pool_breaks_once_and_stays_broken() -> None:
    simulation = running(slots=2)
    batch = simulation.submit(2)
    simulation.turn()
    simulation.take(1, 2)
    simulation.cancel(batch, (0,), running=True)
    first = ExecutorBroken("no workers")
    simulation.pool.fail(first)
    simulation.pool.fail(ExecutorBroken("again"))
    assert simulation.pool.ledger.broken_because is first
    simulation.kill()
    assert simulation.pool.phase is Phase.BROKEN
    simulation.die(1)
    assert simulation.pool.finished
    assert set(simulation.sink.got) == {0, 2}


def test_a_killed_pool_needs_no_workers_but_a_fault_of_ours_ends_its_calls() -> None:
    simulation = running(slots=2)
    simulation.submit(2)
    simulation.turn()
    simulation.take(1, 2)
    simulation.kill()
    simulation.pool.fail(ExecutorBroken("no workers"))
    assert simulation.pool.phase is Phase.KILLED
    assert simulation.pool.ledger.unfinished == 2
    fault = ExecutorBroken("a fault of ours")
    simulation.pool.abort(fault)
    simulation.turn()
    assert simulation.pool.ledger.unfinished == 0
    assert [outcome[1:3] for outcome in simulation.sink.got.values()][1:] == [(LOST, fault)] * 2
    simulation.die(1)
    assert simulation.pool.finished


# -- cancel -----------------------------------------------------------------------------------


def test_calls_that_never_came_can_be_cancelled_like_others() -> None:
    simulation = running(slots=1)
    others = simulation.submit(5)
    simulation.cancel_refused(3, running=False)
    simulation.cancel_refused(3, running=True)
    assert simulation.pool.pending == others.size
    simulation.finish()


def test_cancelled_pending_calls_are_never_sent_and_their_sink_hears_nothing() -> None:
    simulation = Simulation(max_workers=1, slots=10)
    batch = simulation.submit(10)
    simulation.cancel(batch, (2, 5), running=False)
    simulation.finish()
    assert set(simulation.sink.got) == {0, 1, 3, 4, 6, 7, 8, 9}


def test_cancelling_a_long_stream_takes_what_its_calls_under_way_do(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    simulation = running(max_workers=16, slots=10)
    pool = simulation.pool
    batches = [simulation.submit(4096) for _ in range(20)]
    simulation.turn()
    simulation.cancel(batches[1], [7, 4000], running=False)  # they are no part of the rest
    under_way = sum(len(worker.in_flight) for worker in pool.workers.values())
    assert under_way >= 16
    looks = 0
    get = InFlight.get

    def counted(self: InFlight, call: int) -> Batch | None:
        nonlocal looks
        looks += 1
        return get(self, call)

    monkeypatch.setattr(InFlight, "get", counted)
    for batch in batches:
        pool.cancel(batch, None, running=False)
        invariants.check(pool)
    assert looks <= 16 * under_way
    assert pool.ledger.unfinished == under_way
    assert not pool.pending
    simulation.turn()
    assert sum(len(worker.in_flight) for worker in pool.workers.values()) == under_way


def test_calls_with_a_worker_are_cancelled_there() -> None:
    simulation = running(slots=1)
    batch = simulation.submit(3)
    simulation.turn()
    simulation.take(1)
    simulation.cancel(batch, None, running=False)
    ((_, calls, stop),) = simulation.heads(frames.CANCEL)
    assert sorted(calls) == [batch.first, batch.first + 1, batch.first + 2]
    assert not stop
    simulation.finish()
    assert simulation.sink.statuses() == [frames.VALUE] * 2 + [frames.CANCELLED] * 2


def test_stopped_running_calls_are_forgotten_at_once() -> None:
    simulation = running(slots=1)
    batch = simulation.submit(1)
    simulation.turn()
    simulation.take(1)
    simulation.cancel(batch, (0,), running=True)
    assert simulation.heads(frames.CANCEL) == [(frames.CANCEL, [batch.first], True)]
    assert simulation.pool.ledger.unfinished == 0
    simulation.finish()
    assert 1 not in simulation.sink.got


def test_cancelling_a_call_twice_or_late_does_nothing_more() -> None:
    simulation = running(slots=1)
    batch = simulation.submit(1)
    simulation.cancel(batch, (0,), running=True)
    simulation.cancel(batch, (0,), running=True)
    other = simulation.submit(1)
    simulation.run(lambda: not simulation.pool.ledger.unfinished)
    simulation.cancel(other, (0,), running=True)
    assert not simulation.heads(frames.CANCEL)
    simulation.finish()


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
    assert simulation.sink.statuses() == [frames.VALUE, LOST, frames.CANCELLED, frames.CANCELLED]


def test_a_cancelled_call_is_not_sent_again_when_it_is_recalled() -> None:
    simulation = stuck()
    simulation.turn(2 * STUCK_SECONDS)
    simulation.cancel(simulation.batches[-1], None, running=False)
    simulation.read(1)
    simulation.hear(1)
    simulation.turn()
    assert simulation.calls_at(2) == []
    simulation.finish()


# -- ending -----------------------------------------------------------------------------------


def test_shutdown_finishes_everything_first() -> None:
    simulation = Simulation(max_workers=2, slots=2)
    simulation.submit(50)
    simulation.turn()
    simulation.shutdown()
    simulation.run(lambda: simulation.pool.finished)
    assert simulation.sink.statuses() == [frames.VALUE] * 50


def test_shutdown_without_calls_ends_at_once() -> None:
    simulation = Simulation()
    simulation.shutdown()
    assert simulation.pool.finished


def test_shutdown_stops_idle_workers() -> None:
    simulation = running(max_workers=2)
    simulation.shutdown()
    assert len(simulation.heads(frames.STOP)) == 2
    simulation.run(lambda: simulation.pool.finished)


def test_shutdown_does_not_wait_for_workers_that_would_only_start_to_stop() -> None:
    simulation = Simulation(max_workers=2)
    batch = simulation.submit(2)
    simulation.turn()
    simulation.start(1)
    simulation.cancel(batch, None, running=False)
    simulation.shutdown()
    simulation.start(2)
    # The second is to end whether it has a process already or not.
    assert [kill.worker for kill in simulation.kills] == [1, 2, 2]
    simulation.die(1)
    simulation.die(2)
    assert simulation.pool.finished


def test_shutdown_still_replaces_a_worker_that_dies_before_its_calls_ran() -> None:
    simulation = running(slots=1)
    simulation.submit(3)
    simulation.turn()
    simulation.shutdown()
    simulation.die(1)
    simulation.run(lambda: simulation.pool.finished)
    assert simulation.sink.statuses() == [frames.VALUE] * 4


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


def test_shutdown_with_cancel_ends_all_that_has_not_started() -> None:
    simulation = running(slots=2)
    simulation.submit(20)
    simulation.turn()
    simulation.take(1, 2)
    simulation.shutdown(cancel_unstarted=True)
    simulation.run(lambda: simulation.pool.finished)
    assert simulation.sink.statuses() == [frames.VALUE] * 3 + [frames.CANCELLED] * 18


def test_shutdown_with_cancel_reaches_a_worker_that_is_giving_back_some_calls() -> None:
    simulation = stuck()
    simulation.turn(2 * STUCK_SECONDS)
    assert simulation.heads(frames.RECALL)
    started = len(simulation.may_have_started)
    simulation.shutdown(cancel_unstarted=True)
    simulation.run(lambda: simulation.pool.finished)
    assert len(simulation.may_have_started) == started


def test_a_second_shutdown_may_cancel_what_the_first_let_run() -> None:
    simulation = running(slots=1)
    simulation.submit(9)
    simulation.turn()
    simulation.take(1)
    simulation.shutdown()
    simulation.shutdown(cancel_unstarted=True)
    simulation.run(lambda: simulation.pool.finished)
    assert simulation.sink.statuses() == [frames.VALUE] * 2 + [frames.CANCELLED] * 8


def test_kill_signals_every_worker_and_cancels_what_has_not_started() -> None:
    simulation = running(max_workers=2, slots=1)
    simulation.submit(12)
    simulation.turn()
    simulation.take(1)
    simulation.take(2)
    simulation.kill()
    assert {(kill.worker, kill.signal) for kill in simulation.kills} == {
        (1, signal.SIGKILL),
        (2, signal.SIGKILL),
    }
    simulation.die(1)
    simulation.die(2)
    assert simulation.pool.finished
    assert simulation.sink.statuses().count(LOST) == 2
    assert simulation.sink.statuses().count(frames.CANCELLED) == 10


def test_kill_reaches_a_worker_that_is_still_being_started() -> None:
    simulation = Simulation(max_workers=1)
    simulation.submit()
    simulation.turn()
    simulation.kill()
    simulation.start(1)
    assert simulation.workers[1].doomed
    simulation.die(1)
    assert simulation.pool.finished
    assert simulation.sink.statuses() == [frames.CANCELLED]


def test_no_worker_is_started_after_kill() -> None:
    simulation = running()
    simulation.kill()
    simulation.submit(5)
    simulation.die(1)
    simulation.turn()
    assert not simulation.workers
    assert simulation.pool.finished


@pytest.mark.parametrize("broken", [False, True])
def test_a_worker_that_survives_its_signal_is_stopped_when_its_calls_have_ended(
    broken: bool,
) -> None:
    simulation = running(slots=2)
    simulation.submit(2)
    simulation.turn()
    simulation.take(1, 2)
    if broken:
        simulation.pool.fail(ExecutorBroken("no workers"))
    else:
        simulation.kill()
    worker = simulation.workers[1]
    first, second = worker.running
    simulation.answer(1, first)
    assert not worker.told_to_stop
    simulation.answer(1, second)
    assert worker.told_to_stop


# -- retries ----------------------------------------------------------------------------------


def failing(**options: Any) -> tuple[Simulation, Batch]:
    """A worker runs a call that may be tried again."""
    simulation = running(random=lambda: 1.0)
    batch = simulation.submit(1, retries=2, backoff=1.0, **options)
    simulation.turn()
    simulation.take(1)
    return simulation, batch


def fail_once(simulation: Simulation) -> None:
    simulation.answer(1, status=frames.RETRIABLE)


def test_a_failed_call_is_tried_again_when_its_time_has_come() -> None:
    simulation, batch = failing()
    fail_once(simulation)
    assert (simulation.pool.ledger.retries.count, simulation.pool.pending) == (1, 0)
    assert simulation.pool.wait_seconds(simulation.now) == pytest.approx(1.0)
    simulation.turn(0.5)
    assert simulation.calls_at(1) == []
    simulation.turn(0.6)
    assert simulation.calls_at(1) == [1]
    simulation.take(1)
    fail_once(simulation)
    assert simulation.pool.wait_seconds(simulation.now) == pytest.approx(2.0)
    simulation.turn(2.1)
    simulation.take(1)
    fail_once(simulation)
    (_, status, _, _, _, troubles) = simulation.sink.got[1]
    assert status == frames.ERROR
    assert troubles is not None
    assert troubles.texts == ["Error: it failed"] * 2
    assert not batch.remaining


def test_others_run_while_a_call_waits_to_be_tried_again() -> None:
    simulation, _ = failing()
    fail_once(simulation)
    simulation.submit(1)
    simulation.turn()
    assert simulation.calls_at(1) == [2]
    simulation.finish()


def test_an_error_of_another_type_ends_the_call() -> None:
    simulation, _ = failing()
    simulation.answer(1, status=frames.ERROR)
    assert simulation.sink.got[1][1] == frames.ERROR
    simulation.finish()


@pytest.mark.parametrize(
    ("retry_on", "retried"), [((Exception,), 1), ((TimeoutError,), 1), ((KeyError,), 0)]
)
def test_a_timeout_is_an_error_like_others(retry_on: Any, retried: int) -> None:
    simulation, _ = failing(timeout=1.0, retry_on=retry_on)
    simulation.answer(1, status=frames.TIMED_OUT)
    assert simulation.pool.ledger.retries.count == retried
    simulation.finish()


def test_a_cancelled_call_is_not_tried_again() -> None:
    simulation, batch = failing()
    simulation.cancel(batch, None, running=False)
    fail_once(simulation)
    assert simulation.sink.got[1][1] == frames.ERROR
    simulation.finish()


def test_a_call_is_cancelled_while_it_waits_to_be_tried_again() -> None:
    simulation, batch = failing()
    fail_once(simulation)
    simulation.cancel(batch, None, running=True)
    assert simulation.pool.ledger.unfinished == 0
    assert simulation.pool.wait_seconds(simulation.now) is None
    simulation.turn(5.0)
    assert simulation.calls_at(1) == []
    simulation.finish()


def test_shutdown_waits_for_what_is_to_be_tried_again() -> None:
    simulation, _ = failing()
    fail_once(simulation)
    simulation.shutdown()
    assert not simulation.pool.finished
    simulation.run(lambda: simulation.pool.finished)
    assert simulation.sink.statuses() == [frames.VALUE] * 2


def test_a_retry_is_run_by_a_new_worker_if_the_old_one_is_gone() -> None:
    simulation, _ = failing()
    fail_once(simulation)
    simulation.shutdown()
    simulation.die(1)
    simulation.run(lambda: simulation.pool.finished)
    assert simulation.sink.statuses() == [frames.VALUE] * 2


@pytest.mark.parametrize("kill", [True, False])
def test_what_is_to_be_tried_again_ends_with_the_pool(kill: bool) -> None:
    simulation, _ = failing()
    fail_once(simulation)
    if kill:
        simulation.kill()
    else:
        simulation.shutdown(cancel_unstarted=True)
    (_, status, _, _, _, troubles) = simulation.sink.got[1]
    assert status == frames.CANCELLED
    assert troubles is not None
    assert len(troubles.texts) == 1


def test_nothing_is_tried_again_once_calls_are_to_be_cancelled() -> None:
    simulation, _ = failing()
    simulation.shutdown(cancel_unstarted=True)
    fail_once(simulation)
    assert simulation.sink.got[1][1] == frames.ERROR


# -- suspects ---------------------------------------------------------------------------------


def accused(max_workers: int = 1, calls: int = 4, **options: Any) -> Simulation:
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
    simulation.die(1)
    return simulation


def apart(simulation: Simulation) -> list[int]:
    return [w.id for w in simulation.pool.workers.values() if w.quarantine]


def test_suspects_run_in_workers_of_their_own_that_end_with_them() -> None:
    simulation = accused()
    assert simulation.pool.ledger.suspects.count == 4
    simulation.turn()
    (number,) = apart(simulation)
    simulation.ready(number)
    assert simulation.pool.workers[number].state is WorkerState.QUARANTINE
    simulation.turn()
    assert simulation.calls_at(number) == [1]
    assert simulation.pool.workers[number].state is WorkerState.RETIRING
    simulation.take(number)
    simulation.answer(number)
    assert simulation.heads(frames.STOP, number)
    simulation.finish()
    assert simulation.sink.statuses() == [frames.VALUE] * 5


def test_several_groups_are_tried_at_once_though_their_workers_are_ready_together() -> None:
    simulation = accused(max_workers=4)
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
    simulation = accused(calls=1)
    simulation.turn()
    (number,) = apart(simulation)
    simulation.ready(number)
    simulation.turn()
    simulation.die(number)  # before it took its call
    assert simulation.pool.ledger.suspects.count == 1
    simulation.finish()
    assert simulation.sink.statuses() == [frames.VALUE] * 2


def test_a_quarantine_that_is_not_needed_any_more_ends() -> None:
    simulation = accused()
    simulation.turn()
    (number,) = apart(simulation)
    simulation.ready(number)
    simulation.cancel(simulation.batches[-1], None, running=True)
    assert simulation.pool.ledger.unfinished == 0
    assert simulation.heads(frames.STOP, number)
    simulation.finish()


@pytest.mark.parametrize("kill", [True, False])
def test_suspects_end_with_the_pool(kill: bool) -> None:
    simulation = accused()
    if kill:
        simulation.kill()
    else:
        simulation.shutdown(cancel_unstarted=True)
    assert simulation.sink.statuses()[1:] == [frames.CANCELLED] * 4
    simulation.run(lambda: simulation.pool.finished)


def test_shutdown_waits_for_suspects() -> None:
    simulation = accused()
    simulation.shutdown()
    simulation.run(lambda: simulation.pool.finished)
    assert simulation.sink.statuses() == [frames.VALUE] * 5


# -- deadlines --------------------------------------------------------------------------------

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


def test_a_late_call_is_interrupted_before_its_worker_is_killed() -> None:
    simulation = late(traced=True, hog=None)
    simulation.turn(1.01)
    assert not simulation.heads(frames.EXPIRE)
    simulation.turn(0.3)
    assert len(simulation.heads(frames.EXPIRE)) == 3
    assert not simulation.kills
    simulation.read(1)
    simulation.hear(1)
    assert simulation.sink.statuses().count(frames.TIMED_OUT) == 2  # the odd one swallows it
    simulation.turn(0.5)
    (kill,) = simulation.kills
    assert (kill.worker, kill.signal) == (1, signal.SIGKILL)
    simulation.turn(0.1)
    assert len(simulation.kills) == 1
    simulation.finish()
    assert simulation.sink.statuses() == [frames.VALUE] + [frames.TIMED_OUT] * 3


def test_the_pool_looks_at_deadlines_in_time() -> None:
    simulation = late(traced=True)
    seconds = simulation.pool.wait_seconds(simulation.now)
    assert seconds is not None
    assert 1.0 < seconds < 1.0 + GRACE
    simulation.finish()
    assert simulation.pool.wait_seconds(simulation.now) is None


def test_victims_of_another_are_given_up_and_their_worker_lives() -> None:
    simulation = late(traced=False)
    batch = simulation.batches[-1]
    simulation.turn(2.0)
    assert not simulation.kills
    assert simulation.sink.statuses() == [frames.VALUE] + [frames.TIMED_OUT] * 3
    assert simulation.pool.ledger.unfinished == 0
    # Their runs go on, and their function is needed as long.
    assert batch.remaining == 3
    assert not simulation.heads(frames.FORGET)
    simulation.run(lambda: not simulation.at)
    assert batch.remaining == 0
    assert len(simulation.heads(frames.FORGET)) == 1
    simulation.finish()


def test_what_the_pool_broke_is_not_given_up_again() -> None:
    simulation = late(traced=False)
    simulation.pool.fail(ExecutorBroken("no workers"))
    simulation.turn(2.0)
    assert simulation.sink.statuses() == [frames.VALUE] + [LOST] * 3
    simulation.die(1)
    assert simulation.pool.finished


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
    assert simulation.sink.got[1][1] == frames.TIMED_OUT
    assert simulation.sink.got[2][1] == LOST
    assert simulation.pool.pending == 1
    assert simulation.pool.ledger.suspects.count == 0
    simulation.finish()
    assert simulation.sink.got[3][1] == frames.VALUE


@pytest.mark.parametrize("how", ["one by one", "a closed stream", "all", "left to run on"])
@pytest.mark.parametrize("retries", [0, 3])
def test_the_deadline_of_a_cancelled_call_holds(how: str, retries: int) -> None:
    simulation = late(traced=True, hog=None, size=4, retries=retries)
    batch = simulation.batches[-1]
    if how == "one by one":
        for place in range(4):
            simulation.cancel(batch, (place,), running=True)
    elif how == "all":
        simulation._event(simulation.pool.cancel_all, Sink())
    else:
        simulation.cancel(batch, None, running=how == "a closed stream")
    simulation.read(1)
    simulation.hear(1)  # those with even numbers end; the others swallow it
    simulation.turn(1.01 + GRACE / 3)
    simulation.read(1)
    simulation.hear(1)
    assert not simulation.kills
    simulation.turn(GRACE)
    assert [kill.worker for kill in simulation.kills] == [1]
    simulation.die(1)
    assert not simulation.pool.ledger.retries.count
    assert batch.remaining == 0
    if how != "all":
        simulation.finish()


def test_a_cancelled_call_with_a_deadline_does_not_keep_the_pool_from_ending() -> None:
    simulation = late(traced=True, hog=None, size=2)
    simulation.cancel(simulation.batches[-1], None, running=True)
    simulation.shutdown(cancel_unstarted=True)
    simulation.read(1)
    simulation.hear(1)
    assert not simulation.pool.finished
    assert simulation.pool.wait_seconds(simulation.now) is not None
    simulation.turn(1.01 + GRACE)
    assert [kill.worker for kill in simulation.kills] == [1]
    simulation.die(1)
    assert simulation.pool.finished
    assert len(simulation.workers) == 0


def test_cancelled_calls_that_go_on_are_told_of_once_by_name() -> None:
    simulation = running(slots=4, grace=GRACE)
    batch = simulation.submit(4)
    simulation.turn()
    simulation.take(1, 4)
    simulation.cancel(batch, None, running=True)
    assert simulation.pool.wait_seconds(simulation.now) == 0.0
    simulation.turn()
    assert simulation.pool.wait_seconds(simulation.now) == pytest.approx(GRACE)
    simulation.read(1)
    simulation.hear(1)
    simulation.turn(GRACE + 0.01)
    odd = [
        n for n, call in enumerate(range(batch.first, batch.first + 4), batch.offset) if call % 2
    ]
    (said,) = simulation.unsaid
    assert said.pid == simulation.workers[1].pid
    assert said.names == [f"{batch.function.name}({n})" for n in odd]
    worker = simulation.pool.workers[1]
    assert len(worker.deadlines.abandoned) == 2
    assert simulation.pool.wait_seconds(simulation.now) is None
    simulation.turn(60)
    assert len(simulation.unsaid) == 1
    simulation.answer(1)
    assert not worker.deadlines.abandoned
    simulation.finish()
    assert not simulation.kills


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
    assert simulation.pool.ledger.retries.count == 1
    simulation.finish()
    assert simulation.sink.statuses() == [frames.VALUE] * 2


def test_who_loses_its_worker_to_anothers_deadline_too_often_is_given_up() -> None:
    simulation = running(slots=2, grace=GRACE)
    simulation.submit(1, on_worker_loss="retry")
    number = 1
    for _ in range(MAX_LIVES):
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
    assert simulation.pool.ledger.suspects.count == 7
    assert simulation.pool.pending == 0
    simulation.finish()


def test_a_call_that_is_left_to_run_on_keeps_its_deadline() -> None:
    simulation = late(traced=True, size=1)
    simulation.cancel(simulation.batches[-1], None, running=False)
    simulation.turn(2.0)
    simulation.die(1)
    assert simulation.sink.got[1][1] == frames.TIMED_OUT
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


def test_the_pool_looks_up_for_what_is_due_first() -> None:
    simulation = stuck()
    simulation.submit(1, retries=1, backoff=0.0)
    simulation.turn()
    simulation.take(2)
    simulation.answer(2, status=frames.RETRIABLE)
    assert simulation.pool.wait_seconds(simulation.now) == 0
    simulation.finish()


# -- lone calls -------------------------------------------------------------------------------


def test_a_lone_call_is_sent_to_an_idle_worker_at_once_and_has_its_deadline() -> None:
    simulation = running()
    batch, number = simulation.express(timeout=1.0)
    assert number == 1
    assert list(simulation.at) == [batch.first]
    assert simulation.pool.wait_seconds(simulation.now) is not None
    simulation.finish()


def test_no_call_is_lone_beside_others_or_without_a_worker() -> None:
    simulation = running()
    simulation.submit(1)
    assert simulation.express()[1] is None
    simulation = Simulation()
    assert simulation.express()[1] is None
    simulation = running(budget=5)
    assert simulation.express()[1] is None


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
    assert len(simulation.heads(frames.RECALL, 1)) == 1
    simulation.turn()
    assert len(simulation.workers) == 2
    simulation.measure(1, 2000)
    assert len(simulation.workers) == 2
    simulation.finish()
    assert simulation.sink.statuses() == [frames.VALUE] * 6


def test_an_idle_worker_that_holds_too_much_ends_at_once() -> None:
    simulation = running(memory=1000)
    simulation.measure(1, 2000)
    assert simulation.heads(frames.STOP, 1)
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


# -- where outcomes go ------------------------------------------------------------------------


def test_outcomes_go_to_their_own_sinks_at_their_own_places() -> None:
    simulation = running(slots=3)
    sinks = [Sink(), Sink()]
    for size in (3, 1, 5):
        for sink in sinks:
            simulation.submit(size, sink=sink)
    simulation.finish()
    for sink in sinks:
        assert {index: outcome[2] for index, outcome in sink.got.items()} == dict(
            enumerate(sink.calls)
        )


def test_each_outcome_names_the_worker_that_ran_the_call() -> None:
    simulation = running()
    simulation.submit()
    simulation.turn()
    simulation.take(1)
    simulation.answer(1, status=frames.ERROR)
    assert simulation.sink.got[1][4] == simulation.workers[1].pid
    assert simulation.pool.workers[1].failed == 1
    assert simulation.pool.workers[1].done == 2


def silent_worker() -> Simulation:
    """Worker 1 runs a call, has ten more, and does not read that some are recalled for worker 2."""
    simulation = far_behind()
    simulation.turn(2 * STUCK_SECONDS)
    assert simulation.heads(frames.RECALL, 1)
    return simulation


def test_a_worker_that_does_not_answer_a_recall_loses_what_it_has_not_started() -> None:
    simulation = silent_worker()
    left = simulation.calls_at(1)
    assert len(left) > 1
    simulation.turn(2 * SILENT_SECONDS)
    assert simulation.workers[1].page.held
    assert simulation.calls_at(1) == left, "it is held first"
    simulation.turn(2 * HOLD_SECONDS)
    assert simulation.calls_at(1) == left[:1]
    simulation.read(1)
    assert not simulation.workers[1].inbox
    simulation.finish()


def test_what_is_reclaimed_between_two_looks_is_sent_at_once() -> None:
    simulation = silent_worker()
    simulation.turn(2 * SILENT_SECONDS)
    simulation.now += 2 * HOLD_SECONDS
    simulation.dispatch()
    assert len(simulation.calls_at(1)) == 1
    assert simulation.calls_at(2)
    simulation.finish()


def test_what_a_worker_takes_before_it_notices_the_hold_stays_its_own() -> None:
    simulation = silent_worker()
    simulation.turn(2 * SILENT_SECONDS)
    worker = simulation.workers[1]
    worker.read()  # the calls; the recall is still in the pipe
    worker.released = worker.page.held  # as if it had looked before
    simulation.may_have_started.add(worker.take())
    worker.released = 0
    simulation.turn(2 * HOLD_SECONDS)
    assert len(simulation.calls_at(1)) == 2
    simulation.finish()


def test_a_worker_that_answers_while_it_is_held_goes_on() -> None:
    simulation = silent_worker()
    simulation.turn(2 * SILENT_SECONDS)
    simulation.read(1)
    simulation.hear(1)
    assert simulation.heads(frames.RECLAIM, 1) == [(frames.RECLAIM, 1, [])]
    simulation.turn(2 * HOLD_SECONDS)
    simulation.read(1)
    assert simulation.workers[1].released == simulation.workers[1].page.held
    simulation.finish()

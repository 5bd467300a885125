"""Calls that wait behind a long one are recalled for workers with nothing to do, or reclaimed if
their worker does not answer."""

from __future__ import annotations

from hybridexec.parent.pool.recall import (
    HOARD_SECONDS,
    HOLD_SECONDS,
    SILENT_SECONDS,
    STUCK_SECONDS,
)
from hybridexec.parent.pool.worker import MIN_WINDOW
from hybridexec.wire import messages

from ..simulation import Simulation
from .situations import far_behind, running, stuck

# -- recall -----------------------------------------------------------------------------------


def test_many_recalled_calls_come_back_in_order() -> None:
    simulation = far_behind()
    budget = simulation.pool.workers[1].budget
    simulation.turn(2 * STUCK_SECONDS)
    ((_, count),) = simulation.heads(messages.Recall, 1)
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
    assert simulation.heads(messages.Recall, 1)
    before = simulation.calls_at(1)
    simulation.pool.workers[1].window = simulation.pool.workers[1].ahead = 100
    simulation.submit(40)
    simulation.turn()
    assert simulation.calls_at(1) == before


def test_calls_behind_a_stuck_one_go_to_an_idle_worker() -> None:
    simulation = stuck()
    simulation.turn(2 * STUCK_SECONDS)
    assert len(simulation.heads(messages.Recall, 1)) == 1
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
    assert len(simulation.heads(messages.Recall, 1)) == 1


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


def test_the_only_worker_keeps_what_it_hoards() -> None:
    simulation = running(max_workers=1, slots=1)
    simulation.pool.workers[1].window = simulation.pool.workers[1].ahead = 50
    simulation.submit(60)
    simulation.turn()
    simulation.take(1)
    for _ in range(3):
        simulation.turn(HOARD_SECONDS)
        assert simulation.pool.wait_seconds(simulation.now) is None
    assert not simulation.heads(messages.Recall)
    simulation.finish()


def test_a_worker_is_not_stuck_at_once() -> None:
    simulation = stuck()
    simulation.turn(STUCK_SECONDS / 10)
    assert not simulation.heads(messages.Recall)


def test_the_pool_wants_to_look_again_while_a_worker_may_be_stuck() -> None:
    simulation = stuck()
    seconds = simulation.pool.wait_seconds(simulation.now)
    assert seconds is not None
    assert 0 < seconds <= 0.1


def test_nothing_is_sent_to_a_worker_while_it_is_recalled() -> None:
    simulation = stuck()
    simulation.turn(2 * STUCK_SECONDS)
    simulation.in_flight.clear()
    simulation.submit(20)
    simulation.turn()
    assert not simulation.heads(messages.Calls, 1)
    assert not simulation.heads(messages.NotifyLow, 1)
    assert not simulation.heads(messages.Recall, 1)


def test_one_recall_is_on_its_way_at_a_time() -> None:
    simulation = stuck()
    for _ in range(3):
        simulation.turn(2 * STUCK_SECONDS)
    assert len(simulation.heads(messages.Recall)) == 1


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
    assert simulation.sink.statuses() == [messages.VALUE] * simulation.sink.size


# -- hold and reclaim -------------------------------------------------------------------------


def silent_worker() -> Simulation:
    """Worker 1 runs a call, has ten more, and does not read that some are recalled for worker 2."""
    simulation = far_behind()
    simulation.turn(2 * STUCK_SECONDS)
    assert simulation.heads(messages.Recall, 1)
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
    assert simulation.heads(messages.Reclaim, 1) == [messages.Reclaim(1, []).head]
    simulation.turn(2 * HOLD_SECONDS)
    simulation.read(1)
    assert simulation.workers[1].released == simulation.workers[1].page.held
    simulation.finish()

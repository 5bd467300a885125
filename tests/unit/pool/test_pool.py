"""The pool's phases: how it breaks, shuts down and is killed, and what its calls come to then."""

from __future__ import annotations

import signal

import pytest

from hybridexec.errors import ExecutorBroken
from hybridexec.parent.pool.pool import Phase
from hybridexec.parent.pool.recall import STUCK_SECONDS
from hybridexec.parent.work.batch import LOST
from hybridexec.process import Process
from hybridexec.wire import messages

from ..simulation import Simulation
from .situations import running, stuck

# -- a pool that is broken --------------------------------------------------------------------


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
    assert simulation.sink.got[0][4] == Process(simulation.workers[1].pid)


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
    assert simulation.sink.statuses() == [messages.VALUE, LOST, LOST]
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


# -- shutdown ---------------------------------------------------------------------------------


def test_shutdown_finishes_everything_first() -> None:
    simulation = Simulation(max_workers=2, slots=2)
    simulation.submit(50)
    simulation.turn()
    simulation.shutdown()
    simulation.run(lambda: simulation.pool.finished)
    assert simulation.sink.statuses() == [messages.VALUE] * 50


def test_shutdown_without_calls_ends_at_once() -> None:
    simulation = Simulation()
    simulation.shutdown()
    assert simulation.pool.finished


def test_shutdown_stops_idle_workers() -> None:
    simulation = running(max_workers=2)
    simulation.shutdown()
    assert len(simulation.heads(messages.Stop)) == 2
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
    assert simulation.sink.statuses() == [messages.VALUE] * 4


def test_shutdown_with_cancel_ends_all_that_has_not_started() -> None:
    simulation = running(slots=2)
    simulation.submit(20)
    simulation.turn()
    simulation.take(1, 2)
    simulation.shutdown(cancel_unstarted=True)
    simulation.run(lambda: simulation.pool.finished)
    assert simulation.sink.statuses() == [messages.VALUE] * 3 + [messages.CANCELLED] * 18


def test_shutdown_with_cancel_reaches_a_worker_that_is_giving_back_some_calls() -> None:
    simulation = stuck()
    simulation.turn(2 * STUCK_SECONDS)
    assert simulation.heads(messages.Recall)
    started = len(simulation.may_have_started)
    simulation.shutdown(cancel_unstarted=True)
    simulation.run(lambda: simulation.pool.finished)
    assert len(simulation.may_have_started) == started


@pytest.mark.parametrize("cancel", [True, False])
def test_calls_that_come_too_late_for_a_shutdown_are_cancelled(cancel: bool) -> None:
    simulation = running(slots=1)
    simulation.submit(2)
    simulation.turn()
    simulation.take(1)
    simulation.shutdown(cancel_unstarted=cancel)
    simulation.submit(1)  # it finishes all calls, or only those that have started
    simulation.run(lambda: simulation.pool.finished)
    simulation.submit(1)
    ends = [messages.CANCELLED] * 2 if cancel else [messages.VALUE] * 2
    assert simulation.sink.statuses() == [messages.VALUE] * 2 + ends + [messages.CANCELLED]
    assert simulation.pool.finished


def test_a_second_shutdown_may_cancel_what_the_first_let_run() -> None:
    simulation = running(slots=1)
    simulation.submit(9)
    simulation.turn()
    simulation.take(1)
    simulation.shutdown()
    simulation.shutdown(cancel_unstarted=True)
    simulation.run(lambda: simulation.pool.finished)
    assert simulation.sink.statuses() == [messages.VALUE] * 2 + [messages.CANCELLED] * 8


# -- kill -------------------------------------------------------------------------------------


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
    assert simulation.sink.statuses().count(messages.CANCELLED) == 10


def test_kill_reaches_a_worker_that_is_still_being_started() -> None:
    simulation = Simulation(max_workers=1)
    simulation.submit()
    simulation.turn()
    simulation.kill()
    simulation.start(1)
    assert simulation.workers[1].doomed
    simulation.die(1)
    assert simulation.pool.finished
    assert simulation.sink.statuses() == [messages.CANCELLED]


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


# -- when it is to be told the time -----------------------------------------------------------


def test_an_idle_pool_sleeps_until_something_happens() -> None:
    simulation = running(max_workers=2)
    assert simulation.pool.wait_seconds(simulation.now) is None


def test_the_pool_looks_up_for_what_is_due_first() -> None:
    simulation = stuck()
    simulation.submit(1, retries=1, backoff=0.0)
    simulation.turn()
    simulation.take(2)
    simulation.answer(2, status=messages.RETRIABLE)
    assert simulation.pool.wait_seconds(simulation.now) == 0
    simulation.finish()


@pytest.mark.parametrize("patient", [False, True])
def test_who_is_getting_ready_when_the_pool_ends_is_killed_unless_that_is_to_be_undone(
    patient: bool,
) -> None:
    simulation = Simulation(max_workers=2, patient=patient)
    batch = simulation.submit(2)
    simulation.turn()
    simulation.start(1)
    simulation.cancel(batch, None, running=False)
    simulation.shutdown()
    simulation.turn()
    assert [action.worker for action in simulation.kills] == ([2] if patient else [1, 2])
    if patient:
        simulation.ready(1)
        simulation.turn()
        assert simulation.heads(messages.Stop, 1)

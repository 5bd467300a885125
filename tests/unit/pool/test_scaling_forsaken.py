"""What becomes of a worker in whose threads cancelled calls go on: it costs no other call."""

from __future__ import annotations

import signal
from typing import Any

import pytest

from hybridexec.events import CallsAbandoned, WorkerEnded, WorkerRecycled
from hybridexec.options import Lane
from hybridexec.parent.pool.recall import HOLD_SECONDS, SILENT_SECONDS
from hybridexec.parent.pool.worker import WorkerState
from hybridexec.wire import messages

from ..simulation import Simulation
from .situations import GRACE

SLOTS = 4


def going_on(
    cancelled: int = 1, size: int = SLOTS, lane: Lane = "thread", **options: Any
) -> Simulation:
    """One worker, all of whose slots have calls; of those that swallow a stop, some are cancelled,
    a grace period ago."""
    simulation = Simulation(1, SLOTS, grace=GRACE)
    simulation.submit(size, lane=lane, **options)
    simulation.turn()
    simulation.ready(1)
    simulation.turn()
    simulation.take(1, min(size, SLOTS))
    assert simulation.workers[1].running
    odd = [call for call in simulation.workers[1].running if call % 2]
    batch = simulation.batches[-1]
    simulation.cancel(batch, [call - batch.first for call in odd[:cancelled]], running=True)
    simulation.turn()
    simulation.read(1)
    simulation.hear(1)
    simulation.turn(GRACE - 0.01)
    assert simulation.pool.workers[1].state is WorkerState.READY
    return simulation


def neighbours(simulation: Simulation) -> list[int]:
    """The calls that run in the first worker and were not cancelled."""
    return [call for call in simulation.workers[1].running if call not in simulation.silent]


def ends(simulation: Simulation) -> list[tuple[bool, str]]:
    return [(event.lost, event.cause) for event in simulation.account.those(WorkerEnded)]


def test_it_is_replaced_at_once_and_killed_when_its_other_calls_have_ended() -> None:
    simulation = going_on()
    simulation.turn(0.02)
    (said,) = simulation.account.those(CallsAbandoned)
    assert "is killed when its other calls have ended" in said.message
    assert [e.cause for e in simulation.account.those(WorkerRecycled)] == ["abandoned"]
    assert simulation.pool.workers[1].state is WorkerState.RETIRING
    assert list(simulation.workers) == [1, 2]
    first, *others = neighbours(simulation)
    assert others
    simulation.answer(1, *others)
    simulation.turn(60)
    assert not simulation.kills
    simulation.answer(1, first)
    assert [(kill.worker, kill.signal) for kill in simulation.kills] == [(1, signal.SIGKILL)]
    assert simulation.pool.wait_seconds(simulation.now) is None
    simulation.die(1)
    assert simulation.sink.statuses() == [messages.VALUE] * (SLOTS - 1)
    assert ends(simulation) == [(False, "")]
    tally = simulation.pool.actions.tally
    assert dict(tally.causes) == {"abandoned": 1}
    simulation.ready(2)
    simulation.finish()
    assert len(simulation.kills) == 1


def test_it_is_killed_at_once_if_nothing_else_is_there() -> None:
    simulation = going_on(size=2)
    simulation.answer(1, *neighbours(simulation))
    simulation.turn(0.02)
    assert [kill.worker for kill in simulation.kills] == [1]
    assert list(simulation.workers) == [1, 2]
    simulation.die(1)
    simulation.turn()
    assert list(simulation.workers) == [2], "it is replaced once"
    simulation.finish()


def test_its_replacement_has_the_slots_of_what_was_abandoned() -> None:
    simulation = going_on(cancelled=2)
    simulation.turn(0.02)
    simulation.ready(2)
    simulation.submit(SLOTS, lane="thread")
    simulation.turn()
    assert len(neighbours(simulation)) == 2
    assert len(simulation.calls_at(1)) == 4
    assert len(simulation.calls_at(2)) == 2
    simulation.finish()


def test_calls_that_have_not_started_are_run_by_its_replacement() -> None:
    simulation = going_on(size=SLOTS + 2)
    assert len(simulation.calls_at(1)) == SLOTS + 2
    simulation.turn(0.02)
    assert len(simulation.heads(messages.Recall, 1)) == 1
    simulation.read(1)
    simulation.hear(1)
    simulation.ready(2)
    simulation.turn()
    assert len(simulation.calls_at(1)) == SLOTS
    assert len(simulation.calls_at(2)) == 1
    simulation.finish()
    assert simulation.sink.statuses() == [messages.VALUE] * (SLOTS + 1)


def test_they_are_reclaimed_if_it_does_not_answer() -> None:
    simulation = going_on(cancelled=2, size=SLOTS + 2)
    simulation.answer(1, *neighbours(simulation))
    simulation.turn(0.02)
    seconds = simulation.pool.wait_seconds(simulation.now)
    assert seconds is not None
    assert seconds <= HOLD_SECONDS
    simulation.turn(SILENT_SECONDS + 0.001)
    assert not simulation.kills
    simulation.turn(HOLD_SECONDS + 0.001)
    assert [kill.worker for kill in simulation.kills] == [1]
    assert len(simulation.calls_at(1)) == 2
    simulation.die(1)
    simulation.finish()
    assert simulation.sink.statuses() == [messages.VALUE] * SLOTS


def test_it_ends_as_others_do_if_what_was_abandoned_ends_first() -> None:
    simulation = going_on()
    simulation.turn(0.02)
    others = neighbours(simulation)
    simulation.answer(1, *(call for call in simulation.workers[1].running if call not in others))
    simulation.answer(1, *others)
    assert simulation.workers[1].told_to_stop
    simulation.ready(2)
    simulation.finish()
    assert not simulation.kills


def test_a_neighbour_that_is_cancelled_has_its_grace() -> None:
    simulation = going_on()
    simulation.turn(0.02)
    batch = simulation.batches[-1]
    simulation.cancel(batch, None, running=True)
    simulation.turn()
    simulation.read(1)
    simulation.hear(1)
    assert len(simulation.workers[1].running) == 2
    simulation.turn(GRACE - 0.01)
    assert not simulation.kills
    simulation.turn(0.02)
    assert [kill.worker for kill in simulation.kills] == [1]
    simulation.finish()


@pytest.mark.parametrize("cancel_unstarted", [False, True])
def test_shutdown_waits_for_the_grace_and_for_the_neighbours(cancel_unstarted: bool) -> None:
    simulation = going_on()
    simulation.shutdown(cancel_unstarted)
    simulation.turn(0.02)
    assert list(simulation.workers) == [1], "there is nothing left for another"
    assert not simulation.kills
    simulation.answer(1, *neighbours(simulation))
    assert [kill.worker for kill in simulation.kills] == [1]
    simulation.die(1)
    assert simulation.pool.finished


def test_a_deadline_costs_it_as_others() -> None:
    simulation = going_on(timeout=2 * GRACE, on_worker_loss="retry")
    simulation.turn(0.02)
    assert not simulation.kills
    assert simulation.pool.workers[1].forsaken
    simulation.turn(2 * GRACE + 0.01)
    assert [kill.worker for kill in simulation.kills] == [1]
    simulation.finish()


@pytest.mark.parametrize("lane", ["greenlet", "async"])
def test_in_other_lanes_it_goes_on(lane: Lane) -> None:
    simulation = going_on(lane=lane)
    simulation.turn(0.02)
    assert [e.lane for e in simulation.account.those(CallsAbandoned)] == [lane]
    assert simulation.pool.workers[1].state is WorkerState.READY
    simulation.answer(1, *neighbours(simulation))
    simulation.turn(60)
    assert list(simulation.workers) == [1]
    assert not simulation.kills
    simulation.finish()

"""Cancelling reaches a call wherever it is, and a function is forgotten after its last call."""

from __future__ import annotations

import pytest

from hybridexec.parent.pool import invariants
from hybridexec.parent.pool.in_flight import InFlight
from hybridexec.parent.pool.recall import STUCK_SECONDS
from hybridexec.parent.work.batch import Batch
from hybridexec.parent.work.function import Function
from hybridexec.wire import messages

from .situations import running, stuck

# -- functions --------------------------------------------------------------------------------


def test_a_passing_function_is_forgotten_after_its_batch() -> None:
    simulation = running()
    function = Function(b"passing", lasting=False)
    simulation.submit(2, function)
    simulation.turn()
    simulation.take(1)
    simulation.answer(1)
    assert not simulation.heads(messages.Forget)
    simulation.run(lambda: not simulation.pool.ledger.unfinished)
    assert simulation.heads(messages.Forget) == [messages.Forget(function.number).head]


def test_a_function_that_several_batches_share_is_forgotten_after_the_last() -> None:
    simulation = running(slots=10)
    function = Function(b"passing", lasting=False)
    simulation.submit(2, function)
    other = simulation.submit(2, function)
    simulation.turn()
    simulation.take(1, 4)
    simulation.answer(1, *simulation.workers[1].running.keys() - {other.first})
    assert not simulation.heads(messages.Forget)
    simulation.answer(1, other.first)
    assert simulation.heads(messages.Forget) == [messages.Forget(function.number).head]


def test_a_cancelled_batch_is_forgotten_too() -> None:
    simulation = running()
    function = Function(b"passing", lasting=False)
    batch = simulation.submit(50, function)
    simulation.turn()
    simulation.take(1)
    simulation.cancel(batch, None, running=True)
    simulation.run(lambda: not simulation.at)
    assert simulation.heads(messages.Forget) == [messages.Forget(function.number).head]


# -- cancel -----------------------------------------------------------------------------------


def test_calls_that_never_came_can_be_cancelled_like_others() -> None:
    simulation = running(slots=1)
    others = simulation.submit(5)
    simulation.cancel_refused(3, running=False)
    simulation.cancel_refused(3, running=True)
    assert simulation.pool.pending == others.size
    simulation.finish()


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
    ((_, calls, stop),) = simulation.heads(messages.Cancel)
    assert sorted(calls) == [batch.first, batch.first + 1, batch.first + 2]
    assert not stop
    simulation.finish()
    assert simulation.sink.statuses() == [messages.VALUE] * 2 + [messages.CANCELLED] * 2


def test_stopped_running_calls_are_forgotten_at_once() -> None:
    simulation = running(slots=1)
    batch = simulation.submit(1)
    simulation.turn()
    simulation.take(1)
    simulation.cancel(batch, (0,), running=True)
    assert simulation.heads(messages.Cancel) == [messages.Cancel([batch.first], True).head]
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
    assert not simulation.heads(messages.Cancel)
    simulation.finish()


def test_a_cancelled_call_is_not_sent_again_when_it_is_recalled() -> None:
    simulation = stuck()
    simulation.turn(2 * STUCK_SECONDS)
    simulation.cancel(simulation.batches[-1], None, running=False)
    simulation.read(1)
    simulation.hear(1)
    simulation.turn()
    assert simulation.calls_at(2) == []
    simulation.finish()

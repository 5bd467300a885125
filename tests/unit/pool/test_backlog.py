"""Calls that wait are sent in order, those that came back first; cancelled ones are never sent."""

from __future__ import annotations

import weakref

from hybridexec.parent.pool.backlog import Backlog
from hybridexec.parent.pool.recall import STUCK_SECONDS
from hybridexec.parent.work.batch import Batch

from ..fakes import FUNCTION, OPTIONS, Sink, cancel, is_gone, watched
from ..simulation import Simulation
from .situations import far_behind, running, stuck


def test_a_cancelled_call_that_waits_for_a_worker_is_let_go() -> None:
    made, batch = Backlog(), watched()
    seen = weakref.ref(batch)
    made.add(batch)
    cancel(made, batch, 0, 1)
    del batch
    assert is_gone(seen)


def test_a_cancelled_call_is_let_go_when_the_one_before_it_is_handed_out() -> None:
    made, first, batch = Backlog(), watched(), watched()
    seen = weakref.ref(batch)
    made.add(first)
    made.add(batch)
    cancel(made, batch, 0, 1)
    assert made.take(2) == [(first, 0, 2)]
    del batch
    assert is_gone(seen)


def test_calls_of_a_heavier_batch_are_not_handed_out_with_others() -> None:
    made = Backlog()
    batches = [Batch(FUNCTION, [(n,) for n in range(3)], Sink(), OPTIONS, 0) for _ in range(4)]
    for batch, weight in zip(batches, (5, 3, 5, 6), strict=True):
        batch.weight = weight
        made.add(batch)
    assert made.take(20) == [(batch, 0, 3) for batch in batches[:3]]
    assert made.count == 3
    assert made.weight == 6
    assert made.take(2) == [(batches[3], 0, 2)]


def test_a_batch_of_which_all_was_cancelled_says_nothing_of_what_follows() -> None:
    made = Backlog()
    light, heavy = (Batch(FUNCTION, [(n,) for n in range(3)], Sink(), OPTIONS, 0) for _ in "ab")
    heavy.weight = 5
    made.add(light)
    made.add(heavy)
    cancel(made, light, 0, 1, 2)
    assert made.weight == 5
    assert made.take(2) == [(heavy, 0, 2)]
    assert made.count == 1


def test_cancelled_pending_calls_are_never_sent_and_their_sink_hears_nothing() -> None:
    simulation = Simulation(max_workers=1, slots=10)
    batch = simulation.submit(10)
    simulation.cancel(batch, (2, 5), running=False)
    simulation.finish()
    assert set(simulation.sink.got) == {0, 1, 3, 4, 6, 7, 8, 9}


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

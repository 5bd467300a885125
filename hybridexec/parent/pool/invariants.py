"""The pool's invariants, which hold between events. Used by tests, which assert them after each."""

from __future__ import annotations

from ..work.batch import DROPPED, ENDED, SENT, UNWANTED, WAITING
from .crew import Crew
from .ledger import Ledger
from .pool import Phase, Pool
from .worker import Worker, WorkerState


def check(pool: Pool) -> None:
    """Assert the invariants."""
    for worker in pool.workers.values():
        _check_worker(worker)
    crews = pool.crews
    for crew in crews.values():
        _check_books(pool.ledger, crew)
        if crew.broken_because or pool.phase in (Phase.BROKEN, Phase.KILLED):
            assert not crew.waiting, "nothing waits for workers that will not come"
    numbers = sorted(number for crew in crews.values() for number in crew.workers)
    assert numbers == sorted(pool.workers), "each worker is in one crew"
    assert pool.ledger.unfinished == sum(crew.unfinished for crew in crews.values())


def _check_worker(worker: Worker) -> None:
    assert worker.crew.workers[worker.id] is worker
    assert 0 <= worker.done <= worker.taken, "an answered call was taken"
    assert worker.running <= len(worker.in_flight), "a running call is unanswered"
    assert worker.waiting >= 0
    if worker.state in (WorkerState.STARTING, WorkerState.QUARANTINE):
        assert not worker.in_flight, "calls are sent to ready workers only"
    assert worker.quarantine or worker.state is not WorkerState.QUARANTINE
    for call, batch in worker.in_flight.calls():
        assert batch.states[call - batch.first] in (SENT, UNWANTED, DROPPED), "a worker has it"
        assert batch.crew is worker.crew, "calls run in their lane"
    assert not worker.forsaken or worker.state in (WorkerState.RETIRING, WorkerState.STOPPING)
    if worker.forsaken and worker.in_flight and not worker.kept_slots:
        assert worker.state is WorkerState.STOPPING, "nothing else keeps it"
    if not worker.in_flight:
        assert not worker.deadlines, "only calls that it has are watched"
    for call in worker.deadlines.abandoned:
        of = worker.in_flight.get(call)
        assert of is not None, "an abandoned call holds a slot"
        assert of.states[call - of.first] == DROPPED, "nobody waits for it"


def _check_books(ledger: Ledger, crew: Crew) -> None:
    spans = list(crew.backlog.spans())
    waiting = sum(batch.states.count(WAITING, low, high) for batch, low, high in spans)
    cancelled = sum(batch.states.count(ENDED, low, high) for batch, low, high in spans)
    assert waiting + cancelled == sum(high - low for _, low, high in spans), "no other is there"
    assert waiting == crew.backlog.count, (waiting, crew.backlog.count)
    count = ledger.count(crew)
    assert count == crew.unfinished, (count, waiting, crew.unfinished)
    if crew.closing:
        apart = crew.retries.count + crew.suspects.count + crew.limited
        assert not apart, "nothing is kept that will not be tried again"

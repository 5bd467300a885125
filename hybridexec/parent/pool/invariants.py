"""What is true of a pool whenever nothing happens to it.

Runs on: tests, which assert it after each event.
"""

from __future__ import annotations

from .ledger import Books
from .pool import Phase, Pool
from .worker import Worker, WorkerState


def check(pool: Pool) -> None:
    """Assert the invariants."""
    for worker in pool.workers.values():
        _check_worker(worker)
    _check_books(pool.books)
    if pool.phase in (Phase.BROKEN, Phase.KILLED):
        kept = pool.pending + pool.books.retries.count + pool.books.suspects.count
        assert not kept, "nothing waits for workers that will not come"


def _check_worker(worker: Worker) -> None:
    assert 0 <= worker.done <= worker.taken, "an answered call was taken"
    assert worker.running <= len(worker.sent), "a running call is unanswered"
    assert worker.waiting >= 0
    if worker.state in (WorkerState.STARTING, WorkerState.QUARANTINE):
        assert not worker.sent, "calls are sent to ready workers only"
    assert worker.quarantine or worker.state is not WorkerState.QUARANTINE
    if not worker.sent:
        assert not worker.deadlines, "only calls that it has are watched"
    for call in worker.deadlines.abandoned:
        batch = worker.sent.get(call)
        assert batch is not None, "an abandoned call holds a slot"
        assert call - batch.first in batch.dropped, "nobody waits for it"


def _check_books(books: Books) -> None:
    waiting = sum(
        place not in batch.dropped
        for batch, low, high in books.waiting.spans()
        for place in range(low, high)
    )
    assert waiting == books.waiting.count, (waiting, books.waiting.count)
    assert books.count() == books.unfinished, (books.count(), waiting, books.unfinished)
    if books.closing:
        apart = books.retries.count + books.suspects.count
        assert not apart, "nothing is kept that will not be tried again"

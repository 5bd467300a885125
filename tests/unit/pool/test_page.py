"""A worker without a status page: what was sent to it counts as started, and it is trusted with the
rest."""

from __future__ import annotations

from typing import Any

import pytest

from hybridexec.errors import WorkerLost
from hybridexec.options import CallOptions, Lane
from hybridexec.parent.pool import invariants
from hybridexec.parent.pool.actions import Action, Send
from hybridexec.parent.pool.pool import Pool
from hybridexec.parent.pool.worker import MIN_WINDOW
from hybridexec.parent.work.batch import LOST, Batch, Loss
from hybridexec.process import Process
from hybridexec.wire import messages

from ..fakes import FUNCTION, Sink

SLOTS = 2
#: How many calls a worker is sent before it has answered any.
MOST = SLOTS + MIN_WINDOW
GRACE = 0.5


class Unseen:
    """A pool whose workers have no page, and exist as soon as they are wanted."""

    def __init__(self, max_workers: int = 1) -> None:
        self.pool = Pool(max_workers, {"greenlet": SLOTS, "thread": SLOTS}, grace=GRACE)
        self.sink = Sink()

    def submit(self, size: int, **options: Any) -> Batch:
        items = [(place,) for place in range(size)]
        batch = Batch(FUNCTION, items, self.sink, CallOptions(**options), self.sink.size)
        self.sink.calls.extend(range(batch.first, batch.first + size))
        self.pool.submit(batch)
        self.turn(0.0)
        for number in list(self.pool.workers):
            self.pool.started(number, Process(None), None)
            self.pool.ready(number, 0.0)
        self.turn(0.0)
        return batch

    def turn(self, now: float) -> list[Action]:
        self.pool.tick(now)
        self.pool.dispatch(now)
        return self.decided()

    def decided(self) -> list[Action]:
        for sink, ended in self.pool.ledger.take_outcomes():
            sink.deliver(ended)
        invariants.check(self.pool)
        return self.pool.actions.take()

    def sent(self, number: int) -> list[int]:
        return [call for call, _ in self.pool.workers[number].in_flight.calls()]


def test_what_was_sent_is_lost_with_its_worker_and_what_was_not_waits() -> None:
    unseen = Unseen()
    batch = unseen.submit(10)
    assert unseen.sent(1) == [batch.first + place for place in range(MOST)]
    unseen.pool.results(1, [(batch.first, messages.VALUE, 0, None)], [], 0.0)
    held = len(unseen.sent(1))
    unseen.pool.lost(1, WorkerLost("cut"), 0.0)
    unseen.decided()
    assert unseen.sink.statuses() == [messages.VALUE] + [LOST] * held
    assert all(type(unseen.sink.got[place][2]) is Loss for place in range(1, 1 + held))
    assert unseen.pool.pending == 10 - 1 - held


def test_it_runs_again_if_it_may() -> None:
    unseen = Unseen()
    unseen.submit(10, on_worker_loss="retry")
    unseen.pool.lost(1, WorkerLost("cut"), 0.0)
    unseen.decided()
    assert unseen.pool.crews["greenlet"].suspects.count == MOST
    assert unseen.pool.pending == 10 - MOST
    assert not unseen.sink.got


def test_one_that_is_lost_before_it_was_sent_a_call_counts_as_a_failed_start() -> None:
    unseen = Unseen()
    unseen.pool.want(1, "greenlet")
    (start,) = unseen.turn(0.0)
    unseen.pool.started(start.worker, Process(None), None)
    unseen.pool.lost(start.worker, WorkerLost("cut"), 0.0)
    unseen.decided()
    unseen.submit(1)
    assert not unseen.pool.workers, "the next start waits"


def test_its_timeouts_are_its_own_affair() -> None:
    unseen = Unseen()
    batch = unseen.submit(MOST, timeout=1.0)
    for now in (1.0, 1.2, 2.0, 100.0):
        assert unseen.turn(now) == [], "it is neither asked to interrupt a call nor killed"
    assert not unseen.sink.got
    unseen.pool.results(1, [(batch.first, messages.TIMED_OUT, 1.0, 1.0)], [], 100.0)
    unseen.decided()
    assert unseen.sink.statuses() == [messages.TIMED_OUT]


@pytest.mark.parametrize("lane", ["greenlet", "thread"])
def test_a_cancelled_call_that_is_not_answered_is_reported_once(lane: Lane) -> None:
    unseen = Unseen()
    batch = unseen.submit(MOST, lane=lane)
    unseen.pool.cancel(batch, [1], running=True)
    assert [type(action) for action in unseen.decided()] == [Send]
    for now in (0.0, GRACE / 2):
        unseen.turn(now)
        assert not abandoned(unseen.pool)
    unseen.turn(GRACE)
    (report,) = abandoned(unseen.pool)
    assert report.pid is None
    assert len(report.calls) == 1
    assert unseen.turn(10.0) == []
    assert not abandoned(unseen.pool)


def abandoned(pool: Pool) -> list[Any]:
    return pool.actions.tally.take_events(0.0, {"CallsAbandoned"})


@pytest.mark.parametrize("seconds", [0.01, 1.0, 100.0])
def test_nothing_is_recalled_from_it(seconds: float) -> None:
    unseen = Unseen(max_workers=2)
    batch = unseen.submit(2 * SLOTS + 1)
    assert unseen.sent(1)
    rest = unseen.sent(2)
    unseen.pool.results(2, [(call, messages.VALUE, 0, None) for call in rest], [], 0.0)
    unseen.decided()
    assert unseen.turn(seconds) == []
    assert unseen.sent(1)
    assert batch.remaining == len(unseen.sent(1))


def test_what_it_gives_back_at_shutdown_has_not_started() -> None:
    unseen = Unseen()
    batch = unseen.submit(MOST + 1)
    unseen.pool.shutdown(cancel_unstarted=True)
    asked = [action.message for action in unseen.decided() if isinstance(action, Send)]
    assert [type(message) for message in asked] == [messages.Recall]
    unseen.pool.recalled(1, [batch.first + 3, batch.first + 2])
    unseen.decided()
    assert unseen.sink.statuses() == [messages.CANCELLED] * 3
    assert unseen.sent(1) == [batch.first, batch.first + 1]

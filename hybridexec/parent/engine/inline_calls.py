"""Inline calls: sent by the caller's own thread, and answered to the thread that waits for them.

A call that comes while there is no other is sent by its caller if the I/O thread sleeps; then the
thread that waits for it reads the answer. Who reads when is :mod:`.leader`'s state.

Thread: callers' threads, but for :meth:`InlineCalls.watch`.
Guarantees: one thread at a time uses the pool and the supervisor; an inline call overtakes no
other; its outcome is delivered once, and if nobody leads, by the I/O thread.

Why it is right:

- *The turn* is a lock. Whoever uses the pool or the supervisor holds it: the I/O thread, except
  while it waits in poll or delivers outcomes; a caller that sends or reads. Nothing that is done
  in a turn blocks, so nobody waits for it for long. Only ``with`` takes it: between a call of
  ``acquire`` and the ``try`` that ends the turn, Ctrl-C could come. Outcomes are delivered after a
  turn, because callbacks may submit calls.
- *Who may send*: a caller that gets the turn, and does not hold it already in what was interrupted,
  while the I/O thread is asleep, nothing is queued, and no call is unfinished. Asleep, that thread
  has delivered and handled all that it took, and whatever wakes it up, it waits for the turn. So
  the pool is at rest, and there is no call that could be overtaken. Calls queued concurrently are
  unordered with this one; calls that this thread queued earlier are seen by the check whether
  anything is queued, so program order holds.
- *Nobody sleeps too long.* The I/O thread decides how long it sleeps before the call comes, and
  knows nothing of the call's deadline, for one. So callers may send only while it is *watching*: it
  has no other time to wake up at, but wakes up a few times a second, and decides anew. It watches
  until a second after the last sign of life, and while some worker is led. In an executor that is
  idle for longer nothing wakes up at all, and the next call goes through the queue.
- *Callbacks are the I/O thread's.* The leader may hold a lock that a callback wants. If somebody
  has added one, the leader leaves what it has read to that thread
  (:meth:`.future.CallFuture.deliver_here`).
- *A leader does not sleep* if it can expect the outcome sooner than it could be woken: if this call
  followed the last outcome within 0.1 ms. It looks for as long at most, and gives the GIL away with
  each look. After a look in vain it sleeps for the next ones, the longer the more often that was
  so: short calls cost a few slow ones, long calls next to nothing, and a worker that needs this
  processor a fiftieth of it.
- *A leader that is interrupted* by Ctrl-C reads what has come on its way out. If another Ctrl-C
  hits it there, the I/O thread finds that its time is up. In the midst of a turn, Ctrl-C may leave
  half of an event's work undone: so it breaks the executor, if a call is unfinished by then. No
  other call can suffer from that, for there is none. This one ends in any case: whatever became of
  its outcome, the I/O thread ends it once more, which is nothing to a future that has ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ... import native
from ...errors import ExecutorBroken
from ...options import usable_cpus
from ..pool.call_frames import call_frame
from ..pool.pool import Phase, Pool
from ..work.batch import Batch, Delivery
from ..work.future import CallFuture
from . import coalescing
from .entry_queue import EntryQueue
from .supervisor import Supervisor

#: How long, in seconds, the I/O thread goes on looking up after the last sign of life.
_WATCH_SECONDS = 1.0
#: How long, in seconds, a leader reads at most. Whatever else could end its wait is noticed after
#: that.
_LEAD_SECONDS = 0.002
#: If an inline call is sent within so many seconds of the outcome of the one before it, its own is
#: looked for without sleeping, until it has been under way for so many: to be woken on a processor
#: that has gone idle takes as long as everything else together.
_BRISK_SECONDS = 0.0001
#: If it was not there by then, nobody looks so for a while, because the worker may have waited for
#: this very processor: at first for 0.1 ms, then for four times as long each time, and for so many
#: seconds at most. Each look that was not in vain halves that.
_CALM_SECONDS = 0.005


class InlineCalls:
    """What callers' threads do in place of the I/O thread."""

    def __init__(self, pool: Pool, supervisor: Supervisor, turning: Any, queue: EntryQueue) -> None:
        """
        Args:
            turning: the lock that is held by whoever has to do with the pool and the supervisor.
            queue: the I/O thread's.
        """
        self._pool = pool
        self._ledger = pool.ledger
        self._supervisor = supervisor
        self._leader = supervisor.leader
        self._turning = turning
        self._queue = queue
        #: Whether the I/O thread looks up now and then, so that callers may send.
        self.watching = False
        #: When there was a sign of life: something woke the I/O thread, or a caller sent a call.
        self.active_at = 0.0
        # The id of the call that was sent last, and the worker that has it.
        self._sent = (0, 0)
        # When a leader read an outcome, and whether the next is to be looked for without sleeping:
        # not before _calm_until, and after a look in vain not for _calm seconds.
        self._read_at = 0.0
        self._brisk = False
        self._calm_until = 0.0 if usable_cpus() > 1 else math.inf
        self._calm = _BRISK_SECONDS
        self._new_poll = native.original("select", "poll")
        # A descriptor and what waits for it; None while a leader has that.
        self._polled: tuple[int, Any] | None = None

    def watch(self, now: float, idle: bool) -> bool:
        """The I/O thread is about to sleep, ``idle`` if no time is set for it to wake up: whether
        it is to look up now and then."""
        self.watching = idle and (self._leader.led or now < self.active_at + _WATCH_SECONDS)
        return self.watching

    def send(self, call: CallFuture[Any]) -> bool:
        """Send a call from its caller's own thread; whether that was possible."""
        queue, turning = self._queue, self._turning
        if self._ledger.unfinished or queue.submitted or queue.events:
            return False
        if not queue.asleep or turning._is_owned():
            return False
        with turning:
            # It may have been watching a moment ago, and be awake now, or sleep without an end.
            if not (queue.asleep and self.watching):
                return False
            worker = self._pool.receiver()
            if worker is None:
                return False
            try:
                batch = coalescing.alone(call)
                self._ledger.enter(batch)  # first: who is interrupted knows that there is a call
                connection = self._supervisor.connections[worker.id]
                connection.write(*call_frame(worker, batch))
                connection.flush()
                # What is left to do is done while the worker wakes up.
                now = native.monotonic()
                self._pool.sent_inline(batch, worker, now)
                self._brisk = self._calm_until < now < self._read_at + _BRISK_SECONDS
                self.active_at = now
                self._sent = (batch.first, worker.id)
            except BaseException:
                self.interrupted()
                if call.batch is not None:
                    if self._ledger.unfinished and call.batch.first not in worker.in_flight:
                        worker.in_flight.add(call.batch, 0, 1)  # it may be answered
                        call.batch.next = 1
                        call.batch.send(0, 1)
                    queue.post(self._ledger.repair, call.batch, 0, _interruption())
                raise
        return True

    def lead(self, call: CallFuture[Any], timeout: float | None) -> None:
        """If ``call`` is one that its caller sent, wait for its outcome a moment, here on
        the thread that wants it, and deliver it."""
        batch = call.batch
        first, worker = self._sent
        if batch is None or batch.first != first:
            return
        seconds = _LEAD_SECONDS if timeout is None else min(timeout, _LEAD_SECONDS)
        turning = self._turning
        if seconds <= 0 or not self._queue.asleep or turning._is_owned():
            return
        with turning:
            if not (self._queue.asleep and self.watching) or self._ledger.unfinished != 1:
                return
            results_fd = self._leader.begin(worker, seconds)
            if results_fd is None:
                return
            # Taken out: a leader may wake up late, when another has begun, and two cannot share it.
            polled, self._polled = self._polled, None
        try:
            if polled is None or polled[0] != results_fd:
                polled = results_fd, self._new_poll()
                polled[1].register(results_fd, native.Poller.READABLE)
            poll = polled[1].poll
            if not (self._brisk and self._look(poll)):
                poll(seconds * 1000)
            self._polled = polled
        finally:
            # After Ctrl-C, too: what has been read by now would reach nobody else.
            self._receive(batch)

    def follow(self, call: CallFuture[Any] | None = None) -> None:
        """Somebody who will not lead wants to hear of the outcome of ``call``, or of any: if that
        may wait for a leader, have the I/O thread read it."""
        first, _ = self._sent
        if first and self._leader.led:
            batch = None if call is None else call.batch
            if call is None or (batch is not None and batch.first == first):
                self._sent = (0, 0)
                self._queue.post(_nothing)

    def _look(self, poll: Callable[[int], Any]) -> bool:
        """Look for the outcome without sleeping, until it is there or should have been."""
        end = self.active_at + _BRISK_SECONDS
        while (now := native.monotonic()) < end:
            if poll(0):
                self._calm = max(self._calm / 2, _BRISK_SECONDS)
                return True
        self._calm_until = now + self._calm
        self._calm = min(4 * self._calm, _CALM_SECONDS)
        return False

    def _receive(self, batch: Batch) -> None:
        """Read what has come, lead no more, and deliver what has ended: the one call of ``batch``,
        if it has."""
        try:
            self._deliver(self._read())
            self._read_at = native.monotonic()
        except BaseException:
            self._queue.post(self._ledger.repair, batch, 0, _interruption())
            raise

    def _read(self) -> list[Delivery]:
        """A leader's turn: read results, if there is no other call, and lead no more."""
        pool, ledger, leader = self._pool, self._ledger, self._leader
        outcomes: list[Delivery] = []
        with self._turning:
            try:
                if ledger.unfinished == 1:
                    connection = leader.connection
                    if leader.worker is not None and connection is not None:
                        self._supervisor.receive(leader.worker, connection)
                    outcomes = ledger.take_outcomes()
                if pool.actions.decided:
                    self._supervisor.act()
                at_rest = not ledger.unfinished and pool.phase is Phase.RUNNING
                if self._queue.asleep and at_rest:
                    leader.rest()
                else:
                    leader.give_back()
                    self._queue.post(_nothing)  # to see to what this has made possible
            except BaseException:
                leader.rest()
                self.interrupted()
                raise
        return outcomes

    def _deliver(self, outcomes: list[Delivery]) -> None:
        """Deliver what a leader may, and leave the rest to the I/O thread."""
        left: list[Delivery] = []
        for sink, ended in outcomes:
            rest = sink.deliver_here(ended) if isinstance(sink, CallFuture) else ended
            if rest is not None:
                left.append((sink, rest))
        if left:
            self._queue.post(self._ledger.deliver_later, left)

    def interrupted(self) -> None:
        """Ctrl-C has hit a caller in the midst of a turn."""
        if self._ledger.unfinished:
            self._queue.post(self._pool.fail, _interruption())


def _interruption() -> ExecutorBroken:
    return ExecutorBroken("interrupted while it handled a call")


def _nothing() -> None:
    """An event that only has the I/O thread take a turn."""

"""Inline calls: sent by the caller's own thread, and answered to the thread that waits for them.

A call that comes while there is no other is sent by its caller if the I/O thread sleeps; then the
thread that waits for it reads the answer. Who reads when is :mod:`.leader`'s state.

Thread: callers' threads; :meth:`InlineCalls.watch` on the I/O thread.
Guarantees: one thread at a time uses the pool and the supervisor; an inline call overtakes no
other; its outcome is delivered once, and if nobody leads, by the I/O thread.

Why it is right:

- *The turn* is a lock. Whoever uses the pool or the supervisor holds it: the I/O thread, except
  while it waits in poll or delivers outcomes; a caller that sends or reads. Nothing that is done
  in a turn blocks, so nobody waits for it for long. Only ``with`` takes it: between a call of
  ``acquire`` and the ``try`` that ends the turn, Ctrl-C could come. Outcomes are delivered after a
  turn, because callbacks may submit calls.
- *Who may send*: a caller that gets the turn (and is no signal handler or finalizer that has
  interrupted the holder), while the I/O thread is asleep, nothing is queued, and no call is
  unfinished. When the I/O thread is asleep, it has delivered and handled all that it took, and when
  something wakes it, it waits for the turn. So the pool is at rest, and there is no call to
  overtake. Calls queued concurrently are unordered with this one; calls that this thread queued
  earlier are seen by the emptiness check, so program order holds.
- *The I/O thread never sleeps past a deadline.* It chose its timeout before the inline call came,
  so it does not know of that call's deadline, for instance. So callers may send only while it is
  *watching*: nothing is due, but it wakes up a few times a second and chooses its timeout anew. It
  watches until a second after the last activity, and while some worker is led. An executor that is
  idle for longer does not wake up at all, and its next call goes through the queue.
- *Callbacks run on the I/O thread.* The leader may hold a lock that a callback wants. If a callback
  was added, the leader leaves the outcome to the I/O thread
  (:meth:`.future.CallFuture.deliver_here`).
- *A leader spins* instead of sleeping if it can expect the outcome sooner than it could be woken:
  if this call followed the last outcome within 0.1 ms. It spins for that long at most, and releases
  the GIL with each poll. After spinning in vain, leaders sleep for a while, the longer the more
  often that was in vain. So short calls cost a few slow polls, long calls next to nothing, and a
  worker that needs this processor loses a fiftieth of it.
- *A leader that is interrupted* by Ctrl-C reads what has come on its way out. If another Ctrl-C
  interrupts that, the I/O thread finds that the leader's time is up. Ctrl-C in the midst of a turn
  may leave an event half handled: so it breaks the executor, if a call is unfinished by then. No
  other call is affected, because there is none. This one ends in any case: whatever became of its
  outcome, the I/O thread ends it once more, which has no effect on a future that has ended.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from ... import native
from ...checks import usable_cpus
from ...errors import ExecutorBroken
from ..pool.call_frames import call_frame
from ..pool.pool import Phase, Pool
from ..work.batch import Batch, Delivery
from ..work.future import CallFuture
from . import coalescing
from .entry_queue import EntryQueue
from .supervisor import Supervisor

#: How long, in seconds, the I/O thread goes on watching after the last activity.
_WATCH_SECONDS = 1.0
#: How long, in seconds, a leader leads at most; what else may end its wait is noticed after that.
_LEAD_SECONDS = 0.002
#: If an inline call is sent within so many seconds of the previous one's outcome, its leader spins,
#: until the call has been under way for so many seconds: to be woken on a processor that has gone
#: idle takes as long as everything else together.
_SPIN_SECONDS = 0.0001
#: After spinning in vain, no leader spins for a while, because the worker may have been waiting for
#: this very processor: at first for 0.1 ms, then for four times as long each time, up to this many
#: seconds. Each success halves it.
_MAX_PAUSE_SECONDS = 0.005


class InlineCalls:
    """What callers' threads do in place of the I/O thread."""

    def __init__(self, pool: Pool, supervisor: Supervisor, turning: Any, queue: EntryQueue) -> None:
        """
        Args:
            turning: the turn, as a lock.
            queue: the I/O thread's.
        """
        self._pool = pool
        self._ledger = pool.ledger
        self._supervisor = supervisor
        self._leader = supervisor.leader
        self._turning = turning
        self._queue = queue
        #: Whether the I/O thread wakes up now and then, so that callers may send.
        self.watching = False
        #: Time of the last activity: something woke the I/O thread, or a caller sent a call.
        self.active_at = 0.0
        # The id of the last call that was sent inline, and its worker.
        self._sent = (0, 0)
        # When a leader last read an outcome; whether the next leader is to spin: not before
        # _pause_until, which spinning in vain sets to _pause seconds later.
        self._read_at = 0.0
        self._spins = False
        self._pause_until = 0.0 if usable_cpus() > 1 else math.inf
        self._pause = _SPIN_SECONDS
        self._new_poll = native.original("select", "poll")
        # A descriptor and the poll object registered for it; None while a leader uses that.
        self._polled: tuple[int, Any] | None = None

    def watch(self, now: float, idle: bool) -> bool:
        """Decide whether the I/O thread, which is about to sleep, is to wake up now and then.

        Args:
            idle: whether nothing is due at any time.
        """
        self.watching = idle and (self._leader.led or now < self.active_at + _WATCH_SECONDS)
        return self.watching

    def send(self, call: CallFuture[Any]) -> bool:
        """Send a call on its caller's thread, if that is possible; returns whether it was."""
        queue, turning = self._queue, self._turning
        if self._ledger.unfinished or queue.submitted or queue.events:
            return False
        if not queue.asleep or turning._is_owned() or call.options.limits is not None:
            return False
        with turning:
            # Check again: the I/O thread may be awake by now, or asleep and not watching.
            if not (queue.asleep and self.watching):
                return False
            worker = self._pool.receiver(call.options.lane)
            if worker is None:
                return False
            try:
                batch = coalescing.alone(call)
                batch.since = native.monotonic()
                # First, so that an interrupted turn has a call to end.
                self._ledger.enter(batch, worker.crew)
                connection = self._supervisor.connections[worker.id]
                connection.write(*call_frame(worker, batch))
                connection.flush()
                # The rest is done while the worker wakes up.
                now = native.monotonic()
                self._pool.sent_inline(batch, worker, now)
                self._spins = self._pause_until < now < self._read_at + _SPIN_SECONDS
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
        """If ``call`` was sent inline, wait for its outcome a moment on the calling thread, which
        waits for it anyway, and deliver it."""
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
            # Taken out: a leader may wake up late, when another has begun; they cannot share it.
            polled, self._polled = self._polled, None
        try:
            if polled is None or polled[0] != results_fd:
                polled = results_fd, self._new_poll()
                polled[1].register(results_fd, native.Poller.READABLE)
            poll = polled[1].poll
            if not (self._spins and self._spin(poll)):
                poll(seconds * 1000)
            self._polled = polled
        finally:
            # After Ctrl-C, too: nobody else reads what has come by now.
            self._receive(batch)

    def follow(self, call: CallFuture[Any] | None = None) -> None:
        """Have the I/O thread read the outcome of ``call``, or of any call, if a leader might:
        somebody wants to hear of it who will not lead."""
        first, _ = self._sent
        if first and self._leader.led:
            batch = None if call is None else call.batch
            if call is None or (batch is not None and batch.first == first):
                self._sent = (0, 0)
                self._queue.nudge()

    def _spin(self, poll: Callable[[int], Any]) -> bool:
        """Spin until the outcome is there or should have been; returns whether it is."""
        end = self.active_at + _SPIN_SECONDS
        while (now := native.monotonic()) < end:
            if poll(0):
                self._pause = max(self._pause / 2, _SPIN_SECONDS)
                return True
        self._pause_until = now + self._pause
        self._pause = min(4 * self._pause, _MAX_PAUSE_SECONDS)
        return False

    def _receive(self, batch: Batch) -> None:
        """End the leading: read what has come, and deliver the outcome of the one call of
        ``batch``, if it has ended."""
        try:
            self._deliver(self._read())
            self._read_at = native.monotonic()
        except BaseException:
            self._queue.post(self._ledger.repair, batch, 0, _interruption())
            raise

    def _read(self) -> list[Delivery]:
        """A leader's turn: read results, unless there are other calls, and lead no more."""
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
                    self._queue.nudge()  # wake it to act on what has changed
            except BaseException:
                leader.rest()
                self.interrupted()
                raise
        return outcomes

    def _deliver(self, outcomes: list[Delivery]) -> None:
        """Deliver the outcomes that a leader may, and leave the others to the I/O thread."""
        left: list[Delivery] = []
        for sink, ended in outcomes:
            if isinstance(sink, CallFuture):
                rest = sink.deliver_here(ended)  # type: ignore[arg-type]  # its call yields nothing
                if rest is not None:
                    left.append((sink, rest))
            else:
                left.append((sink, ended))
        if left:
            self._queue.post(self._ledger.deliver_later, left)

    def interrupted(self) -> None:
        """Ctrl-C has interrupted a caller in the midst of a turn: break the pool if a call is
        unfinished."""
        if self._ledger.unfinished:
            self._queue.post(self._pool.fail, _interruption())


def _interruption() -> ExecutorBroken:
    return ExecutorBroken("interrupted while it handled a call")

"""Lone calls: sent by their caller's own thread, and read by the one that waits for them.

A program that waits for each call would wake the I/O thread twice a call for nothing. So a call
that comes while there is no other is sent by its caller if the I/O thread sleeps, and whoever waits
for it leads for a moment: it reads the worker's results itself.

Runs on: callers' threads, but for :meth:`InlineCalls.watch`.
Guarantees: one thread at a time has to do with the pool and the supervisor; a lone call overtakes
no other; its outcome is delivered once, and if nobody leads, by the I/O thread.

Why it is right:

- *The turn* is a lock. Whoever has to do with the pool and the supervisor holds it: the I/O thread
  takes it whenever poll has returned, a caller if that thread is asleep, or to read. Nobody waits
  for it for long: nothing that is done in a turn blocks. Only ``with`` takes it: were it a call of
  ``acquire``, Ctrl-C could come between that and the ``try`` that ends the turn. Outcomes are
  delivered after a turn, never in it, because callbacks may submit calls.
- *Who may send*: a caller who gets the turn, and does not have it already in what was interrupted,
  while the I/O thread is asleep, with nothing queued and no call unfinished. Asleep, that thread
  has delivered and handled all that it took, and whatever wakes it, it waits for the turn. So the
  pool is at rest, and no call is there that could be overtaken. What other threads queue meanwhile
  comes neither before nor after; what this one queued before, it finds.
- *Nobody sleeps too long.* How long it sleeps, the I/O thread has decided before the call came: it
  knows nothing of the call's deadline, for one. That is why callers may send only while it is
  watching: it has no other time to wake up then, but looks up now and then, and decides anew. It
  does so until a while after the last sign of life, and as long as somebody leads. In an executor
  that is idle for longer, nothing wakes up at all, and the next call goes the usual way.
- *Who may lead*: the waiter of the call that was sent so, if that is still the only one and the I/O
  thread watches in its sleep. Awake, it may have the outcome in hand. From then on the supervisor
  leaves that worker's results to leaders, who wait for them without the turn, so that others get
  theirs. If calls have come meanwhile, a leader reads nothing.
- *Nothing is left unread.* Whenever it wakes up, the I/O thread reads the led worker's results
  again, unless somebody leads just then; poll tells it of everything that has come. A leader has it
  read them if it is awake in the end, because it may have found somebody leading, and send that
  worker a call next; and if anything is unfinished, for which it wakes up. Otherwise it sleeps on,
  and need not be told of the next call, which will have a waiter, too, most likely. If it has none,
  but somebody looks whether it is done, or has a callback added, that wakes the I/O thread
  (:meth:`InlineCalls.follow`); and if nobody is interested, it looks up soon.
- *Callbacks are the I/O thread's.* The leader may hold a lock that one wants. If somebody has had
  one added, it leads no more, or leaves what it has read to that thread
  (:meth:`.future.CallFuture.deliver_here`).
- *A leader does not sleep* if it can expect the outcome sooner than it could be woken: the last one
  was followed by this call within 0.1 ms. It gives the GIL away with each look, and looks for as
  long at most. If it was in vain, it sleeps for the next ones, the longer the more often that was
  so: short calls cost a few slow ones, long calls next to nothing, and a worker that needs this
  processor a fiftieth of it.
- *A leader that is interrupted* by Ctrl-C reads what has come on its way out. If another Ctrl-C
  hits it there, the I/O thread finds that its time is up
  (:meth:`.supervisor.Supervisor.check_leader`).
- *A worker that dies* is the I/O thread's matter as ever: nobody else waits for its end.
- *A caller that is interrupted in its turn* may leave the pool at odds with itself. It fails, then.
  No other call can suffer from that, for there is none. This one ends in any case: whatever became
  of its outcome, the I/O thread ends it once more, which is nothing to a future that has ended.
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
#: If a lone call is sent within so many seconds of the outcome of the one before it, its own is
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
        self._turning = turning
        self._queue = queue
        #: Whether the I/O thread looks up now and then, so that callers may send.
        self.watching = False
        #: When there was a sign of life: something woke the I/O thread, or a caller sent a call.
        self.active_at = 0.0
        # The id of the call that its caller sent last, and the worker that has it.
        self._expressed = (0, 0)
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
        self.watching = idle and (now < self.active_at + _WATCH_SECONDS or self._supervisor.led)
        return self.watching

    def express(self, call: CallFuture[Any]) -> bool:
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
                self._pool.expressed(batch, worker, now)
                self._brisk = self._calm_until < now < self._read_at + _BRISK_SECONDS
                self.active_at = now
                self._expressed = (batch.first, worker.id)
            except BaseException:
                self.interrupted()
                if call.batch is not None:
                    if self._ledger.unfinished and call.batch.first not in worker.in_flight:
                        worker.in_flight.add(call.batch, 0, 1)  # it may be answered
                        call.batch.next = 1
                    queue.post(self._ledger.repair, call.batch, 0, _interruption())
                raise
        return True

    def lead(self, call: CallFuture[Any], timeout: float | None) -> None:
        """If ``call`` is a lone one that its caller sent, wait for its outcome a moment, here on
        the thread that wants it, and deliver it."""
        batch = call.batch
        first, worker = self._expressed
        if batch is None or batch.first != first:
            return
        seconds = _LEAD_SECONDS if timeout is None else min(timeout, _LEAD_SECONDS)
        turning = self._turning
        if seconds <= 0 or not self._queue.asleep or turning._is_owned():
            return
        with turning:
            if not (self._queue.asleep and self.watching) or self._ledger.unfinished != 1:
                return
            results_fd = self._supervisor.lead(worker, seconds)
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
        first, _ = self._expressed
        if first and self._supervisor.led:
            batch = None if call is None else call.batch
            if call is None or (batch is not None and batch.first == first):
                self._expressed = (0, 0)
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
        pool, ledger = self._pool, self._ledger
        outcomes: list[Delivery] = []
        try:
            with self._turning:
                try:
                    alone = ledger.unfinished == 1
                    if alone:
                        self._supervisor.receive_led()
                        outcomes = ledger.take_outcomes()
                    if pool.actions.decided:
                        self._supervisor.act()
                    asleep = self._queue.asleep
                    if not asleep or ledger.unfinished or pool.phase is not Phase.RUNNING:
                        # The I/O thread sees to what this has made possible. Awake, it may have
                        # found somebody leading, and be about to send that worker a call.
                        self._supervisor.follow()
                        self._queue.post(_nothing)
                    else:
                        self._supervisor.rest()
                except BaseException:
                    self._supervisor.rest()
                    self.interrupted()
                    raise
            left: list[Delivery] = []
            for sink, ended in outcomes:
                rest = sink.deliver_here(ended) if isinstance(sink, CallFuture) else ended
                if rest is not None:
                    left.append((sink, rest))
            if left:
                self._queue.post(ledger.deliver_later, left)
            self._read_at = native.monotonic()
        except BaseException:
            self._queue.post(ledger.repair, batch, 0, _interruption())
            raise

    def interrupted(self) -> None:
        """Ctrl-C has hit a caller in the midst of a turn."""
        if self._ledger.unfinished:
            self._queue.post(self._pool.fail, _interruption())


def _interruption() -> ExecutorBroken:
    return ExecutorBroken("interrupted while it handled a call")


def _nothing() -> None:
    """An event that only has the I/O thread take a turn."""

"""The I/O thread's turns: it waits, handles what has come, decides, acts and delivers.

Thread: the I/O thread, except for the first turn where workers are forked.
Guarantees: while it waits or delivers outcomes, others may have the turn; it waits no longer than
until something is due.
"""

from __future__ import annotations

from typing import Any

from ... import native
from ...errors import ExecutorBroken
from ..pool.pool import Pool
from .delivery import Deliverer
from .entry_queue import EntryQueue
from .inline_calls import InlineCalls
from .listeners import Listeners
from .sampler import Sampler
from .supervisor import Supervisor

#: How often, in seconds, the I/O thread wakes up while callers may send inline calls.
_WATCH_TICK = 0.25


class Turns:
    """One engine's."""

    def __init__(
        self,
        pool: Pool,
        supervisor: Supervisor,
        queue: EntryQueue,
        inline: InlineCalls,
        turning: Any,
        tell: Deliverer,
        listeners: Listeners,
        sampler: Sampler,
    ) -> None:
        """
        Args:
            turning: the turn, as a lock.
        """
        self._pool = pool
        self._ledger = pool.ledger
        self._supervisor = supervisor
        self._queue = queue
        self._inline = inline
        self._turning = turning
        self._tell = tell
        self._listeners = listeners
        self._sampler = sampler
        self._tick_at: float | None = None  # when the pool's next tick is due

    def wait(self, poller: native.Poller) -> None:
        """Wait until there is something to do, or it is time to, and take a turn."""
        self._supervisor.start_left()
        queue = self._queue
        with self._turning:
            now = native.monotonic()
            timeout = self._plan(now, poller.live)
            queue.asleep = True
        ready = poller.wait(0 if queue.submitted or queue.events else timeout)
        queue.asleep = False
        with self._turning:
            if ready:
                self._inline.active_at = now
            self._supervisor.leader.awake(now)
            for fd, _ in ready:
                if fd == queue.fd:
                    queue.awake()
                else:
                    self._supervisor.handle(fd)
            # If nothing is to be sent, outcomes are delivered first.
            busy = self._pool.pending or queue.submitted
            outcomes = [] if busy else self._ledger.take_outcomes()
        self._tell.outcomes(outcomes)
        self.take()

    def _plan(self, now: float, live: bool) -> float | None:
        """Seconds to sleep at most; None if only events matter."""
        timeout = self._pool.wait_seconds(now)
        self._tick_at = None if timeout is None else now + timeout
        watching = self._inline.watch(now, timeout is None and live)
        if watching or (self._supervisor.leader.led and (timeout or 0.0) > _WATCH_TICK):
            timeout = _WATCH_TICK
        look = self._supervisor.look_seconds(now)
        sample = self._sampler.seconds(now, self._ledger.unfinished)
        rest = self._pool.rest_seconds(now)
        return min((s for s in (timeout, look, sample, rest) if s is not None), default=None)

    def take(self) -> None:
        """Handle events, decide, act, deliver."""
        pool = self._pool
        with self._turning:
            self._queue.handle(pool)
            now = native.monotonic()
            if self._tick_at is not None and now >= self._tick_at:
                pool.tick(now)
            self._supervisor.look(now)
            self._sampler.look(now)
            pool.dispatch(now)
            self._supervisor.act()
            outcomes = self._ledger.take_outcomes()
            events = self._listeners.take(now)
        self._tell.outcomes(outcomes)
        self._tell.events(events)

    def abort(self, error: BaseException) -> None:
        """After an internal fault, end every call with it, so that none waits for ever."""
        broken = ExecutorBroken(f"hybridexec's I/O thread failed: {error!r}")
        broken.__cause__ = error
        self._pool.abort(broken)
        self._tell.outcomes(self._ledger.take_outcomes())
        self._tell.events(self._listeners.take(native.monotonic()))

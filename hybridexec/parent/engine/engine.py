"""The engine: its I/O thread carries out what the pool decides, and reports events to it.

Callers' threads put calls and events into a queue, which wakes the I/O thread::

    submit, cancel, shutdown ──▶ queue ────┐
    result pipes, sentinels, deadlines ────┴▶ Pool ──▶ actions: frames, starts, signals, outcomes

Thread: methods under "on the I/O thread" on that thread only, except for the first turn where
workers are forked; the others on any thread.
Guarantees: the I/O thread is a native one and waits with the system's own poll, so that a gevent
parent neither needs a hub for it nor has one blocked by it; it never blocks on a worker; it ends
when the engine has been shut down and no call or process is left.

The *turn* is the right to use the pool and the supervisor, and a lock. The I/O thread holds it
except while it polls or delivers outcomes (:mod:`.turns`); callers take it for inline calls
(:mod:`.inline_calls`). Whoever has it is the *turn holder*.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable
from typing import Any

from ... import native
from ...errors import ExecutorBroken
from .. import lifecycle
from ..pool.pool import Pool
from ..pool.watchdog import Watchdog
from ..work.batch import Batch
from ..work.callbacks import Callbacks
from ..work.function import Functions
from ..work.future import CallFuture
from . import coalescing
from .companion import Companion
from .consumers import Consumers
from .delivery import Deliverer, Told
from .entry_queue import EntryQueue
from .gevent_parent import Hubs
from .inline_calls import InlineCalls
from .io_thread import IoThread
from .link import Launcher
from .listeners import Listeners
from .observers import Observers
from .sampler import Sampler
from .snapshot import Snapshot
from .supervisor import Supervisor
from .turns import Turns

_logger = logging.getLogger("hybridexec")
#: Why submit refuses, in the standard library's words.
_SHUT_DOWN = "cannot schedule new futures after shutdown"


class Engine:
    """A pool of workers with its I/O thread, which the first call starts."""

    def __init__(self, pool: Pool, launcher: Launcher, watchdog: Watchdog | None = None) -> None:
        self._pool = pool
        self._ledger = pool.ledger  # read at each submit
        self._launcher = launcher
        self._queue = EntryQueue()
        self._hubs = Hubs() if native.is_patched("threading") else None
        self._tell = Deliverer(self._hubs, launcher.worker_logs)
        self._supervisor = Supervisor(pool, launcher, self._queue, watchdog, self._tell.logs)
        self.snapshot: Snapshot = Snapshot(pool, self._supervisor, self._queue)
        self.is_running, self.running_calls = self.snapshot.is_running, self.snapshot.running_calls
        self.functions = Functions()
        # Native, because holders neither block nor switch greenlets. Reentrant, because a finalizer
        # or signal handler that shuts the executor down may interrupt a holder on its own thread.
        self._lock = native.new_lock()
        # The turn. Reentrant only so that it knows its owner: nobody takes it twice.
        self._turning = native.new_lock()
        self._inline = InlineCalls(pool, self._supervisor, self._turning, self._queue)
        self.lead, self.follow = self._inline.lead, self._inline.follow  # see there
        #: Why submit must refuse, if it must. Guarded by _lock.
        self.closed: str | None = None
        self._running = False  # the I/O thread was started, or is about to be
        self._io = IoThread(self._run, self._give_up)
        #: Whether this process is a fork of the one that made the engine.
        self.inert = False
        self.listeners = Listeners(pool, self._turning, self._io.is_current)
        self.observers = Observers(self.listeners, self.wait_for)
        #: Asks where calls are, see there; not on the I/O thread.
        self.stacks = self._supervisor.stacks.ask
        self.sampler = Sampler(self.snapshot, self._turning)
        self._turns = Turns(
            pool,
            self._supervisor,
            self._queue,
            self._inline,
            self._turning,
            self._tell,
            self.listeners,
            self.sampler,
        )
        #: Who is told that the engine starts and ends, if anybody is.
        self.companion: Companion | None = None
        self.callbacks = Callbacks(self._io.is_current)
        #: Those of streaming calls.
        self.consumers = Consumers()
        self.ended = threading.Event()
        #: Whether threads that wait may block; in a gevent-patched process they may not.
        self.blocking_waits = self._hubs is None

    # -- on any thread ------------------------------------------------------------------------

    def submit(self, calls: Batch | CallFuture[Any]) -> None:
        """Queue new calls; a single one is sent inline, if possible.

        Raises:
            RuntimeError: the engine was shut down, or belongs to the parent of this process.
            ExecutorBroken: no call can run any more.
        """
        queued = False
        try:
            if self.closed is not None or self._ledger.broken_because is not None or self.inert:
                self.check_open()
            if self._hubs is not None:
                self._hubs.hold()
            inline = self._inline
            if inline.watching and isinstance(calls, CallFuture) and inline.send(calls):
                return
            if self._running:
                # Without the lock, which takes longer than all of this.
                queued = True
                self._queue.submit(calls)
                if self.closed is not None and self._queue.has_missed(calls):
                    self.check_open()  # closed meanwhile
                return
            with self._lock:
                self.check_open()
                if not self._running:
                    self._open()
                queued = True
                self._queue.submit(calls)
                if not self._running:
                    self._start()
        except BaseException:
            if queued:  # The caller gets no future, so the calls must not run.
                self._queue.post(coalescing.withdraw, self._pool, calls)
            raise

    def start_workers(self, count: int, lane: str) -> None:
        """Start ``count`` more workers of a lane, up to the limit, though there are no calls for
        them yet."""
        with self._lock:
            self.check_open()
            self._queue.post(self._pool.want, count, lane)
            if not self._running:
                self._open()
                if self._hubs is not None:
                    self._hubs.hold()
                self._start()

    def resize(self, max_workers: int) -> None:
        """See :meth:`Pool.resize`."""
        self._queue.post(self._pool.resize, max_workers)

    def leave(self, numbers: Iterable[int], max_workers: int) -> None:
        """See :meth:`Pool.leave`."""
        self._queue.post(self._pool.leave, numbers, max_workers)

    def happen(self, name: str, *fields: object) -> None:
        """See :meth:`.Tally.happen`."""
        self._queue.post(self._pool.actions.tally.happen, name, *fields)

    def check_open(self) -> None:
        """Raise what :meth:`submit` would."""
        if self.inert:
            raise RuntimeError(
                "this HybridExecutor was made before os.fork() and belongs to the parent process; "
                "make one in this process"
            )
        if self.broken is not None:
            raise ExecutorBroken(*self.broken.args) from self.broken.__cause__
        if self.closed is not None:
            raise RuntimeError(self.closed)

    def cancel(self, batch: Batch, places: Iterable[int] | None, running: bool) -> None:
        """See :meth:`Pool.cancel`."""
        self._queue.post(self._pool.cancel, batch, places, running)

    def tell_fetched(self, batch: Batch, count: int) -> None:
        """See :meth:`Pool.fetched`."""
        self._queue.post(self._pool.fetched, batch, count)

    def cancel_call(self, call: CallFuture[Any]) -> None:
        """Cancel a call whose future has been cancelled."""
        self._queue.post(coalescing.cancel, self._pool, call)

    def cancel_all(self) -> None:
        """Cancel all calls, running ones too; return when their outcomes have been delivered,
        unless that cannot happen before this returns."""
        if not self._running:
            return  # there is no call yet
        told = threading.Event()
        self._queue.post(self._pool.cancel_all, Told(told))
        self.wait_for(told, None)

    def shutdown(self, cancel_unstarted: bool, why: str = _SHUT_DOWN) -> None:
        """Refuse new calls, finish those there are (or only the started ones), and end."""
        with self._lock:
            self.closed = self.closed or why
            if not self._running:
                self._close_unstarted()
        self._queue.post(self._pool.shutdown, cancel_unstarted)

    def abandon(self) -> None:
        """Shut down because nobody is left who could submit. Safe in a finalizer, which may
        interrupt a holder of the lock on its own thread."""
        self.closed = _SHUT_DOWN
        if not self._running:
            self._close_unstarted()
        self._queue.post(self._pool.shutdown, False)

    def _close_unstarted(self) -> None:
        self._launcher.close()
        self._queue.close()  # a start of the I/O thread may have failed
        lifecycle.unregister(self)
        self._end()

    def kill(self, signal_number: int) -> None:
        """Signal every worker, now."""
        self._queue.post(self._pool.kill, signal_number)

    def stop(self) -> None:
        """Refuse new calls, cancel all there are, running ones too, and end."""
        # Assume that it sleeps: whoever was interrupted may not have woken it.
        self._queue.asleep = True
        self.shutdown(True)
        self._queue.post(self._pool.stop)

    def join(self, seconds: float | None = None) -> None:
        """Wait until the engine has ended, for ``seconds`` at most.

        Returns at once where it cannot end before this returns: on the I/O thread, in a finalizer
        or signal handler that has interrupted a holder of its locks, and in a forked process.
        """
        begun = self._running  # else it ends in shutdown()
        self.consumers.leave()
        if not begun or (self._can_wait() and native.wait(self.ended.wait, seconds)):
            self.observers.join(seconds)

    def _can_wait(self) -> bool:
        """Whether a caller may wait for what the I/O thread does."""
        if self.inert or not self._running or self._io.is_current() or self._tell.is_logging():
            return False
        if self._lock._is_owned() or self._turning._is_owned():
            return False
        if self._hubs is not None:
            self._hubs.hold()
        return True

    def wait_for(self, told: threading.Event, seconds: float | None) -> bool:
        """Wait for what the I/O thread is about to tell, for ``seconds`` at most; not where that
        cannot happen before this returns. Whether it has told it, or will."""
        self._queue.nudge()
        if self._can_wait():
            native.wait(lambda left: told.wait(left) or self.ended.is_set(), seconds)
        tells = self._running and not self.inert and not self.ended.is_set()
        return tells or told.is_set()

    def unfinished(self) -> int:
        """How many calls have not ended; exact, unlike the snapshot's."""
        with self._turning:
            return self.snapshot.unfinished

    @property
    def broken(self) -> BaseException | None:
        """Why no call can run any more; None if they can."""
        return self._ledger.broken_because

    def on_own_thread(self) -> bool:
        """Whether the caller is a callback: no outcome is delivered before it returns."""
        return self._io.is_current() or (self._hubs is not None and self._hubs.is_caller())

    def become_inert(self) -> None:
        """Do nothing any more: this process is a fork, and the workers are its parent's."""
        self.inert = True
        if self.companion is not None:
            self.companion.let_go()
        self._inline.watching = False  # there is no I/O thread here
        # These may have been held.
        self._lock = native.new_lock()
        if not self._turning._is_owned():
            self._turning._at_fork_reinit()
        self.observers.become_inert()
        self._queue.become_inert()
        self.snapshot.become_inert()
        self._launcher.become_inert()
        self._poller.close()

    def _open(self) -> None:
        """Open what the I/O thread needs, before anything is queued for it: this may fail or be
        interrupted, and is then done again for the next call. The lock is held."""
        poller = native.Poller()
        try:
            self._queue.open(poller)
        except BaseException:
            poller.close()
            raise
        self._poller = poller
        self._supervisor.open(poller)
        self.ended.clear()  # a shutdown may have come before the first call
        lifecycle.register(self)

    def _start(self) -> None:
        """Start the I/O thread, even if Ctrl-C interrupts this; the lock is held."""
        self._running = True
        try:
            if self._launcher.method == "fork":
                # On this thread, while the process may still have only one.
                self._turns.take()
        except BaseException:
            self._inline.interrupted()
            raise
        finally:
            self._io.start()
        if self.companion is not None:
            self.companion.begin()

    # -- on the I/O thread --------------------------------------------------------------------

    def _run(self) -> None:
        try:
            while not (self._pool.finished and self._supervisor.empty):
                self._turns.wait(self._poller)
        except BaseException as error:
            _logger.critical("hybridexec's I/O thread failed", exc_info=True)
            self._turns.abort(error)
        finally:
            self._finish()

    def _give_up(self, error: Exception) -> None:
        """The I/O thread cannot be started."""
        self._turns.abort(error)
        self._finish()

    def _finish(self) -> None:
        with self._lock:
            self.closed = self.closed or _SHUT_DOWN
        try:
            while not self._queue.ends():
                self._turns.take()
        finally:  # after a fault, the pool may be inconsistent and raise again
            self.sampler.end()
            self._supervisor.close()
            self._poller.close()
            self._queue.close()
            self._tell.end(self._end)

    def _end(self) -> None:
        """All has been delivered."""
        lifecycle.unregister(self)
        if self.companion is not None:
            self.companion.end()
        self.observers.end()
        self.ended.set()

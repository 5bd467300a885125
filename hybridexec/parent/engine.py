"""The I/O thread: carries out what the pool decides, and tells it what happened.

Callers' threads only append to a deque of events and wake the thread::

    submit, cancel, shutdown ──▶ _events ──┐
    result pipes, sentinels, deadlines ────┴▶ Pool ──▶ actions: frames, starts, signals, outcomes

Runs on: everything under "on the I/O thread" there, and there alone; the rest on any thread.
Guarantees: the thread is a native one and waits with the system's own poll, so that a gevent parent
neither needs a hub here nor blocks one; it never blocks on a worker; it ends when the engine has
been shut down and nothing of it is left.

A program that waits for each call would wake this thread twice a call for nothing. So a lone call
is sent by its caller's own thread if the I/O thread sleeps, and whoever waits for it reads the
worker's results itself for a moment. ``_turning`` makes sure that only one thread at a time has to
do with the pool and the fleet.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from .. import native
from ..errors import ExecutorBroken
from . import bundles, exits
from .batch import Batch, Delivery, deliver
from .fleet import Fleet
from .functions import Functions
from .futures import CallFuture
from .hubs import Hubs
from .launch import Launcher
from .link import Link
from .lookout import Record
from .pool import Phase, Pool
from .watchdog import Watchdog
from .workers import WorkerState

_logger = logging.getLogger("hybridexec")

#: How long, in seconds, the I/O thread goes on looking up after the last sign of life, and how
#: often. In an executor that is idle for longer, nothing wakes up at all.
_WATCH_SECONDS, _WATCH_TICK = 1.0, 0.05
#: How long, in seconds, a lone call's waiter reads the worker's results itself. Whatever else could
#: end its wait is noticed after that.
_LEAD_SECONDS = 0.002
#: Events handled before the pipes are looked at again.
_MAX_EVENTS = 10_000


class Engine:
    """A pool of workers with its I/O thread, which the first call starts."""

    def __init__(self, pool: Pool, launcher: Launcher, watchdog: Watchdog | None = None) -> None:
        self._pool = pool
        self._books = pool.books  # what is read at each submit
        self._fork = launcher.method == "fork"
        self._launcher = launcher
        self._fleet = Fleet(pool, launcher, self._post, watchdog)
        self.functions = Functions()
        # A native lock: holders neither block nor switch greenlets. A reentrant one: a finalizer or
        # a signal handler that shuts the executor down may interrupt a holder on its own thread.
        self._lock = _new_lock()
        # Batches come before events: none comes after a shutdown, or after its own cancellation.
        self._submitted: deque[Batch | CallFuture[Any]] = deque()
        self._events: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        # Held by whoever has to do with the pool and the fleet: the I/O thread, or a caller who
        # sends a lone call, or reads its result, itself. Never while outcomes are delivered.
        # Reentrant only so that it knows its owner: nobody takes it twice.
        self._turning = _new_lock()
        # Guarded by _lock: why submit must refuse, if it must.
        self._closed: str | None = None
        self._running = False
        #: Whether this is a forked process's copy, and of no use.
        self.inert = False
        # Invariant: set only while the I/O thread is, or is about to be, waiting in poll.
        self._asleep = False
        self._wake_read = self._wake_write = -1
        self._tick_at: float | None = None  # when the pool wants to hear that time has passed
        # Whether the thread looks up now and then, so that callers may send lone calls themselves:
        # if one gets stuck, somebody notices.
        self._watching = False
        self._active_at = 0.0  # when something last woke the thread
        # The call that its caller sent itself, as a batch, and the worker that has it.
        self._expressed: tuple[Batch, int] | None = None
        self._poll = native.original("select", "poll")
        self._thread: int | None = None
        self._ended = threading.Event()
        self._hubs = Hubs() if native.is_patched("threading") else None
        #: Whether a thread of this process that waits may block: in a patched one it may not.
        self.blocking_waits = self._hubs is None

    # -- on any thread ------------------------------------------------------------------------

    def submit(self, calls: Batch | CallFuture[Any]) -> None:
        """Take new calls, or one.

        Raises:
            RuntimeError: the engine was shut down, or is a forked process's copy.
            ExecutorBroken: it cannot run calls any more.
        """
        with self._lock:
            if self._closed is not None or self._books.broken_because is not None or self.inert:
                self.check_open()
            if self._hubs is not None:
                self._hubs.hold()
            if self._watching and not self._books.unfinished:
                calls = calls if isinstance(calls, Batch) else bundles.bundle([calls])
                if self._express(calls):
                    return
            self._submitted.append(calls)
            if not self._running:
                self._start()
            self._wake()

    def _express(self, batch: Batch) -> bool:
        """Send a lone call from its caller's own thread; whether that was possible."""
        if self._submitted or self._events or not self._take_turn():
            return False
        try:
            now = time.monotonic()
            worker = self._pool.express(batch, now) if self._asleep else None
            if worker is None:
                return False
            self._active_at = now
            self._expressed = (batch, worker)
            self._fleet.act()
            return True
        except BaseException:
            self._interrupted()
            raise
        finally:
            self._turning.release()

    def _take_turn(self) -> bool:
        """Be the one who has to do with the pool, if nobody is; not even this thread, in what has
        been interrupted."""
        return not self._turning._is_owned() and self._turning.acquire(False)

    def lead(self, call: CallFuture[Any], timeout: float | None) -> None:
        """If ``call`` is a lone one that its caller sent, wait for its outcome a moment, here on
        the thread that wants it, and deliver it."""
        if self._expressed is None or self._expressed[0] is not call.batch:
            return
        seconds = _LEAD_SECONDS if timeout is None else min(timeout, _LEAD_SECONDS)
        if seconds <= 0 or not self._take_turn():
            return
        try:
            # Awake, the I/O thread may have the outcome in hand.
            if not self._asleep or self._books.unfinished != 1:
                return
            worker = self._expressed[1]
            results_fd = self._fleet.lead(worker, seconds)
        finally:
            self._turning.release()
        if results_fd is None:
            return
        try:
            poller = self._poll()
            poller.register(results_fd, native.Poller.READABLE)
            poller.poll(seconds * 1000)
        finally:
            # After Ctrl-C, too: what has been read by now would reach nobody else.
            _deliver(self._receive_led())

    def _receive_led(self) -> list[Delivery]:
        """Read what has come for a lone call, and let the I/O thread read again; what has ended."""
        pool = self._pool
        outcomes: list[Delivery] = []
        with self._turning:
            try:
                if self._books.unfinished == 1:
                    self._fleet.receive_led()
                    outcomes = pool.take_outcomes()
                self._fleet.follow()
                self._fleet.act()
                if pool.pending or pool.retrying or pool.phase is not Phase.RUNNING:
                    self._post(_nothing)  # the I/O thread sees to what this has made possible
            except BaseException:
                self._interrupted()
                raise
        return outcomes

    def _interrupted(self) -> None:
        """Ctrl-C has hit a caller in the midst of a turn: the pool may be at odds with itself.
        No other call can suffer, for there is none."""
        if self._pool.unfinished:
            self._post(self._pool.fail, ExecutorBroken("interrupted while it handled a call"))

    def check_open(self) -> None:
        """Raise what :meth:`submit` would."""
        if self.inert:
            raise RuntimeError(
                "this HybridExecutor was made before os.fork() and belongs to the parent process; "
                "make one in this process"
            )
        if self.broken is not None:
            raise ExecutorBroken(*self.broken.args) from self.broken.__cause__
        if self._closed is not None:
            raise RuntimeError(self._closed)

    def cancel(self, batch: Batch, places: Iterable[int] | None, running: bool) -> None:
        """See :meth:`Pool.cancel`."""
        self._post(self._pool.cancel, batch, places, running)

    def cancel_call(self, call: CallFuture[Any]) -> None:
        """The call is not wanted any more, and its future has been told."""
        self._post(bundles.cancel, self._pool, call)

    def shutdown(
        self,
        cancel_unstarted: bool,
        why: str = "cannot schedule new futures after shutdown",
    ) -> None:
        """Take no more calls, finish those there are (or only the started ones), and end."""
        with self._lock:
            self._closed = self._closed or why
            if not self._running:
                self._launcher.close()
                self._ended.set()
        self._post(self._pool.shutdown, cancel_unstarted)

    def abandon(self) -> None:
        """Shut down because nobody is left to submit; safe in a finalizer, which may interrupt
        a holder of the lock on its own thread."""
        self._closed = "cannot schedule new futures after shutdown"
        if not self._running:
            self._launcher.close()
        self._post(self._pool.shutdown, False)

    def kill(self, signal_number: int) -> None:
        """Signal every worker, now."""
        self._post(self._pool.kill, signal_number)

    def stop(self) -> None:
        """Take no more calls, cancel all there are, the running ones too, and end."""
        # For all we know: whoever was interrupted may not have woken the thread.
        self._asleep = True
        self.shutdown(True)
        self._post(self._pool.stop)

    def leave(self) -> None:
        """End because of Ctrl-C; see :func:`exits.leave`."""
        exits.leave([self])

    def finish(self, cancel_unstarted: bool) -> None:
        """Shut down, and return when that is done; if Ctrl-C comes before, leave."""
        try:
            self.shutdown(cancel_unstarted)
            self.join()
        except KeyboardInterrupt:
            self.leave()
            raise

    def join(self, seconds: float | None = None) -> None:
        """Wait until the engine has ended, up to so many seconds.

        Not where it could not end before that: on its own thread, in what has interrupted a caller
        in the midst of something (a finalizer, a signal handler), and in a forked process.
        """
        if self.inert or not self._running or self._thread == _ident():
            return
        if self._lock._is_owned() or self._turning._is_owned():
            return
        if self._hubs is not None:
            self._hubs.hold()
        native.wait(self._ended.wait, seconds)

    @property
    def broken(self) -> BaseException | None:
        """What the engine is broken by, if it is."""
        return self._books.broken_because

    def on_own_thread(self) -> bool:
        """Whether outcomes cannot be delivered before the caller returns: it is a callback."""
        return self._thread == _ident() or (self._hubs is not None and self._hubs.is_caller())

    def is_running(self, call: int) -> bool:
        """Whether a worker runs this call now."""
        if self.inert:
            return False
        for link in list(self._fleet.links.values()):
            with contextlib.suppress(ValueError):  # its page was closed just now
                if call in link.page.running():
                    return True
        return False

    def processes(self) -> dict[int, Any]:
        """The processes of the workers that take calls, by pid."""
        workers = {} if self.inert else dict(self._pool.workers)
        return {
            link.pid: link.process
            for number, link in list(self._fleet.links.items())
            if link.pid is not None
            and number in workers
            and workers[number].state in (WorkerState.STARTING, WorkerState.READY)
        }

    def workers(self) -> list[tuple[Any, Link | None]]:
        """The pool's workers and their links, for statistics."""
        workers = {} if self.inert else dict(self._pool.workers)
        return [(worker, self._fleet.links.get(number)) for number, worker in workers.items()]

    def current(self, worker: int) -> str | None:
        """See :meth:`Fleet.current`."""
        return self._fleet.current(worker)

    @property
    def pending(self) -> int:
        """Calls that no worker has yet."""
        if self.inert:
            return 0
        return self._pool.pending + sum(batch.size for batch in list(self._submitted))

    def become_inert(self) -> None:
        """Be of no use: this process is a fork, and the workers are its parent's."""
        self.inert = True
        self._lock = _new_lock()  # it may have been held
        self._submitted.clear()
        self._events.clear()
        self._launcher.become_inert()
        self._poller.close()

    def _post(self, event: Callable[..., None], *arguments: Any) -> None:
        if not self.inert:
            self._events.append((event, arguments))
            self._wake()

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            with contextlib.suppress(OSError):
                os.write(self._wake_write, b"w")

    def _start(self) -> None:
        """Start the I/O thread; the lock is held."""
        self._wake_read, self._wake_write = os.pipe()
        for fd in (self._wake_read, self._wake_write):
            os.set_blocking(fd, False)
        exits.keep_from_children(self._wake_read, self._wake_write)
        self._poller = native.Poller()
        self._poller.register(self._wake_read, native.Poller.READABLE)
        self._fleet.open(self._poller)
        self._running = True
        self._ended.clear()  # a shutdown may have come before the first call
        exits.register(self)
        try:
            if self._fork:
                # Here and now, while this process may still have one thread only.
                self._turn()
        except BaseException:
            self._interrupted()
            raise
        finally:
            native.start_thread(self._run, "hybridexec-io")

    # -- on the I/O thread --------------------------------------------------------------------

    def _run(self) -> None:
        self._thread = _ident()
        try:
            while not (self._pool.finished and self._fleet.empty):
                self._wait()
        except BaseException as error:
            _logger.critical("hybridexec's I/O thread failed", exc_info=True)
            self._abort(error)
        finally:
            self._finish()

    def _wait(self) -> None:
        now = time.monotonic()
        timeout = self._pool.wait_seconds(now)
        self._tick_at = None if timeout is None else now + timeout
        active = now < self._active_at + _WATCH_SECONDS or self._fleet.led
        self._watching = timeout is None and active and self._poller.live
        if self._watching:
            timeout = _WATCH_TICK
        look = self._fleet.look_seconds(now)
        if look is not None and (timeout is None or look < timeout):
            timeout = look
        self._asleep = True
        if self._submitted or self._events:
            timeout = 0
        ready = self._poller.wait(timeout)
        self._asleep = False
        with self._turning:
            if ready:
                self._active_at = now
            self._fleet.check_leader(now)
            for fd, _ in ready:
                if fd == self._wake_read:
                    with contextlib.suppress(BlockingIOError):
                        os.read(fd, 4096)
                else:
                    self._fleet.handle(fd)
            # Outcomes come first if nothing is to be sent.
            busy = self._pool.pending or self._submitted
            outcomes = [] if busy else self._pool.take_outcomes()
        self._deliver(outcomes)
        self._turn()

    def _turn(self) -> None:
        """Handle events, decide, act, deliver."""
        pool = self._pool
        with self._turning:
            submitted = self._submitted
            end = len(submitted) - _MAX_EVENTS
            while submitted and len(submitted) > end:
                pool.submit(bundles.take_batch(submitted))
            events = self._events
            for _ in range(0 if submitted else _MAX_EVENTS):
                try:
                    event, arguments = events.popleft()
                except IndexError:
                    break
                event(*arguments)
            now = time.monotonic()
            if self._tick_at is not None and now >= self._tick_at:
                pool.tick(now)
            records = self._fleet.look(now)
            pool.dispatch(now)
            self._fleet.act()
            outcomes = pool.take_outcomes()
        self._deliver(outcomes)
        self._log(records)

    def _log(self, records: list[Record]) -> None:
        if self._hubs is None:
            _log(records)
        elif records:
            self._hubs.call(functools.partial(_log, records))

    def _deliver(self, outcomes: list[Delivery]) -> None:
        if self._hubs is None:
            _deliver(outcomes)
        elif outcomes:
            self._hubs.call(functools.partial(_deliver, outcomes))

    def _abort(self, error: BaseException) -> None:
        """A fault of ours: end every call with it rather than leave one waiting."""
        broken = ExecutorBroken(f"hybridexec's I/O thread failed: {error!r}")
        broken.__cause__ = error
        self._pool.fail(broken)
        self._deliver(self._pool.take_outcomes())
        self._fleet.kill_all()

    def _finish(self) -> None:
        with self._lock:
            self._closed = self._closed or "cannot schedule new futures after shutdown"
        while self._submitted or self._events:  # what came in before the door was closed
            self._turn()
        self._fleet.close()
        self._poller.close()
        wake, self._wake_write = self._wake_write, -1
        exits.close(self._wake_read, wake)
        exits.unregister(self)
        if self._hubs is None:
            self._ended.set()
        else:
            self._hubs.call(self._ended.set)
            self._hubs.release()


def _deliver(outcomes: list[Delivery]) -> None:
    for sink, ended in outcomes:
        deliver(sink, ended)


def _log(records: list[Record]) -> None:
    for level, message, arguments in records:
        _logger.log(level, message, *arguments)


def _new_lock() -> Any:
    return native.original("_thread", "RLock")()


def _ident() -> int:
    ident: int = native.original("_thread", "get_ident")()
    return ident


def _nothing() -> None:
    """An event that only has the I/O thread take a turn."""

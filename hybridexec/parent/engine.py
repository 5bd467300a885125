"""The I/O thread: carries out what the pool decides, and tells it what happened.

Callers' threads only append to a deque of events and wake the thread::

    submit, cancel, shutdown ──▶ _events ──┐
    result pipes, sentinels, deadlines ────┴▶ Pool ──▶ actions: frames, starts, signals, outcomes

Runs on: everything under "on the I/O thread" there, and there alone; the rest on any thread.
Guarantees: the thread is a native one and waits with the system's own poll, so that a gevent parent
neither needs a hub here nor blocks one; it never blocks on a worker; it ends when the engine has
been shut down and nothing of it is left.
"""

from __future__ import annotations

import contextlib
import functools
import logging
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from .. import native
from ..errors import ExecutorBroken
from ..wire import frames
from . import exits, fates
from .actions import Kill, Send, Start
from .batch import Batch, Ended, Sink
from .functions import Functions
from .hubs import Hubs
from .launch import Launcher, Started
from .link import Link
from .pool import Phase, Pool
from .workers import WorkerState

_logger = logging.getLogger("hybridexec")

_READABLE, _WRITABLE = 1, 4  # select.POLLIN and POLLOUT
#: How long, in seconds, the I/O thread goes on looking up after the last sign of life, and how
#: often. In an executor that is idle for longer, nothing wakes up at all.
_WATCH_SECONDS, _WATCH_TICK = 1.0, 0.05
#: Events handled before the pipes are looked at again.
_MAX_EVENTS = 10_000


class Engine:
    """A pool of workers with its I/O thread, which the first call starts."""

    def __init__(self, pool: Pool, launcher: Launcher) -> None:
        self._pool = pool
        self._launcher = launcher
        self.functions = Functions()
        # The native lock: holders neither block nor switch greenlets, and finalizers may not wait.
        self._lock = native.original("_thread", "allocate_lock")()
        # Batches come before events: none comes after a shutdown, or after its own cancellation.
        self._submitted: deque[Batch] = deque()
        self._events: deque[tuple[Callable[..., None], tuple[Any, ...]]] = deque()
        # Held during a turn: by the I/O thread, or by a caller who sends a lone call itself.
        self._turning = native.original("_thread", "allocate_lock")()
        # Guarded by _lock: why submit must refuse, if it must.
        self._closed: str | None = None
        self._running = False
        self._inert = False
        # Invariant: set only while the I/O thread is, or is about to be, waiting in poll.
        self._asleep = False
        self._wake_read = self._wake_write = -1
        self._links: dict[int, Link] = {}
        self._by_fd: dict[int, tuple[Link, int]] = {}
        self._tick_at: float | None = None  # when the pool wants to hear that time has passed
        # Whether the thread looks up now and then, so that callers may send lone calls themselves:
        # if one gets stuck, somebody notices.
        self._watching = False
        self._active_at = 0.0  # when something last woke the thread
        self._breakage_logged = False
        self._starting = 0  # start threads under way
        self._thread: int | None = None
        self._ended = threading.Event()
        self._hubs = Hubs() if native.is_patched("threading") else None
        #: Whether a thread of this process that waits may block: in a patched one it may not.
        self.blocking_waits = self._hubs is None

    # -- on any thread ------------------------------------------------------------------------

    def submit(self, batch: Batch) -> None:
        """Take new calls.

        Raises:
            RuntimeError: the engine was shut down, or is a forked process's copy.
            ExecutorBroken: it cannot run calls any more.
        """
        with self._lock:
            if self._closed is not None or self.broken is not None or self._inert:
                self.check_open()
            if self._hubs is not None:
                self._hubs.hold()
            lone = self._watching and not self._pool.unfinished
            if not (lone and self._express(batch)):
                self._submitted.append(batch)
                if not self._running:
                    self._start()
                self._wake()

    def _express(self, batch: Batch) -> bool:
        """Send a lone call from the caller's own thread, which saves waking the I/O thread first;
        whether that was possible."""
        if self._submitted or self._events or not self._turning.acquire(False):
            return False
        try:
            if not self._asleep or not self._pool.express(batch, time.monotonic()):
                return False
            for action in self._pool.take_actions():
                self._act(action)
            if any(link.backlog for link in self._links.values()):
                self._wake()  # to write the rest as the pipe takes it
            return True
        except BaseException:
            # Ctrl-C in the midst of it: the pool may be at odds with itself. There is no other call
            # that could suffer.
            if self._pool.unfinished:
                broken = ExecutorBroken("interrupted while a call was being sent")
                self._post(self._pool.fail, broken)
            raise
        finally:
            self._turning.release()

    def check_open(self) -> None:
        """Raise what :meth:`submit` would."""
        if self._inert:
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

    def shutdown(
        self,
        cancel_unstarted: bool,
        why: str = "cannot schedule new futures after shutdown",
    ) -> None:
        """Take no more calls, finish those there are (or only the started ones), and end."""
        with self._lock:
            self._closed = self._closed or why
            if not self._running:
                self._ended.set()
        self._post(self._pool.shutdown, cancel_unstarted)

    def abandon(self) -> None:
        """Shut down because nobody is left to submit; safe in a finalizer, which may interrupt
        a holder of the lock on its own thread."""
        self._closed = "cannot schedule new futures after shutdown"
        self._post(self._pool.shutdown, False)

    def kill(self, signal_number: int) -> None:
        """Signal every worker, now."""
        self._post(self._pool.kill, signal_number)

    def wait(self) -> None:
        """Return when the engine has ended; at once on its own thread, which could not end."""
        if not self._inert and self._running and self._thread != _ident():
            if self._hubs is not None:
                self._hubs.hold()
            self._ended.wait()

    @property
    def broken(self) -> BaseException | None:
        """What the engine is broken by, if it is."""
        return self._pool.broken_because

    def on_own_thread(self) -> bool:
        """Whether outcomes cannot be delivered before the caller returns: it is a callback."""
        return self._thread == _ident() or (self._hubs is not None and self._hubs.is_caller())

    def is_running(self, call: int) -> bool:
        """Whether a worker runs this call now."""
        for link in list(self._links.values()):
            with contextlib.suppress(ValueError):  # its page was closed just now
                if call in link.page.running():
                    return True
        return False

    def processes(self) -> dict[int, Any]:
        """The processes of the workers that take calls, by pid."""
        workers = dict(self._pool.workers)
        return {
            link.pid: link.process
            for number, link in list(self._links.items())
            if link.pid is not None
            and number in workers
            and workers[number].state in (WorkerState.STARTING, WorkerState.READY)
        }

    def workers(self) -> list[tuple[Any, Link | None]]:
        """The pool's workers and their links, for statistics."""
        workers = dict(self._pool.workers)
        return [(worker, self._links.get(number)) for number, worker in workers.items()]

    @property
    def pending(self) -> int:
        """Calls that no worker has yet."""
        return self._pool.pending + sum(batch.size for batch in list(self._submitted))

    def finish_at_exit(self) -> None:
        """Finish what there is; the interpreter waits."""
        self.shutdown(False, "cannot schedule new futures after interpreter shutdown")
        self.wait()

    def become_inert(self) -> None:
        """Be of no use: this process is a fork, and the workers are its parent's."""
        self._inert = True
        self._submitted.clear()
        self._events.clear()

    def _post(self, event: Callable[..., None], *arguments: Any) -> None:
        if not self._inert:
            self._events.append((event, arguments))
            self._wake()

    def _wake(self) -> None:
        if self._asleep:
            self._asleep = False
            with contextlib.suppress(BlockingIOError):
                os.write(self._wake_write, b"w")

    def _start(self) -> None:
        """Start the I/O thread; the lock is held."""
        self._wake_read, self._wake_write = os.pipe()
        for fd in (self._wake_read, self._wake_write):
            os.set_blocking(fd, False)
        exits.keep_from_children(self._wake_read, self._wake_write)
        self._poller = native.original("select", "poll")()
        self._poller.register(self._wake_read, _READABLE)
        self._running = True
        exits.register(self)
        if self._launcher.method == "fork":
            # Here and now, while this process may still have one thread only.
            self._turn()
        native.start_thread(self._run, "hybridexec-io")

    # -- on the I/O thread --------------------------------------------------------------------

    def _run(self) -> None:
        self._thread = _ident()
        try:
            while not (self._pool.finished and not self._starting and not self._links):
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
        self._watching = timeout is None and now < self._active_at + _WATCH_SECONDS
        if self._watching:
            timeout = _WATCH_TICK
        self._asleep = True
        if self._submitted or self._events:
            timeout = 0
        ready = self._poller.poll(None if timeout is None else timeout * 1000)
        self._asleep = False
        with self._turning:
            if ready:
                self._active_at = now
            self._handle(ready)
            self._turn()

    def _handle(self, ready: list[tuple[int, int]]) -> None:
        for fd, _ in ready:
            if fd == self._wake_read:
                with contextlib.suppress(BlockingIOError):
                    os.read(fd, 4096)
                continue
            link, number = self._by_fd.get(fd, (None, 0))
            if link is None:
                continue
            if fd == link.calls_fd:
                if link.flush():
                    self._poller.unregister(fd)
            elif fd == link.results_fd:
                self._receive(number, link, link.read())
                if link.broken:
                    self._poller.unregister(fd)
            else:
                self._lose(number, link)

    def _turn(self) -> None:
        """Handle events, decide, act."""
        pool = self._pool
        if not pool.pending and not self._submitted:
            self._deliver()  # nothing is to be sent first
        submitted = self._submitted
        for _ in range(min(_MAX_EVENTS, len(submitted))):
            pool.submit(submitted.popleft())
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
        pool.dispatch(now)
        for action in pool.take_actions():
            self._act(action)
        self._deliver()

    def _deliver(self) -> None:
        outcomes = self._pool.take_outcomes()
        if self._hubs is None:
            _deliver(outcomes)
        elif outcomes:
            self._hubs.call(functools.partial(_deliver, outcomes))

    def _act(self, action: Start | Send | Kill) -> None:
        if type(action) is Send:
            link = self._links.get(action.worker)
            if link is not None:
                link.write(frames.encode(action.head, action.segments))
                if not link.flush():
                    self._poller.register(link.calls_fd, _WRITABLE)
        elif type(action) is Start:
            self._start_worker(action.worker)
        elif type(action) is Kill and action.worker in self._links:
            self._links[action.worker].kill(action.signal)

    def _start_worker(self, number: int) -> None:
        self._starting += 1

        def start() -> None:
            try:
                started = self._launcher.start(number)
            except BaseException as error:
                self._post(self._start_failed, number, error)
            else:
                self._post(self._started, number, started)

        if self._launcher.method == "fork":
            start()
            return
        try:
            native.start_thread(start, "hybridexec-start")
        except RuntimeError:
            # Out of threads, or the interpreter is exiting: Python 3.12.0 and 3.12.1 refuse new
            # threads as soon as the script's last line has run.
            start()

    def _started(self, number: int, started: Started) -> None:
        self._starting -= 1
        link = self._links[number] = Link(started)
        for fd in (link.results_fd, link.sentinel, link.calls_fd):
            self._by_fd[fd] = (link, number)
        self._poller.register(link.results_fd, _READABLE)
        self._poller.register(link.sentinel, _READABLE)
        self._pool.started(number, link.pid, link.page)

    def _start_failed(self, number: int, error: BaseException) -> None:
        self._starting -= 1
        broken = fates.not_started(error)
        self._pool.fail(broken)
        self._pool.lost(number, broken, time.monotonic())
        self._log_breakage()

    def _receive(self, number: int, link: Link, received: list[frames.Frame]) -> None:
        pool = self._pool
        now = time.monotonic()
        for frame in received:
            kind = frame.head[0]
            if kind == frames.RESULTS:
                results = frame.head[1]
                if frame.segments:
                    results = [_resolve(frame, result) for result in results]
                pool.results(number, results, now)
            elif kind == frames.HUNGRY:
                pool.hungry(number, now)
            elif kind == frames.RECALLED:
                pool.recalled(number, frame.head[1])
            elif kind == frames.HELLO:
                pool.ready(number, now)
            else:
                # It is ending: what it logged is on its way until it has.
                link.failure = fates.failed(link.pid, *frame.head[1:])

    def _lose(self, number: int, link: Link) -> None:
        """A worker's process has ended."""
        code = link.exitcode()
        self._receive(number, link, link.read(everything=True))
        for fd in (link.results_fd, link.calls_fd):
            with contextlib.suppress(KeyError, FileNotFoundError):
                self._poller.unregister(fd)
        self._poller.unregister(link.sentinel)
        for fd in (link.results_fd, link.sentinel, link.calls_fd):
            del self._by_fd[fd]
        del self._links[number]
        worker = self._pool.workers[number]
        lost: BaseException
        if link.failure is not None:
            lost = link.failure
            self._pool.fail(lost)
        elif worker.state is WorkerState.STARTING and self._pool.phase is not Phase.KILLED:
            lost = fates.never_ready(link.pid, code)
        else:
            goes_on = self._pool.phase is Phase.RUNNING
            lost = fates.lost(link.pid, code, worker.running, goes_on)
        self._pool.lost(number, lost, time.monotonic())
        link.close()
        self._log_breakage()

    def _log_breakage(self) -> None:
        """Say once that the engine is broken: its futures may be looked at late, or never."""
        if self.broken is not None and not self._breakage_logged:
            self._breakage_logged = True
            _logger.error("%s", self.broken)

    def _abort(self, error: BaseException) -> None:
        """A fault of ours: end every call with it rather than leave one waiting."""
        broken = ExecutorBroken(f"hybridexec's I/O thread failed: {error!r}")
        broken.__cause__ = error
        self._pool.fail(broken)
        self._deliver()
        for link in self._links.values():
            link.kill(signal.SIGKILL)

    def _finish(self) -> None:
        with self._lock:
            self._closed = self._closed or "cannot schedule new futures after shutdown"
        while self._submitted or self._events:  # what came in before the door was closed
            self._turn()
        self._launcher.close()
        exits.close(self._wake_read, self._wake_write)
        exits.unregister(self)
        if self._hubs is None:
            self._ended.set()
        else:
            self._hubs.call(self._ended.set)
            self._hubs.release()


def _deliver(outcomes: list[tuple[Sink, list[Ended]]]) -> None:
    for sink, ended in outcomes:
        try:
            sink.deliver(ended)
        except BaseException:
            # SystemExit out of a user's callback, say: it must not stop the deliveries.
            _logger.exception("a callback of a call's outcome failed")


def _ident() -> int:
    ident: int = native.original("_thread", "get_ident")()
    return ident


def _resolve(frame: frames.Frame, result: tuple[Any, ...]) -> tuple[Any, ...]:
    call, status, value, seconds = result
    if status == frames.PICKLED:
        value = frame.payload(value)
    elif status == frames.ERROR:
        value = (frame.payload(value[0]), *value[1:])
    return call, status, value, seconds

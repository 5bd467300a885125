"""The workers' processes and pipes: does what the pool decides, and tells it what they do.

Runs on: the I/O thread; what sends or receives is also called by a thread that sends or awaits a
lone call itself. Either holds the engine's turn.
Guarantees: nothing here waits for a worker, but for the exit status of one that has ended.
"""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator, Sequence
from typing import Any

from ... import native
from ...wire import frames
from ...wire.shared import Part
from ..launch import exit_errors
from ..launch.launcher import Launcher, Started
from ..pool.actions import Action, Kill, Send, Start
from ..pool.pool import Phase, Pool
from ..pool.watchdog import Watchdog
from .connection import STATUS_PATIENCE, Link
from .entry_queue import Queue
from .hub_monitor import Lookout, Record, abandoned
from .starter import Starter

_logger = logging.getLogger("hybridexec")

#: How many of the calls that a dead worker was running its errors name.
_MAX_NAMED = 10
#: How often, in seconds, the workers' memory is looked at, if there is a limit.
_MEASURE_SECONDS = 0.5


class Fleet:
    """The processes of one pool's workers."""

    def __init__(
        self, pool: Pool, launcher: Launcher, queue: Queue, watchdog: Watchdog | None = None
    ) -> None:
        """
        Args:
            queue: the I/O thread's.
            watchdog: decides which blocked hubs are reported; None reports none.
        """
        self._pool = pool
        self._launcher = launcher
        self._starter = Starter(launcher, queue, self._started, self._not_started)
        #: See :class:`.starter.Starter`.
        self.start_left = self._starter.start_left
        self.links: dict[int, Link] = {}
        self._by_fd: dict[int, tuple[Link, int]] = {}
        self._lookout = Lookout(watchdog, pool.workers, self.links, self.send)
        self._measure_at = 0.0  # when to look at the workers' memory
        # Workers that have ended and whose fork server has not told how: until when it may.
        self._ends: dict[int, float] = {}
        self._breakage_logged = False
        # Invariant: None, or the worker whose results the poller does not tell of. Until the given
        # time, a waiting caller reads them.
        self._led: int | None = None
        self._led_until = 0.0

    def open(self, poller: native.Poller) -> None:
        """Have ``poller`` wait for the workers."""
        self._poller = poller

    @property
    def empty(self) -> bool:
        """Whether no process is left, nor one about to be started."""
        return not self._starter.under_way and not self.links

    def act(self) -> None:
        """Do what the pool has decided."""
        actions = iter(self._pool.actions.take())
        written: set[Link] = set()
        try:
            self._act(actions, written)
        except BaseException as error:
            # Ctrl-C, where workers are forked by a caller. The pool counts on those that are left.
            for action in actions:
                if type(action) is Start:
                    self._starter.fail(action.worker, error)
            raise
        finally:
            for link in written:
                link.flush()

    def _act(self, actions: Iterator[Action], written: set[Link]) -> None:
        for action in actions:
            if type(action) is Send:
                link = self.links.get(action.worker)
                # Frames for one that ended just now go nowhere: its calls are being returned.
                if link is not None:
                    link.write(action.head, action.segments, action.head[0] in frames.URGENT)
                    # All that goes to a worker in a turn does so in one system call.
                    written.add(link)
            elif type(action) is Start:
                self._starter.start(action.worker)
            elif type(action) is Kill and action.worker in self.links:
                self.links[action.worker].kill(action.signal)
            else:  # its process does not exist yet, and may never
                self._launcher.give_up()

    def send(self, worker: int, head: tuple[Any, ...], segments: Sequence[Part] = ()) -> None:
        """Send a worker a frame, here and now."""
        link = self.links.get(worker)
        if link is not None:
            link.write(head, segments, head[0] in frames.URGENT)
            link.flush()

    def look_seconds(self, now: float) -> float | None:
        """How long until :meth:`look` is worth calling; None if only events matter."""
        seconds = self._lookout.seconds(now)
        if self._ends:
            due = max(0.0, min(self._ends.values()) - now)
            seconds = due if seconds is None else min(seconds, due)
        if self._pool.memory is None or not self._pool.books.unfinished:
            return seconds
        measure = max(0.0, self._measure_at - now)
        return measure if seconds is None else min(seconds, measure)

    def look(self, now: float) -> list[Record]:
        """See to what no event tells of, if it is time to; what there is to log."""
        for number in [number for number, due in self._ends.items() if now >= due]:
            self._lose(number, self.links[number])
        if self._pool.memory is not None and now >= self._measure_at:
            self._measure_at = now + _MEASURE_SECONDS
            for number, link in self.links.items():
                resident = native.resident_bytes(link.pid) if link.pid is not None else None
                if resident is not None:
                    self._pool.measured(number, resident)
        records = self._lookout.look(now)
        if self._pool.actions.unsaid:
            records += map(abandoned, self._pool.actions.take_unsaid())
        return records

    def current(self, number: int) -> str | None:
        """The call that has a worker's CPU, in a few words, if it is known; for any thread."""
        return self._lookout.current(number)

    def handle(self, fd: int) -> None:
        """A descriptor is ready."""
        link, number = self._by_fd.get(fd, (None, 0))
        if link is None:
            return
        if fd == link.calls_fd:
            link.flush(there_is_room=True)
        elif fd in link.ends:
            self._hear_of_end(number, link, fd)
        elif number != self._led:
            self.receive(number, link)

    # -- a lone call's outcome, read by its caller ----------------------------------------------

    def lead(self, number: int, seconds: float) -> int | None:
        """For so many seconds, a caller reads the worker's results: the descriptor to read from, or
        None if that cannot be. Then :meth:`rest` must follow, or :meth:`follow`."""
        link = self.links.get(number)
        now = native.monotonic()
        if link is None or link.broken or now <= self._led_until:
            return None
        if self._led != number:
            self.follow()
            self._led = number
            self._poller.modify(link.results_fd, 0)
        self._led_until = now + seconds
        return link.results_fd

    def receive_led(self) -> None:
        """As :meth:`receive`, for the led worker."""
        link = None if self._led is None else self.links.get(self._led)
        if self._led is not None and link is not None and not link.broken:
            self.receive(self._led, link)

    def rest(self) -> None:
        """Nobody reads the led worker's results now; once the I/O thread wakes up, it does."""
        self._led_until = 0.0

    def follow(self) -> None:
        """The I/O thread reads all results again."""
        if self._led is None:
            return
        link = self.links.get(self._led)
        if link is not None and not link.broken:
            self._poller.modify(link.results_fd, native.Poller.READABLE)
        self._led_until = 0.0
        self._led = None  # last: if this is interrupted, it is done again

    def check_leader(self, now: float) -> None:
        """The I/O thread has woken up: it reads all results again, if it is nobody else's turn
        to."""
        if self._led is not None and now > self._led_until:
            self.follow()

    @property
    def led(self) -> bool:
        """Whether some worker's results are left to callers."""
        return self._led is not None

    # -- starts -----------------------------------------------------------------------------------

    def _started(self, number: int, started: Started) -> None:
        link = self.links[number] = Link(started, self._poller)
        self._by_fd[link.calls_fd] = (link, number)
        for fd in (link.results_fd, *link.ends):
            self._by_fd[fd] = (link, number)
            self._poller.register(fd, native.Poller.READABLE)
        self._pool.started(number, link.pid, link.page)

    def _not_started(self, number: int, error: BaseException) -> None:
        broken = exit_errors.not_started(error, self._launcher.executable)
        if not isinstance(error, OSError):  # a lack of something may be over soon
            self._pool.unready(number, broken)
        self._pool.lost(number, broken, native.monotonic())
        if self._pool.phase is Phase.RUNNING:
            _logger.warning("%s; it is tried again", broken)
        self._log_breakage()

    # -- results and ends -------------------------------------------------------------------------

    def receive(self, number: int, link: Link, everything: bool = False) -> None:
        """Read what a worker has written and tell the pool; see :meth:`Link.read`."""
        pool = self._pool
        now = native.monotonic()
        for head, segments in link.read(everything):
            kind = head[0]
            if kind == frames.RESULTS:
                _, results, rows = head
                if segments:
                    results = [_resolve(result, segments) for result in results]
                pool.results(number, results, rows, now)
            elif kind == frames.HUNGRY:
                pool.hungry(number, now)
            elif kind == frames.RECALLED:
                pool.recalled(number, head[1])
            elif kind == frames.HELLO:
                pool.ready(number, now)
            elif kind == frames.HERE:
                self._lookout.answered(number, now, *head[1:])
            else:
                # It is ending: what it logged is on its way until it has.
                link.failed_stage = head[1]
                link.failure = exit_errors.failed(link.pid, *head[1:])
        if link.broken:
            self._poller.unregister(link.results_fd)

    def _hear_of_end(self, number: int, link: Link, fd: int) -> None:
        """A worker's process has ended, or the fork server has."""
        if not link.awaits_status:
            self._lose(number, link)
            return
        self._poller.unregister(fd)
        if fd == link.sentinel:
            self._ends[number] = native.monotonic() + STATUS_PATIENCE

    def _lose(self, number: int, link: Link) -> None:
        """A worker's process has ended."""
        self._ends.pop(number, None)
        code = link.exitcode()
        self.receive(number, link, everything=True)
        for fd in (link.results_fd, link.calls_fd, *link.ends):
            self._poller.unregister(fd)
            del self._by_fd[fd]
        del self.links[number]
        self._lookout.forget(number)
        if self._led == number:
            self._led = None
        worker = self._pool.workers[number]
        lost: BaseException
        if link.failure is not None:
            lost = link.failure
            if link.failed_stage == "initializer":
                self._pool.fail(lost)
            else:
                self._pool.unready(number, lost)
        elif not worker.taken and self._pool.phase is not Phase.KILLED:
            executable = self._launcher.executable
            lost = exit_errors.never_ready(link.pid, code, link.fault_log, executable)
        else:
            running = worker.running
            lost = exit_errors.lost(
                link.pid,
                code,
                running,
                tuple(
                    batch.text(call - batch.first)
                    for call, batch in worker.sent.calls()[: min(running, _MAX_NAMED)]
                ),
                link.fault_log,
                goes_on=self._pool.phase is Phase.RUNNING,
                by_us=link.killed,
                server_ended=link.fate_unknown,
            )
        self._pool.lost(number, lost, native.monotonic())
        link.close()
        self._log_breakage()

    def _log_breakage(self) -> None:
        """Say once that no call can run any more: futures may be looked at late, or never."""
        broken: BaseException | None = self._pool.books.broken_because
        if broken is not None and not self._breakage_logged:
            self._breakage_logged = True
            _logger.error("%s", broken)

    def close(self) -> None:
        """End the processes that a fault has left, and let go of what started them."""
        while self.links:
            _, link = self.links.popitem()
            link.kill(signal.SIGKILL)
            link.close()
        self._launcher.close()


def _resolve(result: tuple[Any, ...], segments: Sequence[Part]) -> tuple[Any, ...]:
    call, status, value, seconds = result
    if status == frames.PICKLED:
        value = frames.extract(value, segments)
    elif status in (frames.ERROR, frames.RETRIABLE):
        value = (frames.extract(value[0], segments), *value[1:])
    return call, status, value, seconds

"""One worker's pipes and process: the link to a worker of this machine. See :mod:`.link`.

Thread: turn holder.
Guarantees: never waits for a worker, except for the exit status of one that has ended: what does
not fit into the call pipe stays in a backlog.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from ... import native
from ...errors import ExecutorBroken, WorkerLost
from ...wire import frames
from ...wire.messages import ToWorker
from ...wire.page import DUMP_SIGNAL, SHARED
from ...wire.shared import Buffer, Part, Region
from .. import lifecycle
from ..launch import exit_errors
from ..launch.launcher import Started
from ..launch.process import ServerProcess

#: Consecutive reads from one worker, so that a gigabyte from one does not keep others waiting.
_MAX_READS = 8
#: Buffers in one writev; the system's limit is 1024.
_MAX_BUFFERS = 512
#: How long, in seconds, to wait for the exit status of a process that has ended. The first: where
#: the sentinel is multiprocessing's own, a pipe that the process closes before it has quite ended,
#: or where the fork server reports the status. The second: where at most another thread of this
#: process is collecting it.
_STATUS_PATIENCE, _EXACT_PATIENCE = 2.0, 0.02


class Connection:
    """The pipes and the process of one worker."""

    def __init__(self, started: Started, poller: native.Poller) -> None:
        """
        Args:
            poller: the I/O thread's, which waits for room in the call pipe.
        """
        self._poller = poller
        self.process = started.process
        self.page = started.page
        self.pid: int | None = started.process.pid
        self.node = ""
        self.calls_fd = started.calls_fd
        self.results_fd = started.results_fd
        #: See :class:`.link.Link` for these two.
        self.since = native.monotonic()
        self.bytes_sent = 0
        self._exact = started.exact
        #: What becomes readable when the process has ended.
        self.ends = (started.process.sentinel,)
        self._channel = started.channel
        self._reader = frames.FrameReader(started.results_fd, self._channel.take, later=True)
        #: What is to be written to the call pipe.
        self.backlog: deque[Buffer] = deque()
        self._bell_fd = started.bell_fd
        self._other_fds = started.other_fds
        self.urgent = False  # the bell is to be rung
        self.stuck = False  # the pipe is full: the poller waits for room in it
        # Why the worker cannot get ready, and the stage that failed; both as it said.
        self.failure: ExecutorBroken | None = None
        self.failed_stage = ""
        self.killed = False  # we sent SIGKILL
        self.broken = False  # nothing written will arrive: the process is ending
        self._code: int | None = None  # how the process has ended, if it is known

    @property
    def bytes_received(self) -> int:
        """As :attr:`.Link.bytes_received`."""
        return self._reader.received

    def read(self, everything: bool = False) -> list[frames.Frame]:
        """Read the frames that have arrived; with ``everything``, all that a dead process left."""
        received: list[frames.Frame] = []
        reads = 0
        try:
            while everything or reads < _MAX_READS:
                reads += 1
                some = self._reader.read()
                if some is None:
                    self.broken = True
                    break
                received += some
                if self._reader.drained and not everything:
                    break
        except BlockingIOError:
            pass
        return received

    def write(self, message: ToWorker, segments: Sequence[Part] = ()) -> None:
        """Queue a message; :meth:`flush` writes it. Urgent ones are to be read even while a call
        keeps the worker's hub."""
        if not self.broken:
            buffers = frames.encode(
                message.head, segments, self._channel.hand_over, message.distinct
            )
            self.bytes_sent += len(buffers[0])
            for segment in segments:
                self.bytes_sent += segment.size if type(segment) is Region else len(segment)
            self.backlog.append(buffers[0])
            for buffer in buffers[1:]:
                self.backlog.append(memoryview(buffer).cast("B"))
            self.urgent = self.urgent or message.urgent

    def pass_on(self, data: Buffer, urgent: bool) -> None:
        """Write what another process has encoded, and as much of it as fits now."""
        if not self.broken:
            self.bytes_sent += len(data)
            self.backlog.append(data)
            self.urgent = self.urgent or urgent
            self.flush()

    def refuse_files(self) -> None:
        """Have the worker write all that it has into the pipe."""
        self._channel.close()

    def flush(self, there_is_room: bool = False) -> bool:
        """Write as much as fits; returns whether nothing is left. The rest is written by a later
        call, with ``there_is_room``, when the poller reports that."""
        if self.stuck and not self.urgent and not there_is_room:
            return False
        stuck = False
        backlog = self.backlog
        while backlog:
            try:
                if len(backlog) == 1:
                    count = os.write(self.calls_fd, backlog[0])
                else:
                    count = os.writev(self.calls_fd, list(islice(backlog, _MAX_BUFFERS)))
            except BlockingIOError:
                stuck = True
                break
            except OSError:
                self.broken = True  # the process has ended; its sentinel will report that
                backlog.clear()
                break
            while backlog and count >= len(backlog[0]):
                count -= len(backlog.popleft())
            if count:
                backlog[0] = memoryview(backlog[0])[count:]
        if stuck != self.stuck:
            if stuck:
                self._poller.register(self.calls_fd, native.Poller.WRITABLE)
            else:
                self._poller.unregister(self.calls_fd)
            self.stuck = stuck
        if self.urgent:
            # Rung even if not all was written: the worker has to read what fills the pipe first.
            self.urgent = stuck
            try:
                os.write(self._bell_fd, b"r")
            except OSError:
                pass  # it has been rung often enough, or nobody is there to hear it
        return not stuck

    @property
    def resident(self) -> int | None:
        """See :meth:`.link.Link.resident`."""
        return None if self.pid is None else native.resident_bytes(self.pid)

    def kill(self, number: int) -> None:
        """Send the process a signal, unless it has ended."""
        if self.process.exitcode is None and self.pid is not None:
            self.killed = self.killed or number == signal.SIGKILL
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    @property
    def fault_log(self) -> str:
        """What faulthandler has written in the worker."""
        return self.page.log

    def take_logs(self, end: int | None) -> tuple[bytes, int]:
        """See :meth:`.link.Link.take_logs`."""
        ring = self.page.ring
        return (b"", 0) if ring is None else (ring.take(end), ring.dropped)

    def request_dump(self) -> None:
        """Have faulthandler write the main thread's stack to the fault log, or those of all threads
        if calls run in these, if that does no harm.

        It does harm if the main thread waits in C code of a call's, because not every system call
        can be restarted, and the signal could end the wait; and if user code has removed the
        handler, so that the signal would kill the process.
        """
        number = DUMP_SIGNAL
        caught = _status(self.pid, "SigCgt")
        is_calls = self.page.current != SHARED  # the main thread
        if number is None or (is_calls and self.state not in (None, "R")):
            return
        # Where the system does not tell, DUMP_SIGNAL is one that is ignored by default.
        if caught is None or int(caught, 16) >> (number - 1) & 1:
            self.kill(number)

    @property
    def state(self) -> str | None:
        """The main thread's state: R runs, S and D wait, T and t are stopped. None where the system
        does not tell: that is, not on Linux."""
        state = _status(self.pid, "State")
        return None if state is None else state[0]

    def take_dump(self) -> str:
        """Take the stack that was dumped out of the fault log, so that a later death's log does not
        include it."""
        text = self.fault_log
        self.page.clear_log()
        return text

    def ended(self) -> float:
        """See :meth:`.link.Link.ended`. The fork server reports the exit status a moment after the
        process has ended; if it has ended itself, the process may not have."""
        if not isinstance(self.process, ServerProcess) or self.process.exitcode is not None:
            return 0.0
        return _STATUS_PATIENCE

    def finish(self) -> None:
        """Wait for the exit status of the process.

        When this returns the process has ended, even where the sentinel may have fired because the
        fork server ended.
        """
        sleep = native.sleep
        patience = _EXACT_PATIENCE if self._exact else _STATUS_PATIENCE
        waited = 0.0
        while self.process.exitcode is None and waited < patience:
            sleep(0.001)
            waited += 0.001
        if self._status_unknown:
            self._make_sure(sleep)
        else:
            self._code = self.process.exitcode

    def never_ready(self, executable: str) -> ExecutorBroken:
        """See :func:`.exit_errors.never_ready`."""
        return exit_errors.never_ready(self.death, executable)

    def lost(self, running: int, calls: tuple[str, ...], goes_on: bool) -> WorkerLost:
        """See :func:`.exit_errors.lost`."""
        return exit_errors.lost(self.death, running, calls, goes_on=goes_on)

    @property
    def death(self) -> exit_errors.Death:
        """How the process has ended; known after :meth:`finish`."""
        unknown = self._status_unknown
        return exit_errors.Death(self.pid, self._code, self.fault_log, self.killed, unknown)

    @property
    def _status_unknown(self) -> bool:
        """Whether the fork server ended before the process, so that its status stays unknown."""
        return bool(getattr(self.process, "status_unknown", False))

    def _make_sure(self, sleep: Callable[[float], None]) -> None:
        """Kill the process, which may not have ended, and wait for its end."""
        waited = 0.0
        while self.pid is not None and not self.process.own_sentinel and waited < _STATUS_PATIENCE:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                break
            sleep(0.001)
            waited += 0.001

    def close(self) -> None:
        """Close everything that connected to the process.

        The process object is not closed: whoever has got it from the executor may be waiting for
        it. Its descriptors are closed when it is garbage collected.
        """
        lifecycle.close(self.calls_fd, self._bell_fd, self.results_fd, *self._other_fds)
        self._channel.close()
        self.page.close()
        if self.process.exitcode is not None:  # has multiprocessing forget it as an active child
            self.process.join()


def _status(pid: int | None, field: str) -> str | None:
    """A field of a process's status in /proc; None if it cannot be read."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith(field))
    except (OSError, StopIteration):
        return None

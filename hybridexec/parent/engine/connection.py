"""One worker's pipes and process.

Runs on: whoever has the engine's turn.
Guarantees: nothing here waits for a worker, but for the exit status of one that has ended: writes
that do not fit stay in a backlog.
"""

from __future__ import annotations

import os
import signal
from collections import deque
from collections.abc import Callable, Sequence
from itertools import islice

from ... import native
from ...errors import ExecutorBroken
from ...wire import frames, page
from ...wire.messages import ToWorker
from ...wire.shared import Buffer, Part
from .. import lifecycle
from ..launch.launcher import Started

#: Reads from one worker in a row, so that a gigabyte from one does not keep others waiting.
_MAX_READS = 8
#: Buffers in one writev; the system's limit is 1024.
_MAX_BUFFERS = 512
#: How long, in seconds, the exit status of a process that has ended may take to arrive: where the
#: sentinel is multiprocessing's own, the end of a pipe that a process closes as it ends, or where
#: the fork server has to tell; and where at most another thread has it in hand.
STATUS_PATIENCE, _EXACT_PATIENCE = 2.0, 0.02


class Connection:
    """The connection to a worker's process."""

    def __init__(self, started: Started, poller: native.Poller) -> None:
        """
        Args:
            poller: what waits until there is room in the call pipe.
        """
        self._poller = poller
        self.process = started.process
        self.page = started.page
        self.pid: int | None = started.process.pid
        self.calls_fd = started.calls_fd
        self.results_fd = started.results_fd
        self.sentinel = started.sentinel
        # Where the fork server will tell how the process has ended, if it is one of its own.
        self._status_fd: int | None = getattr(started.process, "status_fd", None)
        #: What becomes readable when the process has ended: one, or either.
        self.ends = {self.sentinel, self.sentinel if self._status_fd is None else self._status_fd}
        self._log_fd = started.log_fd
        self._channel = started.channel
        self._reader = frames.FrameReader(started.results_fd, self._channel.take)
        #: What has not fitted into the call pipe yet.
        self.backlog: deque[Buffer] = deque()
        self._bell_fd = started.bell_fd
        self._other_fds = started.other_fds
        self.urgent = False  # the bell is to be rung
        self.stuck = False  # not all was written: the poller waits until there is room in the pipe
        # Why it said that it cannot get ready, and at what.
        self.failure: ExecutorBroken | None = None
        self.failed_stage = ""
        self.killed = False  # we sent SIGKILL
        self.broken = False  # nothing written will arrive: the process is ending

    def read(self, everything: bool = False) -> list[frames.Frame]:
        """The frames that have arrived; with ``everything``, all that a dead process left."""
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
            buffers = frames.encode(message.head, segments, self._channel.hand_over)
            self.backlog.append(buffers[0])
            for buffer in buffers[1:]:
                self.backlog.append(memoryview(buffer).cast("B"))
            self.urgent = self.urgent or message.urgent

    def flush(self, there_is_room: bool = False) -> bool:
        """Write as much as fits; whether nothing is left. If something is, it is written when the
        poller says that ``there_is_room``."""
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
                self.broken = True  # its sentinel will tell the rest
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
            # Also if not all was written: what is in the pipe is in the way.
            self.urgent = stuck
            try:
                os.write(self._bell_fd, b"r")
            except OSError:
                pass  # it has been rung often enough, or nobody is there to hear it
        return not stuck

    def kill(self, number: int) -> None:
        """Send the process a signal, if it is there to get one."""
        if self.process.exitcode is None and self.pid is not None:
            self.killed = self.killed or number == signal.SIGKILL
            try:
                os.kill(self.pid, number)
            except ProcessLookupError:
                pass

    @property
    def fault_log(self) -> str:
        """What faulthandler has written in the worker."""
        return page.read_log(self._log_fd, self.page.slots)

    def request_dump(self) -> None:
        """Have faulthandler write the main thread's stack to the fault log, if that is harmless.

        It is not if the main thread waits in C code: not every system call can be restarted, so the
        signal could end the wait. Nor if the process would die of the signal, because its code has
        undone what catches it.
        """
        number = page.DUMP_SIGNAL
        caught = _status(self.pid, "SigCgt")
        if number is None or self.state not in (None, "R"):
            return
        # Where the system does not tell, the signal is one that is ignored by default.
        if caught is None or int(caught, 16) >> (number - 1) & 1:
            self.kill(number)

    @property
    def state(self) -> str | None:
        """The main thread's: R runs, S and D wait, T and t stopped; None if the system, not being
        Linux, does not tell."""
        state = _status(self.pid, "State")
        return None if state is None else state[0]

    def take_dump(self) -> str:
        """What that has written; it is then no part of what a death may write."""
        text = self.fault_log
        page.clear_log(self._log_fd, self.page.slots)
        return text

    def exitcode(self) -> int | None:
        """The exit status of a process whose sentinel has fired; None if it cannot be known.

        After this the process is no more, also where the sentinel cannot tell its end from that of
        the fork server."""
        sleep = native.sleep
        exact = self._status_fd is not None or self.sentinel != self.process.sentinel
        patience = _EXACT_PATIENCE if exact else STATUS_PATIENCE
        waited = 0.0
        while self.process.exitcode is None and waited < patience:
            sleep(0.001)
            waited += 0.001
        if self.fate_unknown:
            self._make_sure(sleep)
            return None
        code: int | None = self.process.exitcode
        return code

    @property
    def awaits_status(self) -> bool:
        """Whether it is not known that a process of the fork server's has ended, or not how, though
        one of :attr:`ends` has told of it."""
        return self._status_fd is not None and self.process.exitcode is None

    @property
    def fate_unknown(self) -> bool:
        """Whether the fork server has ended before the process."""
        return bool(getattr(self.process, "fate_unknown", False))

    def _make_sure(self, sleep: Callable[[float], None]) -> None:
        """End a process that may not have ended."""
        waited = 0.0
        while self.pid is not None and not self.process.own_sentinel and waited < STATUS_PATIENCE:
            try:
                os.kill(self.pid, signal.SIGKILL)
            except ProcessLookupError:
                break
            sleep(0.001)
            waited += 0.001

    def close(self) -> None:
        """Let go of the process and everything that connected to it.

        The process is not closed: who has looked at the executor's processes may be waiting for
        this one. Its descriptors are closed when nobody has it any more."""
        lifecycle.close(
            self.calls_fd, self._bell_fd, self.results_fd, self._log_fd, *self._other_fds
        )
        lifecycle.close(self.sentinel)  # if it is ours
        self._channel.close()
        self.page.close()
        if self.process.exitcode is not None:  # else multiprocessing goes on thinking that it runs
            self.process.join()


def _status(pid: int | None, field: str) -> str | None:
    """What the system says of a process; None where it does not."""
    try:
        with open(f"/proc/{pid}/status", encoding="ascii", errors="replace") as file:
            return next(line.split(":")[1].strip() for line in file if line.startswith(field))
    except (OSError, StopIteration):
        return None

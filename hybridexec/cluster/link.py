"""The link to a worker on another machine. See :mod:`hybridexec.parent.engine.link`.

Thread: turn holder; :meth:`RemoteLink.arrive` and what else says so on Dask's loop.
Guarantees: never blocks. What the worker has written is read before its end is told.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from .. import native
from ..errors import ExecutorBroken, NodeLost, WorkerLost
from ..parent import lifecycle
from ..parent.launch import exit_errors
from ..parent.work.decode import THIS_CALL
from ..wire import frames, messages
from ..wire.messages import ToWorker
from ..wire.shared import Buffer, Part
from .page import RemotePage

if TYPE_CHECKING:
    from .nodes import Node

#: Up to so many bytes, the buffers of a frame are joined.
_JOINED = 64 * 1024
#: Bytes in one item: msgpack, which carries them, other calls and pulses are not kept waiting, on
#: slow networks either.
_LARGEST = 128 * 1024


class RemoteLink:
    """This end of the way to one worker."""

    process = None

    def __init__(self, node: Node, number: int, lane: str, slots: int) -> None:
        self._node = node
        self._number = number
        self.lane = lane
        self.node = node.name
        self.pid: int | None = None
        self.page = RemotePage(slots)
        self.failure: ExecutorBroken | None = None
        self.failed_stage = ""
        self.broken = False
        self.since = native.monotonic()
        self.bytes_sent = 0
        self._arrived: deque[bytes] = deque()
        self._reader = frames.FrameReader(-1)  # it is fed
        self._unsent: list[Buffer] = []
        self._urgent = False
        with contextlib.ExitStack() as opened:
            # The second is never waited for: there is always room.
            self.results_fd, self.calls_fd = self._pipe(opened)
            end, self._end_fd = self._pipe(opened)
            opened.pop_all()
        self.ends = (end,)
        self._told = False  # the pipe says that something has arrived
        self._closing = threading.Lock()
        self._open = True
        #: Set when it is known whether the worker was started.
        self.begun = threading.Event()
        #: Why it was not; and whether another try may go better.
        self.refusal: tuple[bool, str] | None = None
        self._death: exit_errors.Death | None = None
        self._cut = ""  # why the connection has ended
        self.state: str | None = None
        self._dump = ""
        self._logs: list[bytes] = []
        self._logs_dropped = 0

    @staticmethod
    def _pipe(opened: contextlib.ExitStack) -> tuple[int, int]:
        read, write = os.pipe()
        for fd in (read, write):
            lifecycle.keep(fd, opened)
            os.set_blocking(fd, False)
        return read, write

    # -- on Dask's loop ---------------------------------------------------------------------------

    def begin(self, pid: int) -> None:
        """The worker was started."""
        self.pid = pid
        self.begun.set()

    def refuse(self, later: bool, text: str) -> None:
        """It was not; ``later``: it may be if it is tried again."""
        self.refusal = later, text
        self.begun.set()

    def arrive(self, taken: int, data: bytes) -> None:
        """The worker has written this, and had taken so many calls."""
        self.page.reach(taken)
        self._arrived.append(data)
        if not self._told:
            self._told = True
            self._tell(self.calls_fd)

    def _tell(self, fd: int) -> None:
        """Have the other end of a pipe be readable, unless the engine has let go of it."""
        with self._closing:
            if self._open:
                os.write(fd, b"!")

    def update(self, header: bytes, fields: bytes, state: str | None, dump: str) -> None:
        """This is on the worker's page; see :meth:`.RemotePage.copy`."""
        with self._closing:
            if self._open:
                self.page.copy(header, fields, self._node.offset)
        self.state = state
        self._dump = dump or self._dump

    def log(self, records: bytes, dropped: int) -> None:
        """The worker has logged."""
        self._logs.append(records)
        self._logs_dropped = dropped

    def end(self, death: Sequence[Any], header: bytes, fields: bytes) -> None:
        """The worker has ended, with this on its page; all that it had written has arrived."""
        self.update(header, fields, None, "")
        self._death = exit_errors.Death(*death)
        self._tell_end()

    def cut(self, why: str) -> None:
        """The connection has ended."""
        self._cut = why
        self.page.lost = True
        self._tell_end()

    def _tell_end(self) -> None:
        self.begun.set()
        self._tell(self._end_fd)

    # -- the engine's -----------------------------------------------------------------------------

    @property
    def resident(self) -> int | None:
        """As the worker knows it."""
        return self.page.resident or None

    @property
    def bytes_received(self) -> int:
        """As :attr:`.Link.bytes_received`."""
        return self._reader.received

    def read(self, everything: bool = False) -> list[frames.Frame]:
        """The frames that have arrived."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.results_fd, 64)
        self._told = False  # before it is looked what is there
        received: list[frames.Frame] = []
        while self._arrived:
            received += self._reader.feed(self._arrived.popleft())
        return received

    def write(self, message: ToWorker, segments: Sequence[Part] = ()) -> None:
        """Queue a message."""
        head = message.head
        if type(message) is messages.Calls:
            head = self._sent(head)
        buffers = frames.encode(head, segments, None, message.distinct)
        self.bytes_sent += sum(memoryview(buffer).nbytes for buffer in buffers)
        self._unsent += buffers
        self._urgent = self._urgent or message.urgent

    def _sent(self, head: tuple[Any, ...]) -> tuple[Any, ...]:
        """Calls are being sent: count them, and tell times by the other machine's clock."""
        kind, functions, spans = head
        self.page.sent += sum(len(span[3]) for span in spans)
        offset = self._node.offset
        if not offset:
            return head
        return kind, functions, [(*span[:-1], span[-1] - offset) for span in spans]

    def flush(self, there_is_room: bool = False) -> bool:
        """Hand over what is queued."""
        if self._unsent:
            buffers, self._unsent = self._unsent, []
            urgent, self._urgent = self._urgent, False
            if sum(memoryview(buffer).nbytes for buffer in buffers) <= _JOINED:
                buffers = [b"".join(buffers)]
            for buffer in buffers:
                view = memoryview(buffer).cast("B")
                for begin in range(0, len(view), _LARGEST):
                    part = view[begin : begin + _LARGEST]
                    self._node.send(["data", self._number, urgent, part], len(part))
        return True

    def kill(self, number: int) -> None:
        """Have the node send the process a signal."""
        self._node.send(["kill", self._number, int(number)])

    def ended(self) -> float:
        """It has."""
        return 0.0

    def finish(self) -> None:
        """The process has ended. If the connection was cut instead, the node does what is left."""

    def never_ready(self, executable: str) -> ExecutorBroken:
        """See :func:`.exit_errors.never_ready`."""
        if self._death is None:
            return ExecutorBroken(f"{self._connection} was lost ({self._cut})")
        return exit_errors.never_ready(self._death, executable, self.node)

    def lost(self, running: int, calls: tuple[str, ...], goes_on: bool) -> WorkerLost:
        """See :func:`.exit_errors.lost`."""
        if self._death is not None:
            return exit_errors.lost(self._death, running, calls, goes_on=goes_on, node=self.node)
        text = (
            f"{self._connection} was lost ({self._cut}) while worker process {self.pid} there had "
            f"{THIS_CALL}; the call may have run"
        )
        return NodeLost(text, self.pid, None, running, calls, node=self.node)

    @property
    def _connection(self) -> str:
        return f"the connection to node {self.node}"

    def close(self) -> None:
        """Let go of everything."""
        self._node.forget(self._number)
        with self._closing:
            if self._open:
                self._open = False
                lifecycle.close(self.results_fd, self.calls_fd, self._end_fd, *self.ends)
                self.page.close()

    def take_logs(self, end: int | None) -> tuple[bytes, int]:
        """What the worker has logged. It is sent before the message that tells of it."""
        logs, self._logs = self._logs, []
        return b"".join(logs), self._logs_dropped

    def request_dump(self) -> None:
        """Have the node ask for the main thread's stack."""
        self._node.send(["dump", self._number])

    def take_dump(self) -> str:
        """What has come of it."""
        dump, self._dump = self._dump, ""
        return dump

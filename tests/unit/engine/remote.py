"""A link that is no local pipe: a TCP connection to something that runs calls one by one.

The far end speaks the real frames and messages, and is a thread of this process, so that a test's
functions can wait for the test. There is no status page between the two.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Callable, Sequence
from typing import Any

from hybridexec import native
from hybridexec.errors import ExecutorBroken, WorkerLost
from hybridexec.parent.work.decode import THIS_CALL
from hybridexec.wire import frames, messages, payload
from hybridexec.wire.messages import ToParent, ToWorker
from hybridexec.wire.shared import Part


class RemoteLink:
    """This end of the connection."""

    pid = process = page = state = None
    node = ""

    def __init__(self, connection: socket.socket, poller: native.Poller) -> None:
        connection.setblocking(False)
        self._socket = connection
        self._poller = poller
        self.failure: ExecutorBroken | None = None
        self.failed_stage = ""
        self.results_fd = connection.fileno()
        self.calls_fd = os.dup(self.results_fd)
        # Nothing becomes readable by itself when the connection has ended: this pipe's end does.
        self._end, self._alive = os.pipe()
        self.ends = {self._end}
        self._reader = frames.FrameReader(self.results_fd)
        self._backlog = bytearray()
        self.broken = False
        self.since = native.monotonic()
        self.bytes_sent = self.bytes_received = 0

    def read(self, everything: bool = False) -> list[frames.Frame]:
        received = []
        try:
            while (some := self._reader.read()) is not None:
                received += some
            self._break()
        except BlockingIOError:
            assert not everything, "an ended connection has an end"
        except OSError:
            self._break()
        return received

    def write(self, message: ToWorker, segments: Sequence[Part] = ()) -> None:
        self._backlog += b"".join(frames.encode(message.head, segments))

    def flush(self, there_is_room: bool = False) -> bool:
        try:
            while self._backlog:
                del self._backlog[: os.write(self.calls_fd, self._backlog)]
        except BlockingIOError:
            with contextlib.suppress(FileExistsError):
                self._poller.register(self.calls_fd, native.Poller.WRITABLE)
            return False
        except OSError:
            self._backlog.clear()
            self._break()
        self._poller.unregister(self.calls_fd)
        return True

    def _break(self) -> None:
        if not self.broken:
            self.broken = True
            os.close(self._alive)

    def kill(self, number: int) -> None:
        with contextlib.suppress(OSError):  # it has ended already
            self._socket.shutdown(socket.SHUT_RDWR)

    def ended(self) -> float:
        return 0.0

    def finish(self) -> None:
        self.kill(signal.SIGKILL)

    def never_ready(self, executable: str) -> ExecutorBroken:
        return ExecutorBroken("links are cut before they have taken a call")

    def lost(self, running: int, calls: tuple[str, ...], goes_on: bool) -> WorkerLost:
        text = f"the link was cut while {THIS_CALL} was over there"
        return WorkerLost(text, None, None, running, calls)

    def close(self) -> None:
        self._break()
        self._socket.close()
        os.close(self.calls_fd)
        os.close(self._end)

    def take_logs(self, end: int | None) -> tuple[bytes, int]:
        return b"", 0

    def request_dump(self) -> None:
        raise AssertionError("nobody knows how its hub is")

    def take_dump(self) -> str:
        raise AssertionError("nothing was dumped")


class FarEnd:
    """The other end: runs calls on a thread of its own."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._functions: dict[int, Any] = {}
        #: The ids of the calls that were started.
        self.started: list[int] = []
        self._cut = False
        self.thread = threading.Thread(target=self._run)
        self.thread.start()

    def cut(self) -> None:
        """Cut the connection; a call that runs goes on."""
        self._cut = True
        self._socket.shutdown(socket.SHUT_RDWR)

    def _run(self) -> None:
        # Cut, or reset by the other side.
        with self._socket, contextlib.suppress(OSError):
            self._send(messages.Hello())
            reader = frames.FrameReader(self._socket.fileno())
            while (received := reader.read()) is not None:
                for (kind, *fields), segments in received:
                    if kind == messages.Calls.kind:
                        functions, spans = fields
                        self._take(functions, spans, segments)
                    elif kind == messages.NotifyLow.kind:
                        self._send(messages.LowWatermark())
                    elif kind == messages.Recall.kind:
                        self._send(messages.Recalled([]))
                    elif kind == messages.Stop.kind:
                        return

    def _take(self, functions: Any, spans: Any, segments: Sequence[Part]) -> None:
        for number, pickled, _ in functions:
            self._functions[number] = payload.loads(frames.extract(pickled, segments))
        for function, _, first, items, bare, *_ in spans:
            named = type(function) is int  # else it is for one use
            run = self._functions[function] if named else _loads(function, segments)
            for call, item in enumerate(items, first):
                if self._cut:
                    return
                self.started.append(call)
                args, kwargs = (item,), {}
                if not bare:
                    args, kwargs = (item, {}) if type(item) is tuple else _loads(item, segments)
                self._answer(call, run(*args, **kwargs))

    def _answer(self, call: int, value: object) -> None:
        status, segments = messages.VALUE, list[Part]()
        if not payload.is_plain(value):
            status, value = messages.PICKLED, frames.embed(payload.dumps(value), segments)
        self._send(messages.Results([(call, status, value, None)], []), segments)

    def _send(self, message: ToParent, segments: Sequence[Part] = ()) -> None:
        for buffer in frames.encode(message.head, segments):
            self._socket.sendall(buffer)


def _loads(item: Any, segments: Sequence[Part]) -> Any:
    return payload.loads(frames.extract(item, segments))


class RemoteLauncher:
    """Connects to a new far end for each worker."""

    method = "remote"
    executable = ""
    worker_logs = False

    def __init__(self) -> None:
        self.far_ends: list[FarEnd] = []

    def start(
        self, number: int, lane: str, pressed: Callable[[], bool] | None = None
    ) -> socket.socket:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            ours = socket.create_connection(listener.getsockname())
            self.far_ends.append(FarEnd(listener.accept()[0]))
        return ours

    def connect(self, started: socket.socket, poller: native.Poller) -> RemoteLink:
        return RemoteLink(started, poller)

    def give_up(self, lane: str) -> None:
        pass

    def nodes(self) -> tuple[()]:
        return ()

    def become_inert(self) -> None:
        raise AssertionError("nobody forks")

    def close(self) -> None:
        for far_end in self.far_ends:
            far_end.thread.join(30)
            assert not far_end.thread.is_alive()

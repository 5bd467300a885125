"""A connection to a fake process, and the other ends of its pipes."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from hybridexec import native
from hybridexec.parent import lifecycle
from hybridexec.parent.engine.connection import Connection
from hybridexec.wire import messages
from hybridexec.wire.frames import FrameReader, encode
from hybridexec.wire.page import StatusPage, create_fd
from hybridexec.wire.shared import Channel, open_channel


class FakeProcess:
    """As much of a multiprocessing.Process as a connection asks for."""

    pid = 4711
    sentinel = -1

    def __init__(self) -> None:
        self.exitcode: int | None = None
        self.forgotten = False

    def join(self) -> None:
        assert self.exitcode is not None, "it would wait"
        self.forgotten = True


class Ends:
    """A connection and the worker's ends of its pipes."""

    def __init__(self) -> None:
        self.calls_read, calls_write = os.pipe()
        self.bell_read, bell_write = os.pipe()
        results_read, self.results_write = os.pipe()
        for fd in (calls_write, results_read, bell_write, self.bell_read):
            os.set_blocking(fd, False)
        #: As the worker has it: what is written to it goes to the fault log.
        self.status_fd = create_fd(1)
        lifecycle.keep_from_children(calls_write, bell_write, results_read)
        self.channel, other = open_channel()
        self.worker_channel = Channel(other)
        started: Any = SimpleNamespace(
            process=FakeProcess(),
            page=StatusPage(self.status_fd, 1),
            calls_fd=calls_write,
            bell_fd=bell_write,
            results_fd=results_read,
            exact=True,
            channel=self.channel,
            other_fds=(),
        )
        self.poller = native.Poller()
        self.connection = Connection(started, self.poller)
        self.worker = FrameReader(self.calls_read, self.worker_channel.take)

    def close(self) -> None:
        self.connection.close()
        self.poller.close()
        self.worker_channel.close()
        for fd in (self.calls_read, self.bell_read, self.results_write, self.status_fd):
            try:
                os.close(fd)
            except OSError:
                pass


def result_frame(number: int, *segments: bytes) -> bytes:
    return b"".join(bytes(b) for b in encode((messages.Results.kind, number), segments))

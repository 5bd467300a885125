"""Makes multiprocessing's pipes and connections wait in the hub, a message at a time.

Thread: any thread or greenlet of a patched worker.
Guarantees: a message that has begun to be sent or received is finished, even if the call is
stopped, so that the next reader or writer, in this process or another, finds whole messages. If
that takes too long, the connection is closed in this process.

A connection made from a patched socket has a non-blocking descriptor, on which plain ``os.read``
and ``os.write`` fail with BlockingIOError. Others block, and the hub with them.
"""

from __future__ import annotations

import io
import os
import selectors
from collections.abc import Callable
from typing import Any

from gevent._hub_local import get_hub_if_exists
from gevent._waiter import Waiter

from ... import native
from . import connects, shield

#: What the kernel takes without blocking once it says that a descriptor is writable.
_ATOMIC_WRITE = 4096
_MAX_READ = 1024 * 1024
#: For how many seconds a call that is to be stopped waits for its message to go on. The other end
#: may never do anything, and a call that cannot be stopped costs its worker.
_PATIENCE = 0.5
#: For so long a pipe that is always ready is used without a pause for others.
_TURN_SECONDS = 0.005

_READ, _WRITE = 1, 2  # the loop's names for them
_poll: Callable[[], Any] = native.original("select", "poll")
_paused = 0.0  # when somebody last gave way


def mend(connection: Any) -> None:
    """Mend ``multiprocessing.connection``."""
    kind = connection.Connection
    kind._send, kind._recv, kind._poll = _send, _receive, _is_readable
    kind._send_bytes = _whole(kind._send_bytes)
    kind._recv_bytes = _whole(kind._recv_bytes)
    connection._WaitSelector = selectors.DefaultSelector
    connects.mend(connection)


def _whole(transfer: Callable[..., Any]) -> Callable[..., Any]:
    """A message's transfer, whose first byte begins what must be finished."""

    def whole(self: Any, *arguments: Any) -> Any:
        with shield.Shield(begun=False) as message:
            try:
                return transfer(self, *arguments)
            except BaseException:
                if message.begun:
                    # What follows would be taken for the rest of the message, or its rest for what
                    # follows.
                    self.close()
                raise

    return whole


def _send(self: Any, data: Any, write: Callable[[int, Any], int] = os.write) -> None:
    view = memoryview(data)
    fd = self._handle
    step = _ATOMIC_WRITE if os.get_blocking(fd) else len(view)
    while view:
        _wait(fd, _WRITE)
        try:
            view = view[write(fd, view[:step]) :]
        except BlockingIOError:
            continue
        shield.begin()


def _receive(self: Any, size: int, read: Callable[[int, int], bytes] = os.read) -> io.BytesIO:
    received = io.BytesIO()
    fd = self._handle
    missing = size
    while missing:
        _wait(fd, _READ)
        try:
            data = read(fd, min(missing, _MAX_READ))
        except BlockingIOError:
            continue
        if not data:
            if missing == size:
                raise EOFError
            raise OSError("got end of file during message")
        received.write(data)
        missing -= len(data)
        shield.begin()
    return received


def _is_readable(self: Any, timeout: float | None) -> bool:
    return _wait(self._handle, _READ, timeout)


def _wait(fd: int, event: int, timeout: float | None = None) -> bool:
    """Wait until ``fd`` is ready, or the time is up; whether it is ready."""
    global _paused
    hub = get_hub_if_exists()
    if hub is None:
        seconds = None if timeout is None else max(0.0, timeout * 1000)
        return _is_ready(fd, event, seconds)
    rested = timeout is not None or native.monotonic() - _paused < _TURN_SECONDS
    if rested and _is_ready(fd, event, 0):
        return True
    if timeout is not None and timeout <= 0:
        return False
    waiter: Waiter[bool] = Waiter(hub)
    watcher = hub.loop.io(fd, event)
    watcher.start(waiter.switch, True)
    timer: Any = None
    if timeout is not None:
        timer = hub.loop.timer(timeout)
        timer.start(waiter.switch, False)
    try:
        while True:
            ready = bool(shield.pause(waiter, _PATIENCE))
            # Somebody else may have been woken for it, too, and have been faster.
            if not ready or _is_ready(fd, event, 0):
                return ready
            waiter.clear()
    finally:
        _paused = native.monotonic()
        watcher.stop()
        watcher.close()
        if timer is not None:
            timer.close()


def _is_ready(fd: int, event: int, milliseconds: float | None) -> bool:
    poll = _poll()
    poll.register(fd, native.Poller.READABLE if event == _READ else native.Poller.WRITABLE)
    return bool(poll.poll(milliseconds))

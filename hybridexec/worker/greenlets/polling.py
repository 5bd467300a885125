"""``select.epoll``, which gevent removes, as one that does not block the hub: trio needs it.

Thread: any thread or greenlet; threads without a hub block as usual.
Guarantees: the events are those of the system's own epoll, with all its flags; only the wait for
them is the hub's.

An epoll's descriptor is readable when there are events, so the hub can watch that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent._hub_local import get_hub_if_exists
from gevent.hub import Waiter, get_hub
from gevent.monkey import get_original

from ... import native

_epoll: Any = get_original("select", "epoll")


class epoll:  # its name
    """``select.epoll``."""

    def __init__(self, sizehint: int = -1, flags: int = 0) -> None:
        self._have(_epoll(sizehint, flags))

    @classmethod
    def fromfd(cls, fd: int, /) -> epoll:
        """As there."""
        made = cls.__new__(cls)
        made._have(_epoll.fromfd(fd))
        return made

    def _have(self, real: Any) -> None:
        self._real = real
        self.register: Callable[..., None] = real.register
        self.modify: Callable[..., None] = real.modify
        self.unregister: Callable[..., None] = real.unregister
        self.fileno: Callable[[], int] = real.fileno
        self.close: Callable[[], None] = real.close

    @property
    def closed(self) -> bool:
        """Whether it is."""
        return bool(self._real.closed)

    def poll(self, timeout: float | None = None, maxevents: int = -1) -> list[tuple[int, int]]:
        """As there; others go on meanwhile."""
        poll = self._real.poll
        if get_hub_if_exists() is None:
            return poll(timeout, maxevents)  # type: ignore[no-any-return]  # the system's
        end = None if timeout is None or timeout < 0 else native.monotonic() + timeout
        found: list[tuple[int, int]] = poll(0, maxevents)
        if found or timeout == 0:
            gevent.sleep(0)  # who never waits keeps no others from running
            return found
        while not found:
            left = None if end is None else end - native.monotonic()
            if left is not None and left <= 0:
                break
            _wait(self.fileno(), left)
            found = poll(0, maxevents)
        return found

    def __enter__(self) -> epoll:
        self.fileno()  # refuses to if it is closed
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


def _wait(fd: int, seconds: float | None) -> None:
    """Wait until a descriptor is readable, for so long at most. Nothing is raised when it is over:
    a call in which something is has a new runner take its place."""
    hub = get_hub()
    waiter: Any = Waiter(hub)
    watchers: list[Any] = [hub.loop.io(fd, 1)]
    if seconds is not None:
        watchers.append(hub.loop.timer(seconds))
    try:
        for watcher in watchers:
            watcher.start(waiter.switch, None)
        waiter.get()
    finally:
        for watcher in watchers:
            watcher.close()


epoll.__module__ = "select"

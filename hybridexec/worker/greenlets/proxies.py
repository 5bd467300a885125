"""Lets many calls use a manager's proxies, though each may be stopped at any moment.

Thread: any thread or greenlet of a patched worker.
Guarantees: a connection with an outstanding reply is not used for another request; what the manager
has done by then for a call that is gone, and nobody else could undo, is undone.

A proxy keeps a connection per thread, which here means per greenlet, and a runner runs one call
after another: the reply to a request whose call was stopped would be taken for the reply to the
next one's. So that connection is *abandoned*, and the next request makes another. But the manager
has a thread that still waits, in a queue's ``get``, say, and would take the next item for a call
that is gone. So the reply is awaited in the background, and the item put back, or the lock
released.
"""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Callable
from functools import partial
from multiprocessing.reduction import ForkingPickler
from typing import Any

import gevent
from gevent._hub_local import get_hub_if_exists
from gevent.queue import SimpleQueue

from .shield import Shield

#: What belongs to the manager's thread that has acquired it, and so to a connection.
_OWNED = ("RLock", "Condition")


def mend(managers: Any) -> None:
    """Mend ``multiprocessing.managers``."""
    proxy = managers.BaseProxy
    connect, call = proxy._connect, proxy._callmethod
    # In a forked worker there may be some whose greenlets would all share a connection.
    known = proxy._address_to_local
    for address, (_, idents) in list(known.items()):
        known[address] = managers.util.ForkAwareLocal(), idents
    for found in gc.get_objects() if known else ():
        if issubclass(type(found), proxy):  # which looks at no attribute
            local = known.get(found._token.address)
            if local is not None:  # else its manager is gone
                found._tls = local[0]

    def connect_anew(self: Any) -> None:
        connect(self)
        self._tls.connection = _Exchange(self._tls.connection)

    def call_method(self: Any, name: str, args: Any = (), kwds: Any = None) -> Any:
        local = self._tls.__dict__
        owned = self._token.typeid in _OWNED
        if owned and name == "release":
            for abandoned in local.get("abandoned", ()):
                if abandoned.release(self._id):
                    return None
        try:
            result = call(self, name, args, {} if kwds is None else kwds)
        except BaseException:
            exchange = local.get("connection")
            if exchange is not None and exchange.unfinished:
                del local["connection"]
                kept = [one for one in local.get("abandoned", ()) if not one.closed]
                local["abandoned"] = [*kept, exchange]
                exchange.abandon(hasattr(self, "task_done"))
            raise
        if owned and (name == "release" or (name == "acquire" and result)):
            local["connection"].acquired[self._id] += 1 if name == "acquire" else -1
        return result

    proxy._connect = connect_anew
    proxy._callmethod = call_method


class _Exchange:
    """A proxy's connection, on which one request after another is sent and answered."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self.close = connection.close
        # A connection that is not pickle's has a serializer of its own.
        self._loads: Callable[[bytes], Any] = getattr(connection, "_loads", ForkingPickler.loads)
        #: Whether a request was not answered, as far as anybody knows.
        self.unfinished = False
        self._request: tuple[Any, str] | None = None
        self._reply: bytes | None = None
        #: What belongs to the thread at the other end, and how many times.
        self.acquired: Counter[Any] = Counter()
        self._releases: SimpleQueue[Any] = SimpleQueue()

    @property
    def closed(self) -> bool:
        """Whether there is no more to come."""
        return bool(self._connection.closed)

    def send(self, request: tuple[Any, ...]) -> None:
        """Send a request."""
        self._request = self._reply = None
        self.unfinished = True
        with Shield(begun=False):
            self._connection.send(request)
            self._request = request[:2]

    def recv(self) -> Any:
        """Wait for the answer."""
        with Shield(begun=False):
            self._reply = self._connection.recv_bytes()
        reply = self._loads(self._reply)
        self.unfinished = False
        return reply

    def abandon(self, queue: bool) -> None:
        """Whoever has sent the request is gone. It may have been one to a queue."""
        hub = get_hub_if_exists()
        if hub is None or self._request is None:
            self.close()
        else:
            # By the hub, so that the greenlet is not taken for the call's.
            hub.loop.run_callback(gevent.spawn, partial(self._undo, *self._request, queue))

    def release(self, ident: Any) -> bool:
        """Give back, as soon as it can be, what was acquired on this connection; false if it was
        not."""
        if self.closed or not self.acquired[ident]:
            return False
        self.acquired[ident] -= 1
        self._releases.put(ident)
        return True

    def _undo(self, ident: Any, method: str, queue: bool) -> None:
        try:
            if self._reply is None:
                self._reply = self._connection.recv_bytes()
            kind, value = self._loads(self._reply)
            if kind == "#RETURN":
                if method == "acquire" and value:
                    self._ask(ident, "release")
                elif method.startswith("get") and queue:
                    self._ask(ident, "put", value)
                    self._ask(ident, "task_done")
            while self.acquired.total() or not self._releases.empty():
                self._ask(self._releases.get(), "release")
        except Exception:
            pass  # the manager is gone, or what it has sent cannot be read
        finally:
            self.close()

    def _ask(self, ident: Any, method: str, *arguments: Any) -> None:
        self._connection.send((ident, method, arguments, {}))
        self._connection.recv_bytes()

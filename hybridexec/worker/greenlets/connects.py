"""Makes calls connect to one of multiprocessing's listeners one after another.

Thread: any greenlet of a patched worker; threads without a hub do not wait for their turn.
Guarantees: of all calls of an executor, in whichever worker, one at a time connects to an address.
(On systems without abstract socket names, one in each worker.)

A listener accepts one connection after another, and those for which its backlog has no room may be
lost: with TCP, their clients believe that they are connected, and wait. A manager's backlog is 16
before Python 3.12, a ``Listener``'s is 1.

Among the workers, the turn belongs to whoever has bound a socket to a name: that takes no file, and
ends with the process.
"""

from __future__ import annotations

import _socket
import binascii
import errno
import functools
import os
import weakref
from collections.abc import Callable
from contextlib import closing
from types import FunctionType
from typing import Any

from gevent import sleep
from gevent._hub_local import get_hub_if_exists
from gevent.lock import Semaphore

from ... import native

#: Seconds between two looks whether it is our turn, the first and the longest.
_FIRST_PAUSE, _LAST_PAUSE = 0.0005, 0.01
#: For how many seconds a worker waits for its turn: who has it may be stuck.
_PATIENCE = 10.0

_connecting: weakref.WeakValueDictionary[Any, Semaphore] = weakref.WeakValueDictionary()


def mend(connection: Any) -> None:
    """Mend ``multiprocessing.connection``."""
    # In place: in a forked worker somebody may have it already.
    client = connection.Client
    copy = FunctionType(client.__code__, vars(connection), client.__name__, client.__defaults__)
    connection._connect_in_turn = _one_by_one(copy)
    client.__code__ = _in_turn.__code__


def _in_turn(address, family=None, authkey=None):  # type: ignore[no-untyped-def]  # only its code is used
    # It is run with the other module's names, which has it.
    return _connect_in_turn(address, family, authkey)  # type: ignore[name-defined]  # noqa: F821


def _one_by_one(connect: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(connect)
    def client(address: Any, *arguments: Any, **named: Any) -> Any:
        if get_hub_if_exists() is None:
            return connect(address, *arguments, **named)
        with (
            _connecting.setdefault(address, Semaphore(1)),
            closing(_socket.socket(_socket.AF_UNIX, _socket.SOCK_DGRAM)) as token,
        ):
            _claim(token, f"\0hybridexec-{os.getppid()}-{_digest(address)}")
            return connect(address, *arguments, **named)

    return client


def _digest(address: Any) -> int:
    return binascii.crc32(repr(address).encode(errors="replace"))


def _claim(token: Any, name: str) -> None:
    """Wait until nobody else has the name."""
    end = native.monotonic() + _PATIENCE
    pause = _FIRST_PAUSE
    while True:
        try:
            token.bind(name)
        except OSError as error:
            if error.errno != errno.EADDRINUSE or native.monotonic() > end:
                return
        else:
            return
        sleep(pause)
        pause = min(2 * pause, _LAST_PAUSE)

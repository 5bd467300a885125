"""Answers those who look at an executor from outside: ``hybridexec top`` and its relatives.

Thread: :meth:`Monitor.begin` on the one that starts the engine, :meth:`Monitor.end` on any; in
between a native thread of its own, also where gevent has patched threading.
Guarantees: who connects is of the same user, or root; nothing can be changed by what they ask;
whatever they send or do not read, they keep neither calls nor one another waiting, and what is kept
for them is bounded. The socket goes away with the executor, and with its process unless that is
killed. A forked process has nothing of it.

A request is a line with one word. The answer is a line of JSON: for ``view`` what
:func:`.view.view` returns, and ``program`` and ``executor`` (its number in the process); for
``stacks``, instead of a view, ``workers`` (see :mod:`.stacks`); for all that is not understood
``{"error": ...}``.
"""

from __future__ import annotations

import _socket
import contextlib
import itertools
import json
import logging
import os
import struct
import sys
from typing import TYPE_CHECKING, Any

from .. import native
from .place import Folder, make_folder, socket_name
from .view import view

if TYPE_CHECKING:
    from ..parent.engine.watched import Watched

#: How many may be connected at once. If there are more, who has been there longest must go.
_MOST = 16
#: How many may wait to be let in: to others it looks as if there were nothing.
_BACKLOG = 128
#: Bytes of a request at most.
_LONGEST = 64
#: Seconds after an answer in which there is no other: looking costs the program time.
_PAUSE = 0.02
#: Characters of the program's name at most.
_LONGEST_PROGRAM = 500
#: Whoever is gone is no reason for a SIGPIPE, which a program may have made fatal.
_NO_SIGNAL: int = getattr(_socket, "MSG_NOSIGNAL", 0)
_logger = logging.getLogger("hybridexec")
_numbers = itertools.count(1)


class Monitor:
    """One executor's."""

    def __init__(self, watched: Watched) -> None:
        self._watched = watched
        self._number = next(_numbers)
        self._name = socket_name(os.getpid(), self._number)
        self._folder: Folder | None = None
        self._listener: Any = None
        # Readable when it is over: it was closed at the other end.
        self._over, self._end = -1, -1
        self._poller: native.Poller | None = None
        self._clients: dict[int, _Client] = {}

    def begin(self) -> None:
        """Listen, if that is possible; else that is logged."""
        try:
            self._open()
            native.start_thread(self._run, "hybridexec-monitor", deaf=True)
        except (OSError, RuntimeError) as error:
            self._close()
            _logger.warning("this executor cannot be watched from outside: %s", error)
        except BaseException:
            self._close()
            raise

    def _open(self) -> None:
        self._folder = folder = make_folder()
        self._over, self._end = os.pipe()
        self._listener = listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
        listener.setblocking(False)
        hidden = f".{self._name}"
        folder.remove(hidden)
        listener.bind(folder.address(hidden))
        listener.listen(_BACKLOG)
        folder.rename(hidden, self._name)
        self._poller = poller = native.Poller()
        for fd in (self._over, listener.fileno()):
            poller.register(fd, native.Poller.READABLE)

    def end(self) -> None:
        """There is nothing more to see."""
        folder, end = self._folder, self._end
        self._folder, self._end = None, -1
        if folder is not None:
            with contextlib.suppress(OSError):
                folder.remove(self._name)
            folder.close()
        if end >= 0:
            native.close(end)  # the thread does the rest

    def let_go(self) -> None:
        """This process is a fork: the socket is its parent's."""
        folder, self._folder = self._folder, None
        if folder is not None:
            folder.close()
        self._close()

    def _close(self) -> None:
        self.end()
        for client in self._clients.values():
            client.close()
        self._clients = {}
        if self._poller is not None:
            self._poller.close()
        if self._listener is not None:
            self._listener.close()
        if self._over >= 0:
            native.close(self._over)
            self._over = -1

    # -- on its own thread --------------------------------------------------------------------

    def _run(self) -> None:
        poller, listening = self._poller, self._listener.fileno()
        assert poller is not None
        try:
            while True:
                for fd, _ in poller.wait(None):
                    if fd == self._over:
                        return
                    if fd == listening:
                        self._accept(poller)
                    elif fd in self._clients:
                        self._serve(self._clients[fd], poller)
        finally:
            self._close()

    def _accept(self, poller: native.Poller) -> None:
        try:
            fd, _ = self._listener._accept()
        except OSError:  # it has gone again, or there are no descriptors left
            native.sleep(_PAUSE)
            return
        client = _Client(fd)
        if not client.may_ask():
            client.close()
            return
        if len(self._clients) >= _MOST:
            self._drop(next(iter(self._clients.values())), poller)
        self._clients[fd] = client
        poller.register(fd, native.Poller.READABLE)

    def _serve(self, client: _Client, poller: native.Poller) -> None:
        try:
            if client.unsent:
                client.send()
            # While there is something to send, nothing more is read; and one request at a time,
            # so that who never ceases to ask hides neither the others nor the end.
            if not client.unsent and (request := client.receive()) is not None:
                client.unsent = json.dumps(self._answer(request)).encode() + b"\n"
                client.send()
                native.sleep(_PAUSE)
        except OSError:
            self._drop(client, poller)
            return
        wanted = native.Poller.WRITABLE if client.unsent else native.Poller.READABLE
        poller.modify(client.fd, wanted)

    def _drop(self, client: _Client, poller: native.Poller) -> None:
        poller.unregister(client.fd)
        del self._clients[client.fd]
        client.close()

    def _answer(self, request: str) -> dict[str, Any]:
        try:
            if request == "view":
                told = view(self._watched)
            elif request == "stacks":
                told = {"pid": os.getpid(), "workers": self._watched.stacks()}
            else:
                return {"error": "the requests are: view, stacks"}
        except Exception as error:  # of ours; those who look shall know
            return {"error": repr(error)}
        return {"program": _program(), "executor": self._number, **told}


class _Client:
    """Somebody who looks."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._socket = _socket.socket(fileno=fd)
        self._socket.setblocking(False)
        self._received = b""
        self.unsent = b""

    def may_ask(self) -> bool:
        """Whether it is of this user, or root, who may look into any process. (Where the system
        does not tell, the folder has kept all others out.)"""
        kind = getattr(_socket, "SO_PEERCRED", None)
        if kind is None:
            return True
        try:
            found = self._socket.getsockopt(_socket.SOL_SOCKET, kind, struct.calcsize("3i"))
        except OSError:
            return False
        return struct.unpack("3i", found)[1] in (os.geteuid(), 0)

    def receive(self) -> str | None:
        """The next request, if it is there.

        Raises:
            OSError: there will be none, or it is too long to be one.
        """
        try:
            found = self._socket.recv(_LONGEST, _socket.MSG_PEEK)
        except BlockingIOError:
            return None
        # What follows the line is left there, so that the poller tells of it again.
        self._received += self._socket.recv(found.find(b"\n") + 1 or len(found))
        if not found or len(self._received) > 2 * _LONGEST:
            raise OSError("it has ended, or sends something else")
        if not self._received.endswith(b"\n"):
            return None
        line, self._received = self._received, b""
        return line.decode("ascii", "replace").strip()

    def send(self) -> None:
        """Send what there is to send, as far as it fits.

        Raises:
            OSError: nobody is there any more.
        """
        with contextlib.suppress(BlockingIOError):
            self.unsent = self.unsent[self._socket.send(self.unsent, _NO_SIGNAL) :]

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()


def _program() -> str:
    """What the process runs, in a line."""
    return " ".join(sys.orig_argv)[:_LONGEST_PROGRAM]

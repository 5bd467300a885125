"""The live page: a server for browsers, on a thread of its own.

Thread: any may make and close one; the server's loop and all documents are on its thread.
Guarantees: it is reached from this machine only, unless that was asked for; calls do not wait for
it; it ends with the executor, or with the process.
"""

from __future__ import annotations

import asyncio
import atexit
import ipaddress
import os
import secrets
import socket
import threading
from concurrent.futures import Future
from functools import partial
from typing import TYPE_CHECKING

from bokeh.application import Application
from bokeh.application.handlers import FunctionHandler
from bokeh.server.server import BaseServer
from tornado.httpserver import HTTPServer
from tornado.ioloop import IOLoop

from ... import native
from .document import Page
from .gate import Gate, is_address
from .record import Record, record

if TYPE_CHECKING:
    from bokeh.document import Document

    from ...parent.engine.watched import Watched

#: How often, in milliseconds, a page shows what is new; if to look takes long, after so many times
#: that, not to keep calls waiting.
_EVERY, _PAUSE = 1000, 30
#: How long, in seconds, to wait for the thread's end.
_PATIENCE = 5.0


class Dashboard:
    """What ``executor.dashboard()`` returns: a live page of an executor.

    It can be used in a ``with`` statement, which closes it.

    Attributes:
        url: the page's address, with the token that it takes to see it.
    """

    url: str

    def __init__(self, watched: Watched, port: int, address: str, allow_remote: bool) -> None:
        if native.is_patched("threading"):
            raise RuntimeError(
                "dashboard() needs a thread of its own, and gevent has patched threading in this "
                "process; executor.report() works here"
            )
        remote = not _is_loopback(address)
        if remote and not allow_remote:
            raise ValueError(
                f"{address!r} can be reached from other machines, and who has the page's url sees "
                "calls' arguments and errors, over a connection that is not encrypted: if that is "
                "wanted, say allow_remote=True. A tunnel needs neither: "
                "ssh -L 8787:127.0.0.1:PORT HOST"
            )
        self._watched = watched
        self._process = os.getpid()
        self._ended = asyncio.Event()
        # The last record, and when the next may be made.
        self._record: Record | None = None
        self._due = 0.0
        # What happens first: it serves, or it cannot.
        self._began: Future[asyncio.AbstractEventLoop] = Future()
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._socket = socket.create_server((address, port), family=family)
        try:
            self._socket.setblocking(False)
            watched.keep_from_children(self._socket.fileno())
            token = secrets.token_urlsafe()
            application = Application(FunctionHandler(self._open))
            gate = Gate(application, token, _names(address), any_address=remote)
            self._thread = threading.Thread(
                target=self._run, args=(gate,), name="hybridexec-dashboard", daemon=True
            )
            self._thread.start()
            self._loop = self._began.result()
        except BaseException:
            watched.release(self._socket.fileno())
            self._socket.close()
            raise
        port = self._socket.getsockname()[1]
        self.url = f"http://{_host(address)}:{port}/{token}/"
        atexit.register(self.close)  # where the executor has not had a call, nobody else does
        if not watched.accompany(self):
            self.close()
            raise RuntimeError(
                "the executor has ended, and a dashboard ends with it; executor.report() writes "
                "what it did"
            )

    def close(self) -> None:
        """Serve no longer. Pages that are open stay as they are."""
        self._watched.leave(self)
        self.end()
        self.join(_PATIENCE)

    def __enter__(self) -> Dashboard:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Dashboard {self.url}>"

    # -- as a companion of the executor -----------------------------------------------------------

    def end(self) -> None:
        """End soon."""
        atexit.unregister(self.close)
        if os.getpid() == self._process:  # a fork has no such thread
            try:
                self._loop.call_soon_threadsafe(self._ended.set)
            except RuntimeError:  # it has ended
                pass

    def join(self, seconds: float) -> None:
        """Wait until it has ended, for so many seconds at most."""
        if os.getpid() == self._process and threading.current_thread() is not self._thread:
            self._thread.join(seconds)

    # -- on the server's thread -------------------------------------------------------------------

    def _run(self, gate: Gate) -> None:
        asyncio.run(self._serve(gate))

    async def _serve(self, gate: Gate) -> None:
        try:
            http = HTTPServer(gate)
            http.add_socket(self._socket)
            server = BaseServer(IOLoop.current(), gate, http)
            server.start()
        except BaseException as error:
            self._began.set_exception(error)
            return
        self._began.set_result(asyncio.get_running_loop())
        await self._ended.wait()
        self._record = None
        for session in server.get_sessions():
            # The last that there is to see.
            await session.with_document_locked(partial(_show, session.document))
        self._watched.release(self._socket.fileno())
        server.stop()
        await http.close_all_connections()

    def _open(self, document: Document) -> None:
        """A browser has asked for the page."""
        page = Page(document, self._look())
        document.add_periodic_callback(lambda: page.show(self._look()), _EVERY)

    def _look(self) -> Record:
        """What the executor has done by now, for all tabs."""
        now = native.monotonic()
        if self._record is None or now >= self._due:
            self._record = record(self._watched)
            self._due = now + max(_EVERY / 2000, _PAUSE * (native.monotonic() - now))
        return self._record


def _show(document: Document) -> None:
    for callback in document.session_callbacks:
        callback.callback()


def _is_loopback(address: str) -> bool:
    return address == "localhost" or (
        is_address(address) and ipaddress.ip_address(address).is_loopback
    )


def _names(address: str) -> set[str]:
    """What a server on this address goes by."""
    if _is_loopback(address):
        return {"localhost", "127.0.0.1", address.lower()}
    return {"localhost", socket.gethostname().lower(), socket.getfqdn().lower(), address.lower()}


def _host(address: str) -> str:
    """What stands in an address for a browser."""
    if address in {"", "0.0.0.0", "::"}:  # all there are
        return socket.gethostname()
    return f"[{address}]" if ":" in address else address

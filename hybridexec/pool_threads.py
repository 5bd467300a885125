"""What a ``Pool`` does in threads of its own: it reads the user's iterables, and calls callbacks.

Thread: methods on any thread of the caller's, and :meth:`CallbackThread.post` where outcomes are
delivered.
Guarantees: neither an iterable that waits nor a callback that does keeps results from arriving, but
for those that have callbacks; callbacks are called one at a time, in the order in which results
arrive; no thread keeps a pool alive, or the process.
"""

from __future__ import annotations

import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .parent.client.fed import FedStream
    from .pool_results import AsyncResult

#: For how long, in seconds, a thread waits for another callback before it ends.
_LINGER = 1.0


class Feeders:
    """A thread for each iterable that is being read."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._running = 0
        self._then: Callable[[], None] | None = None
        self._streams: weakref.WeakSet[FedStream] = weakref.WeakSet()

    def add(self, stream: FedStream) -> None:
        """Have this one stopped by :meth:`stop`."""
        with self._changed:
            self._streams.add(stream)

    def feed(self, stream: FedStream, wait: bool) -> None:
        """Feed a stream: here, and the rest in a thread if it has to wait, unless it is to
        ``wait`` here."""
        with self._changed:
            self._running += 1
        try:
            if not stream.feed(wait):
                self.start(stream)
        finally:
            self._end()

    def start(self, stream: FedStream) -> None:
        """Feed a stream in a thread."""
        with self._changed:
            self._running += 1
        thread = threading.Thread(
            target=self._feed, args=[stream], name="hybridexec-feeder", daemon=True
        )
        try:
            thread.start()
        except BaseException:
            self._end()
            raise

    def _feed(self, stream: FedStream) -> None:
        try:
            stream.feed(wait=True)
        except BaseException as error:
            stream.stop(error)
        finally:
            self._end()

    def _end(self) -> None:
        with self._changed:
            self._running -= 1
            self._changed.notify_all()
            then = None
            if not self._running:
                then, self._then = self._then, None
        if then is not None:
            then()

    def call_when_idle(self, then: Callable[[], None]) -> None:
        """Call ``then`` when no iterable is being read: now, or in the thread that ends."""
        with self._changed:
            if self._running:
                self._then = then
                return
        then()

    def stop(self, error: BaseException) -> None:
        """Read no more; each stream that was not read to its end gets ``error`` as its last
        outcome."""
        with self._changed:
            streams = list(self._streams)
        for stream in streams:
            stream.stop(error)

    def join(self) -> None:
        """Wait until no iterable is being read."""
        with self._changed:
            while self._running:
                self._changed.wait(0.5)  # so that Ctrl-C is heard


class CallbackThread:
    """One thread at a time, while there are callbacks to be called."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._results: deque[AsyncResult[Any]] = deque()
        self._thread: threading.Thread | None = None
        self._stopped = False
        self._busy = False

    def post(self, result: AsyncResult[Any]) -> None:
        """Have the callback called of a result that has come."""
        with self._changed:
            if not self._stopped:
                self._results.append(result)
                if self._thread is None:
                    self._thread = threading.Thread(
                        target=self._run, name="hybridexec-callbacks", daemon=True
                    )
                    self._thread.start()
                self._changed.notify_all()
                return
        result.finish(call=False)

    def _run(self) -> None:
        while True:
            with self._changed:
                self._busy = False
                self._changed.notify_all()
                while not self._results:
                    if self._stopped or not self._changed.wait(_LINGER):
                        if self._results:
                            break
                        self._thread = None
                        return
                result = self._results.popleft()
                self._busy = True
            result.finish(call=True)
            del result

    def stop(self) -> None:
        """Call no more callbacks: results that have come, and those to come, are ready at once."""
        with self._changed:
            self._stopped = True
            results, self._results = self._results, deque()
            self._changed.notify_all()
        for result in results:
            result.finish(call=False)

    def join(self) -> None:
        """Wait until all callbacks have returned, of results of which there will be no more; in
        one of them, return at once."""
        with self._changed:
            while self._results or self._busy:
                if threading.current_thread() is self._thread:
                    return
                self._changed.wait(0.5)  # so that Ctrl-C is heard
        self.stop()

"""What the methods of a ``Pool`` return that do not wait: results to come.

Thread: any thread of the caller's.
Guarantees: a result becomes ready once, when its callback has returned; what went wrong is told by
the exceptions that ``multiprocessing.pool`` has for it, with the remote traceback as the cause.
"""

from __future__ import annotations

import logging
import multiprocessing.pool
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import _RemoteTraceback
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from . import native
from .parent.client.fed import FedStream
from .parent.client.untaken import Outcome
from .parent.work.future import CallFuture
from .wire.wording import RESULT_NOTE

T = TypeVar("T")

if TYPE_CHECKING:
    from .pool_calls import PoolCalls

    class _Iterator(multiprocessing.pool.IMapIterator[T], Iterator[T]): ...

else:  # the base is not generic

    class _Iterator(multiprocessing.pool.IMapIterator, Iterator[T]):
        pass


# Not in typeshed.
_pool: Any = multiprocessing.pool

_logger = logging.getLogger("hybridexec")


class Source(Protocol):
    """What a result comes from."""

    def done(self) -> bool:
        """Whether it is there."""

    def check_forked(self) -> None:
        """Raise a RuntimeError in a process that was forked before it was there."""

    def wait(self, seconds: float | None) -> None:
        """Wait for it, for so long at most."""

    def outcome(self) -> Outcome:
        """It, once it is there."""


class OneCall:
    """The source of one call's result."""

    def __init__(self, future: Future[Any]) -> None:
        self._future = future
        self.done = future.done

    def check_forked(self) -> None:
        """See :class:`Source`."""
        if isinstance(self._future, CallFuture) and self._future.keeper.inert:
            self._future.keeper.check_open()

    def wait(self, seconds: float | None) -> None:
        """See :class:`Source`."""
        future = self._future
        try:
            future.result(seconds)
        except (CancelledError, TimeoutError):
            pass
        except BaseException as error:
            # Else it is Ctrl-C, or this process was forked.
            if not (future.done() and not future.cancelled() and future.exception() is error):
                raise

    def outcome(self) -> Outcome:
        """See :class:`Source`."""
        try:
            return self._future.result(), None
        except BaseException as error:
            return None, error


class ManyCalls:
    """The source of a list of results."""

    def __init__(self) -> None:
        self._over = threading.Event()
        self._collecting = threading.Lock()
        self._outcome: Outcome | None = None
        #: Where they come from; set before they can.
        self.stream: FedStream | None = None
        self.done = self._over.is_set
        #: To be called when all of them have come.
        self.tell = self._over.set

    def check_forked(self) -> None:
        """See :class:`Source`."""
        if (stream := self.stream) is not None:
            stream.check_forked()

    def wait(self, seconds: float | None) -> None:
        """See :class:`Source`."""
        if not self._over.is_set():
            self.check_forked()
            native.wait(self._over.wait, seconds)

    def outcome(self) -> Outcome:
        """See :class:`Source`."""
        with self._collecting:
            if self._outcome is None:
                assert self.stream is not None
                self._outcome = self.stream.gather()
                self.stream = None
            return self._outcome


class AsyncResult(multiprocessing.pool.ApplyResult[T]):
    """The result, to come, of ``apply_async``, ``map_async`` or ``starmap_async``.

    It keeps its pool alive until it is ready.
    """

    def __init__(
        self,
        pool: PoolCalls,
        source: Source,
        callback: Callable[[T], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> None:
        self._pool: PoolCalls | None = pool
        self._source: Source | None = source
        self._callback = callback
        self._error_callback = error_callback
        self._known: Outcome | None = None
        # Set when the callback has returned; None if there is no callback.
        self._called: threading.Event | None = None
        if callback is not None or error_callback is not None:
            self._called = threading.Event()

    @property
    def has_callbacks(self) -> bool:
        """Whether :meth:`finish` is to be called when the source is done."""
        return self._called is not None

    def ready(self) -> bool:
        """Whether the result is there, or the error, and its callback has returned."""
        if self._called is not None:
            return self._called.is_set()
        return self._source is None or self._source.done()

    def successful(self) -> bool:
        """Whether there was no error.

        Raises:
            ValueError: it is not ready.
        """
        if not self.ready():
            raise ValueError(f"{self!r} not ready")
        return self._outcome()[1] is None

    def wait(self, timeout: float | None = None) -> None:
        """Wait until it is ready, for ``timeout`` seconds at most.

        Raises:
            RuntimeError: it was not ready when this process was forked.
        """
        source = self._source
        if source is None or self.ready():
            return
        if self._called is None:
            source.wait(timeout)
        else:
            source.check_forked()
            native.wait(self._called.wait, timeout)

    def get(self, timeout: float | None = None) -> T:
        """Return the result; wait up to ``timeout`` seconds for it.

        Raises:
            multiprocessing.TimeoutError: it was not ready by then.
            multiprocessing.pool.MaybeEncodingError: the call's result could not be pickled.
            concurrent.futures.CancelledError: the pool was terminated before the call had ended.
            WorkerLost: the worker died that ran the call.
            RuntimeError: it was not ready when this process was forked.
            Exception: whatever the call raised; of several calls, the first that did.
        """
        self.wait(timeout)
        if not self.ready():
            raise multiprocessing.TimeoutError
        value, error = self._outcome()
        if error is None:
            return value  # type: ignore[no-any-return]  # it came from a worker
        try:
            raise error
        finally:
            del self, error  # this frame is in its traceback

    def finish(self, call: bool) -> None:
        """Become ready, after the callback is called, if it is to be ``call``ed."""
        assert self._called is not None
        try:
            if call:
                value, error = self._outcome()
                if error is None and self._callback is not None:
                    self._callback(value)
                elif error is not None and self._error_callback is not None:
                    self._error_callback(error)
        except BaseException:
            # multiprocessing's Pool would never have another result.
            _logger.exception("a callback of a Pool's result failed; the result is ready anyway")
        finally:
            self._callback = self._error_callback = None
            self._called.set()
            self._let_go()

    def _outcome(self) -> Outcome:
        known, source = self._known, self._source
        if known is None:
            assert source is not None
            value, error = source.outcome()
            known = self._known = value, None if error is None else retold(error)
            if self.ready():
                self._let_go()
        return known

    def _let_go(self) -> None:
        self._pool = None
        if self._known is not None:
            self._source = None


class MapResult(AsyncResult[list[T]], multiprocessing.pool.MapResult[T]):
    """The results, to come, of ``map_async`` or ``starmap_async``, in the order of the items.

    It is ready when all calls have ended, whether or not some of them have failed.
    """


class IMapIterator(_Iterator[T]):
    """The results of ``imap`` or ``imap_unordered``, as they come.

    An error is that of its item: after it, the iterator goes on. Several threads may iterate it.
    """

    def __init__(self, pool: PoolCalls, stream: FedStream) -> None:
        self._pool: PoolCalls | None = pool
        self._stream = stream

    def __iter__(self) -> IMapIterator[T]:
        return self

    def next(self, timeout: float | None = None) -> T:
        """Return the next result; wait up to ``timeout`` seconds for it.

        Raises:
            StopIteration: there are no more.
            multiprocessing.TimeoutError: it was not there by then; a later call may get it.
            Exception: as :meth:`AsyncResult.get`, or whatever the iterable raised.
        """
        try:
            outcome = self._stream.take(timeout)
        except TimeoutError:
            raise multiprocessing.TimeoutError from None
        if outcome is None:
            self._pool = None
            raise StopIteration
        value, error = outcome
        if error is None:
            return value  # type: ignore[no-any-return]  # it came from a worker
        error = retold(error)
        try:
            raise error
        finally:
            del self, error, outcome  # this frame is in its traceback

    __next__ = next

    def __del__(self) -> None:
        if stream := self.__dict__.get("_stream"):
            stream.forget()


class _Unpicklable:
    """A result that could not be pickled, of which only this much is known."""

    def __init__(self, text: str) -> None:
        self._text = text

    def __repr__(self) -> str:
        return f"<{self._text}>"


def retold(error: BaseException) -> BaseException:
    """An error as ``multiprocessing.pool`` has it."""
    if type(error) is CancelledError and not error.args:
        return CancelledError("the pool was terminated, or its calls were cancelled")
    for note in getattr(error, "__notes__", ()):
        if type(note) is str and note.startswith(RESULT_NOTE):
            told: BaseException = _pool.MaybeEncodingError(error, _Unpicklable(note))
            told.__cause__ = error
            return told
    cause = error.__cause__
    if type(cause) is _RemoteTraceback:
        # Not by setting the attribute, which a frozen dataclass, say, refuses.
        BaseException.__setattr__(error, "__cause__", _pool.RemoteTraceback(cause.tb))
    return error

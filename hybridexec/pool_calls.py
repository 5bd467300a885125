"""The methods of a ``Pool`` that make calls: apply, map, imap and relatives.

Thread: callers' threads.
Guarantees: each item is a call of its own, and so has the guarantees that calls have.

::

    apply, apply_async    a future                                  AsyncResult
    map, starmap, ...     a stream, fed in the caller's thread      MapResult
    imap, ...             a stream, fed in a thread of the pool's   IMapIterator
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, TypeVar

from . import base, checks

if TYPE_CHECKING:
    from multiprocessing.pool import Pool as _Base

    from .executor import HybridExecutor
    from .parent.client.fed import FedStream
    from .pool_results import AsyncResult, IMapIterator, MapResult
    from .pool_threads import CallbackThread, Feeders
else:
    _Base = base.first_base("multiprocessing.pool", "Pool")

S = TypeVar("S")
T = TypeVar("T")

# multiprocessing.pool's names for a pool's states, with which programs compare its `_state`.
INIT, RUN, CLOSE, TERMINATE = "INIT", "RUN", "CLOSE", "TERMINATE"


class PoolCalls(_Base):
    """A ``multiprocessing.Pool`` without any of its machinery."""

    _state = INIT
    _executor: HybridExecutor
    #: How many calls run at once.
    _slots: int
    _feeders: Feeders
    _callbacks: CallbackThread

    # -- one call ---------------------------------------------------------------------------------

    def apply(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},  # multiprocessing's, and never changed
    ) -> T:
        """Return what ``func(*args, **kwds)`` returns in a worker.

        Raises:
            ValueError: the pool is not running.
            Exception: as :meth:`AsyncResult.get`.
        """
        return self.apply_async(func, args, kwds).get()

    def apply_async(
        self,
        func: Callable[..., T],
        args: Iterable[Any] = (),
        kwds: Mapping[str, Any] = {},  # multiprocessing's, and never changed
        callback: Callable[[T], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> AsyncResult[T]:
        """Have ``func(*args, **kwds)`` run in a worker, and return its result, which is to come.

        Args:
            callback: called with the result when it has come.
            error_callback: called with the exception, if there is one instead.

        Callbacks are called in one thread of the pool's, one after another. What they raise is
        logged.

        Raises:
            ValueError: the pool is not running.
            TypeError: an argument is of a wrong type.
            ExecutorBroken: no call can run any more.
        """
        from .pool_results import AsyncResult, OneCall

        self._check_running()
        future = self._executor.submit(func, *args, **kwds)
        result: AsyncResult[T] = AsyncResult(self, OneCall(future), callback, error_callback)
        if result.has_callbacks:
            post = self._callbacks.post
            future.add_done_callback(lambda _: post(result))
        return result

    # -- a list of calls --------------------------------------------------------------------------

    def map(
        self, func: Callable[[S], T], iterable: Iterable[S], chunksize: int | None = None
    ) -> list[T]:
        """Return ``func``'s results for the items, in their order.

        Args:
            chunksize: accepted for compatibility: items are always sent many at a time, and each
                runs as a call of its own.

        When one of the calls has failed, this raises its exception (of several, that of the first
        item), after all have ended. Ctrl-C stops the calls.

        Raises:
            ValueError: the pool is not running.
            Exception: as :meth:`AsyncResult.get`, or whatever the iterable raised.
        """
        return self._map(func, iterable, chunksize, star=False)

    def starmap(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
    ) -> list[T]:
        """As :meth:`map`, of items that hold all of a call's arguments."""
        return self._map(func, iterable, chunksize, star=True)

    def _map(
        self, func: Callable[..., T], iterable: Iterable[Any], chunksize: int | None, star: bool
    ) -> list[T]:
        result, stream = self._begin_map(func, iterable, chunksize, star)
        try:
            self._feeders.feed(stream, wait=True)
            return result.get()
        except KeyboardInterrupt:
            stream.close(running=True)
            raise

    def map_async(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[T]:
        """As :meth:`map`, but return its result, which is to come.

        Callbacks are as for :meth:`apply_async`; there is one list of results, or one exception.
        """
        return self._map_async(func, iterable, chunksize, False, callback, error_callback)

    def starmap_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Iterable[Any]],
        chunksize: int | None = None,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> MapResult[T]:
        """As :meth:`map_async`, of items that hold all of a call's arguments."""
        return self._map_async(func, iterable, chunksize, True, callback, error_callback)

    def _map_async(
        self,
        func: Callable[..., T],
        iterable: Iterable[Any],
        chunksize: int | None,
        star: bool,
        callback: Callable[[list[T]], object] | None,
        error_callback: Callable[[BaseException], object] | None,
    ) -> MapResult[T]:
        result, stream = self._begin_map(func, iterable, chunksize, star, callback, error_callback)
        try:
            self._feeders.feed(stream, wait=False)
        except BaseException:
            stream.close(running=True)  # the caller gets no result
            raise
        return result

    def _begin_map(
        self,
        func: Callable[..., T],
        iterable: Iterable[Any],
        chunksize: int | None,
        star: bool,
        callback: Callable[[list[T]], object] | None = None,
        error_callback: Callable[[BaseException], object] | None = None,
    ) -> tuple[MapResult[T], FedStream]:
        """The result of a map, and the stream that is to be fed for it."""
        from .pool_results import ManyCalls, MapResult

        self._check_running()
        if chunksize is not None:
            checks.chunksize(chunksize)
        if not hasattr(iterable, "__len__"):
            iterable = list(iterable)
        calls = ManyCalls()
        result: MapResult[T] = MapResult(self, calls, callback, error_callback)
        over = calls.tell
        if result.has_callbacks:
            post = self._callbacks.post

            def over() -> None:
                calls.tell()
                post(result)

        stream = self._stream(func, star, ordered=True, sized=True, over=over)
        calls.stream = stream
        stream.begin(iterable, 1)
        return result, stream

    # -- results as they come ---------------------------------------------------------------------

    def imap(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int | None = 1,
        buffersize: int | None = None,
    ) -> IMapIterator[T]:
        """Return an iterator of ``func``'s results for the items, in their order.

        Items are read by a thread of the pool's, some ahead of the calls, and calls run whether or
        not anybody iterates. What an iterable raises comes after the results of the items that it
        has yielded.

        Args:
            chunksize: how many items are read before any of them is sent. More than 1 is faster,
                for a generator that yields many items a second; it should not wait for results.
            buffersize: how many calls may be unfinished or unfetched, for results that would need
                too much memory. Then the iterator must be read for the calls to go on.

        Raises:
            ValueError: the pool is not running, or an argument is out of range.
            TypeError: an argument is of a wrong type.
        """
        return self._imap(func, iterable, chunksize, buffersize, ordered=True)

    def imap_unordered(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: int | None = 1,
        buffersize: int | None = None,
    ) -> IMapIterator[T]:
        """As :meth:`imap`, with the results in the order in which the calls end."""
        return self._imap(func, iterable, chunksize, buffersize, ordered=False)

    def _imap(
        self,
        func: Callable[[S], T],
        iterable: Iterable[S],
        chunksize: Any,
        buffersize: int | None,
        ordered: bool,
    ) -> IMapIterator[T]:
        from .pool_results import IMapIterator

        self._check_running()
        checks.chunksize(chunksize)
        checks.buffersize(buffersize)
        stream = self._stream(func, False, ordered, sized=False, buffersize=buffersize)
        results: IMapIterator[T] = IMapIterator(self, stream)
        stream.begin(iterable, chunksize)
        if type(iterable) in (list, tuple, range):  # to read these takes no time
            self._feeders.feed(stream, wait=False)
        else:
            self._feeders.start(stream)
        return results

    def _stream(
        self,
        func: Callable[..., Any],
        star: bool,
        ordered: bool,
        sized: bool,
        buffersize: int | None = None,
        over: Callable[[], None] | None = None,
    ) -> FedStream:
        executor = self._executor
        # So many that each slot has a call that waits for it.
        least = 2 * self._slots
        stream = executor._submission(func).fed(
            executor._options, func, star, ordered, least, sized, buffersize, over
        )
        self._feeders.add(stream)
        return stream

    def _check_running(self) -> None:
        if self._state != RUN:
            raise ValueError("Pool not running")


base.derive(PoolCalls, "multiprocessing.pool", "Pool")

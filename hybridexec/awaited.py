"""The methods for asyncio, of ``HybridExecutor`` and its views: asubmit, amap and relatives.

Thread: those of event loops.
Guarantees: none blocks its loop; this module loads no asyncio.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Coroutine, Iterable
from functools import partial
from typing import TYPE_CHECKING, Any, ParamSpec, Self, TypeVar, overload

from . import checks
from .calls import Async, Calls
from .public import named, public

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Unpack

    from .keywords import AsyncMap, Unordered
    from .outcomes import Outcome
    from .progress import Shown

P = ParamSpec("P")
T = TypeVar("T")
Items = Iterable[Any] | AsyncIterable[Any]


class AwaitedCalls(Calls):
    """What calls are made through, by coroutines too."""

    @overload
    async def asubmit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> T: ...

    @overload
    async def asubmit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T: ...

    @public
    async def asubmit(self, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Any:
        """Run ``fn(*args, **kwargs)`` in a worker; return, or raise, what it does.

        The call is made when this coroutine is awaited, or a task runs it. To cancel that task
        cancels the call, as ``Future.cancel()`` does: one that runs is stopped. With
        ``max_pending``, it waits for its turn without blocking the loop. It costs less than
        ``loop.run_in_executor``.

        Arguments are pickled by the loop's thread.

        Raises:
            CancelledError: asyncio's: the task was cancelled, or the call was, by ``cancel_all()``.
            TypeError: ``fn`` is not callable.
            RuntimeError: the executor was shut down.
            ExecutorBroken: the executor cannot run calls any more.
            Exception: whatever the call raised.
        """
        from .parent.client import awaiting

        room = self._submission(fn).room
        if room is None:
            return await awaiting.result(self.submit(fn, *args, **kwargs))
        submit = partial(self.submit, fn, *args, **kwargs)
        return await awaiting.result(await awaiting.submitted(room, submit))

    @overload
    def amap(
        self, fn: Async[T], *iterables: Items, **keywords: Unpack[AsyncMap]
    ) -> AsyncIterator[T]: ...

    @overload
    def amap(
        self, fn: Callable[..., T], *iterables: Items, **keywords: Unpack[AsyncMap]
    ) -> AsyncIterator[T]: ...

    @named
    def amap(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        buffersize: int | None = None,
        star: bool = False,
        progress: Shown = None,
    ) -> AsyncIterator[Any]:
        """Return an async iterator of ``fn``'s results for the items, in their order.

        Items are read as results are fetched, so the iterables may be endless. Async ones are
        awaited, by a task, and hold up no results; others are read by the loop's thread, a few
        milliseconds at a time: one that blocks blocks the loop. To leave the loop early, by
        ``break``, an error or a cancellation, or to ``aclose()`` the iterator, cancels the calls
        that have not started.

        Args:
            fn: called with as many arguments as there are iterables.
            buffersize: how many calls may be unfinished or unfetched; by default enough to keep
                every worker busy.
            star: each item holds all of a call's arguments; see :meth:`map`.
            progress: shows how far the calls have come; see :meth:`map`.

        Raises:
            TypeError, ValueError: an argument is of a wrong type or out of range.
        """
        if self._submits_elsewhere():
            return self._amap_through(fn, iterables, buffersize, star, progress)
        return self._awaited("amap", fn, iterables, buffersize, False, star, progress)

    @overload
    def amap_unordered(
        self, fn: Async[T], *iterables: Items, **keywords: Unpack[Unordered]
    ) -> AsyncIterator[T]: ...

    @overload
    def amap_unordered(
        self, fn: Callable[..., T], *iterables: Items, **keywords: Unpack[Unordered]
    ) -> AsyncIterator[T]: ...

    @named
    def amap_unordered(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        buffersize: int | None = None,
        return_exceptions: bool = False,
        star: bool = False,
        progress: Shown = None,
    ) -> AsyncIterator[Any]:
        """As :meth:`amap`, with results in the order in which the calls end.

        Args:
            return_exceptions: yield the exception of a failed call instead of raising it, which
                would end the iteration.
        """
        return self._awaited(
            "amap_unordered", fn, iterables, buffersize, return_exceptions, star, progress
        )

    @overload
    def aoutcomes(
        self, fn: Async[T], *iterables: Items, **keywords: Unpack[AsyncMap]
    ) -> AsyncIterator[Outcome[T]]: ...

    @overload
    def aoutcomes(
        self, fn: Callable[..., T], *iterables: Items, **keywords: Unpack[AsyncMap]
    ) -> AsyncIterator[Outcome[T]]: ...

    @named
    def aoutcomes(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any] | AsyncIterable[Any],
        buffersize: int | None = None,
        star: bool = False,
        progress: Shown = None,
    ) -> AsyncIterator[Outcome[Any]]:
        """As :meth:`amap`, with one :class:`Outcome` per item, in the order in which calls end.

        A failure never ends the iteration, and each outcome names its item; see :meth:`outcomes`.
        """
        return self._awaited("aoutcomes", fn, iterables, buffersize, False, star, progress)

    def _awaited(
        self,
        method: str,
        fn: Callable[..., Any],
        iterables: tuple[Any, ...],
        buffersize: int | None,
        return_exceptions: bool,
        star: bool,
        progress: Shown,
    ) -> AsyncIterator[Any]:
        checks.buffersize(buffersize)
        checks.star(star, len(iterables))
        options = self._options._replace(timed=method == "aoutcomes")
        reporter = self._reporter(progress, fn, iterables)
        what = method, iterables, star, buffersize, return_exceptions, self, reporter
        return self._submission(fn).awaited(options, fn, *what)

    def _amap_through(
        self,
        fn: Callable[..., Any],
        iterables: tuple[Any, ...],
        buffersize: int | None,
        star: bool,
        progress: Shown,
    ) -> AsyncIterator[Any]:
        # As map(): a subclass that counts or wraps calls in submit() expects them to go through it.
        from .parent.client.async_through import map_through

        checks.buffersize(buffersize)
        checks.star(star, len(iterables))
        if progress:
            raise TypeError(
                f"amap() shows no progress for {type(self).__name__}, which has a submit() of its "
                "own: use amap_unordered() or aoutcomes()"
            )
        bound = self._submission(fn).buffersize if buffersize is None else buffersize
        return map_through(self.asubmit, fn, iterables, star, bound)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Shut down, and await the end. If the task is cancelled, in the block or while it awaits
        that, cancel all calls, and kill workers that do not end within a second."""
        from .parent.client import awaiting

        await awaiting.end(self.shutdown, self._assembly, kind)

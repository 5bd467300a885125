"""The ways to make calls that ``HybridExecutor`` and its views share: submit, map and relatives.

Runs on: callers' threads. Checks arguments; the work is :mod:`hybridexec.parent.intake`'s.
"""

from __future__ import annotations

import time
from abc import abstractmethod
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError, Future
from itertools import islice
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from . import options as checks
from .options import CallOptions
from .privates import Privates

if TYPE_CHECKING:
    # Dataclasses, which are slow to load: every worker loads this module if the user's script
    # imports the executor at its top.
    from .outcomes import Outcome
    from .parent.intake import Intake
    from .stats import ExecutorStats

P = ParamSpec("P")
T = TypeVar("T")


class Calls(Privates):
    """An executor, or a view of one: something calls can be made through."""

    _options: CallOptions

    @property
    def _intake(self) -> Intake:
        """Where calls go."""
        return self._assembly.intake or self._assembly.open()

    @abstractmethod
    def options(self, **changes: Any) -> Calls:
        """Return a view of the same executor with other options for the calls made through it."""

    @abstractmethod
    def cancel_all(self) -> None:
        """Cancel all calls of the executor, running ones included; it goes on."""

    @abstractmethod
    def stats(self) -> ExecutorStats:
        """Return a snapshot of what the executor is doing."""

    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Schedule ``fn(*args, **kwargs)`` to be run in a worker.

        What cannot be pickled fails the returned future, not this method.

        Raises:
            TypeError: ``fn`` is not callable, or is an ``async def`` function.
            RuntimeError: the executor was shut down.
            ExecutorBroken: the executor cannot run calls any more.
        """
        # The property's steps once more: on its way, a lone call has few others.
        intake = self._assembly.intake or self._assembly.open()
        return intake.submit(self._options, fn, args, kwargs)

    def map(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
    ) -> Iterator[T]:
        """Return an iterator of ``fn``'s results for the items, in their order.

        Args:
            fn: called with as many arguments as there are iterables.
            timeout: seconds from this call until ``__next__`` raises TimeoutError.
            chunksize: accepted for ProcessPoolExecutor's sake: items always travel many at a time
                and run each on its own.
            buffersize: None reads all items now, and every call runs even if nobody iterates. A
                number makes it lazy: so many calls at most are unfinished or unfetched (Python
                3.14's semantics).

        Raises:
            TypeError, ValueError: an argument is of a wrong type or out of range.
        """
        checks.chunksize(chunksize)
        checks.buffersize(buffersize)
        deadline = None if timeout is None else time.monotonic() + timeout
        if self._submits_elsewhere():
            # A subclass that counts or wraps calls in submit() expects map() to go through it.
            return self._map_through_submit(fn, iterables, deadline, buffersize)
        # A lazy map submits more later: until then the executor must not be collected.
        keep = None if buffersize is None else self
        return self._intake.map(self._options, fn, iterables, buffersize, deadline, keep)

    def map_unordered(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        buffersize: int | None = None,
        return_exceptions: bool = False,
    ) -> Iterator[T]:
        """Return an iterator of results in the order in which the calls end.

        Items are read as results are fetched, so the iterables may be endless. Closing the iterator
        cancels the calls that have not started.

        Args:
            fn: called with as many arguments as there are iterables.
            buffersize: how many calls may be unfinished or unfetched; by default enough to keep
                every worker busy.
            return_exceptions: yield the exception of a failed call instead of raising it, which
                would end the iteration.

        Raises:
            TypeError, ValueError: an argument is of a wrong type or out of range.
        """
        checks.buffersize(buffersize)
        return self._intake.map_unordered(
            self._options, fn, iterables, buffersize, return_exceptions, self
        )

    def outcomes(
        self,
        fn: Callable[..., T],
        *iterables: Iterable[Any],
        buffersize: int | None = None,
    ) -> Iterator[Outcome[T]]:
        """Return an iterator of one :class:`Outcome` per item, in the order in which calls end.

        As :meth:`map_unordered`, but a failure never ends the iteration, and each outcome names its
        item.

        Raises:
            TypeError, ValueError: an argument is of a wrong type or out of range.
        """
        checks.buffersize(buffersize)
        options = self._options._replace(timed=True)
        return self._intake.outcomes(options, fn, iterables, buffersize, self)

    def _submits_elsewhere(self) -> bool:
        return type(self).submit is not Calls.submit or "submit" in self.__dict__

    def _map_through_submit(
        self,
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any], ...],
        deadline: float | None,
        buffersize: int | None,
    ) -> Iterator[T]:
        items = zip(*iterables, strict=False)
        futures: deque[Future[T]] = deque()
        try:
            for item in islice(items, buffersize):
                futures.append(self.submit(fn, *item))
        except BaseException:
            for future in futures:
                future.cancel()
            raise

        def results() -> Iterator[T]:
            try:
                while futures:
                    future = futures.popleft()
                    try:
                        future.exception(None if deadline is None else deadline - time.monotonic())
                    except CancelledError:
                        pass  # result() says so below
                    except BaseException:
                        future.cancel()
                        raise
                    futures.extend(self.submit(fn, *item) for item in islice(items, 1))
                    done = [future.result]
                    del future  # the iterator must not keep results alive
                    yield done.pop()()
            finally:
                for future in futures:
                    future.cancel()

        return results()

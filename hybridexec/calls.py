"""The methods that make calls, of ``HybridExecutor`` and its views: submit, map and relatives.

They check their arguments; :mod:`hybridexec.parent.client.submission` does the work.

Thread: callers' threads.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Coroutine, Hashable, Iterable, Iterator
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, NoReturn, ParamSpec, TypeVar, overload

from . import checks, native
from .options import UNCHANGED, CallOptions, Lane
from .privates import Privates
from .public import named, public
from .streaming import Streaming
from .through_submit import map_through

if TYPE_CHECKING:
    from concurrent.futures import Future

    # Not at run time: these import dataclasses, which is slow to load, and every worker imports
    # this module if the user's script imports the executor at its top.
    from typing import Unpack

    from .displays.reporter import Reporter
    from .executor import ExecutorView
    from .keywords import AsyncMap, Map, Unordered
    from .outcomes import Outcome
    from .parent.client.submission import Submission
    from .progress import Shown
    from .stats import ExecutorStats

P = ParamSpec("P")
T = TypeVar("T")
#: A function that is ``async def``.
Async = Callable[..., Coroutine[Any, Any, T]]

_NOT_PICKLED = (
    "cannot pickle {kind!r} object: an executor belongs to the process that made it. Leave it out "
    "of what calls are given; where an object has it, that a call is given or whose method it is, "
    "leave it out in the object's __getstate__(). A call that needs an executor makes its own"
)


class Calls(Streaming, Privates):
    """What calls are made through: an executor, or a view of one."""

    def _submission(self, fn: object) -> Submission:
        """Where calls of this function go."""
        assembly = self._assembly
        return assembly.submission or assembly.open(self._options.lane_of(fn))

    def __reduce__(self) -> NoReturn:
        raise TypeError(_NOT_PICKLED.format(kind=type(self).__name__))

    @named
    def options(
        self,
        *,
        timeout: float | None = UNCHANGED,
        retries: int = UNCHANGED,
        retry_on: type[BaseException] | tuple[type[BaseException], ...] = UNCHANGED,
        backoff: float | Callable[[BaseException, int], float] = UNCHANGED,
        on_worker_loss: Literal["fail", "retry"] = UNCHANGED,
        propagate: Iterable[ContextVar[Any]] = UNCHANGED,
        lane: Lane | None = UNCHANGED,
        stream_buffersize: int = UNCHANGED,
        rate: float | None = UNCHANGED,
        per: float = UNCHANGED,
        burst: int | None = UNCHANGED,
        key: Callable[..., Hashable] | None = UNCHANGED,
        per_key: int | None = UNCHANGED,
        rate_per_key: float | None = UNCHANGED,
    ) -> ExecutorView:
        """Return a view of the same executor with other options for the calls made through it.

        Options that are not given are the same as here.

        Args:
            timeout: seconds a call may run, counted from its start, when its function has been
                imported; it is then stopped and fails with :class:`CallTimeout`. It is stopped
                where it waits; if it keeps the CPU in Python code, it is interrupted there; if
                neither ends it within ``timeout_grace``, its worker is killed, and the worker's
                other calls follow ``on_worker_loss``. None, the initial value, means no limit.
            retries: how many times a call that failed is tried again, at most; initially 0. **It
                then runs more than once**, so it must be safe to repeat.
            retry_on: an exception type, or a tuple of them, after which a call is tried again;
                initially ``Exception``, of which :class:`CallTimeout` is a subclass. A
                :class:`RetryAfter` always counts. (What happens after a worker's loss is a matter
                of ``on_worker_loss``.)
            backoff: seconds before the first retry, initially 0.1. Each further retry waits twice
                as long, up to a minute; a random part of up to a half is taken off. The call holds
                no slot meanwhile. Or a callable, run in the worker with the error and the number of
                runs that have failed so far: it returns the seconds before the next one, which
                begins then. If it raises, or returns no finite number of 0 or more, the call fails
                with that. It is pickled as the function of a call is. (It is not asked about a
                :class:`CallTimeout`, after which the wait is as initially; nor about a
                :class:`RetryAfter`, which says the seconds itself.)
            on_worker_loss: as for the executor, for these calls.
            propagate: context variables that calls find as they are, set or not, where the call is
                submitted, or its ``map`` (or relative) is called, in the thread that does so. Each
                must be a global of a module (``__main__`` is one). Its value travels as an argument
                does, and what a call makes of it, no other call sees.
            lane: what runs the calls, each lane in workers of its own kind: "greenlet", for plain
                blocking code, in workers that gevent has patched; "async", for coroutines, as tasks
                of an asyncio loop; "thread", for code that waits in C, in native threads. None, the
                initial value: "async" for a function that is ``async def`` (or a bound method, or a
                partial of one, or an object whose ``__call__`` is), and "greenlet" for any other.
            stream_buffersize: how many items of a :meth:`stream` may have been yielded and not
                fetched, initially 100; its generator waits then. (Of large ones, so many as make a
                megabyte.)
            rate: how many calls may start in ``per`` seconds, in all workers together; None, the
                initial value, means any number.
            per: seconds, initially 1.
            burst: how many may start at once after a pause. In any ``s`` seconds, no more than
                ``burst + s * rate / per`` calls start then; with 1, each starts ``per / rate``
                seconds after the last one at the soonest. None, the initial value: calls are spaced
                evenly, and no more than ``rate`` start in any ``per`` seconds (so 96 % of the rate
                is what is kept, because no start is quite in time). For ``rate_per_key`` as for
                ``rate``.
            key: a callable that is given a call's arguments, in the thread that submits it, or that
                iterates, and returns what the call is limited by, the name of a host, say. If it
                raises, or what it returns cannot be hashed, the call fails with that.
            per_key: how many calls of equal keys may run at once; initially any number.
            rate_per_key: how many of them may start in ``per`` seconds; initially any number.

        Each ``options()`` that sets one of the last six limits its own calls together with those of
        the views that are derived from it and set none of them anew; what is not set is as here.
        Calls that wait because of limits hold no slot, and hold no others up: keys have turns.
        Their ``timeout`` begins with their start, and each retry is a start.

        Raises:
            TypeError: an option does not exist or is of a wrong type.
            ValueError: a value is out of range or says nothing without another, or a context
                variable is no global of a module.
            Exception: whatever pickling ``retry_on`` or ``backoff`` raised.
        """
        changes = {
            "timeout": timeout,
            "retries": retries,
            "retry_on": retry_on,
            "backoff": backoff,
            "on_worker_loss": on_worker_loss,
            "propagate": propagate,
            "lane": lane,
            "stream_buffersize": stream_buffersize,
            "rate": rate,
            "per": per,
            "burst": burst,
            "key": key,
            "per_key": per_key,
            "rate_per_key": rate_per_key,
        }
        return self._view(_ready(self._options.updated(changes)))

    @abstractmethod
    def _view(self, options: CallOptions) -> ExecutorView:
        """A view of the same executor."""

    @abstractmethod
    def cancel_all(self) -> None:
        """Cancel all calls of the executor, running ones included; it goes on."""

    @abstractmethod
    def stats(self) -> ExecutorStats:
        """Return a snapshot of what the executor is doing."""

    @overload
    def submit(
        self, fn: Callable[P, Coroutine[Any, Any, T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> Future[T]: ...

    @overload
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]: ...

    @public
    def submit(self, fn: Callable[P, Any], /, *args: P.args, **kwargs: P.kwargs) -> Future[Any]:
        """Schedule ``fn(*args, **kwargs)`` to be run in a worker.

        What cannot be pickled fails the returned future, not this method.

        Raises:
            TypeError: ``fn`` is not callable, or is a generator function, for which there is
                ``stream``.
            RuntimeError: the executor was shut down.
            ExecutorBroken: the executor cannot run calls any more.
        """
        # _submission inlined, because an inline call takes few steps besides.
        assembly = self._assembly
        submission = assembly.submission or assembly.open(self._options.lane_of(fn))
        return submission.submit(self._options, fn, args, kwargs)

    @overload
    def map(
        self, fn: Async[T], *iterables: Iterable[Any], **keywords: Unpack[Map]
    ) -> Iterator[T]: ...

    @overload
    def map(
        self, fn: Callable[..., T], *iterables: Iterable[Any], **keywords: Unpack[Map]
    ) -> Iterator[T]: ...

    @named
    def map(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        timeout: float | None = None,
        chunksize: int = 1,
        buffersize: int | None = None,
        star: bool = False,
        progress: Shown = None,
    ) -> Iterator[Any]:
        """Return an iterator of ``fn``'s results for the items, in their order.

        Args:
            fn: called with as many arguments as there are iterables.
            timeout: seconds from this call until ``__next__`` raises TimeoutError.
            chunksize: accepted for compatibility with ProcessPoolExecutor: items are always sent
                many at a time, and each runs as a call of its own.
            buffersize: None reads all items now, and every call runs even if nobody iterates. A
                number makes it lazy: at most so many calls are unfinished or unfetched (Python
                3.14's semantics).
            star: each item of the one iterable holds all of a call's arguments, as for
                ``itertools.starmap``. An item that cannot be iterated fails its own call.
            progress: shows how far the calls have come. True: a tqdm bar at a terminal or in a
                notebook (a line of text if tqdm is not installed), and nothing where standard error
                is neither. A tqdm bar, or its class; a ``rich.progress.Progress``; or a callable
                that is given a :class:`Progress` at most ten times a second, and once at the end:
                these always show. False and None show nothing, and cost nothing.

        Raises:
            TypeError, ValueError: an argument is of a wrong type or out of range.
        """
        checks.chunksize(chunksize)
        checks.buffersize(buffersize)
        checks.star(star, len(iterables))
        reporter = self._reporter(progress, fn, iterables)
        deadline = None if timeout is None else native.monotonic() + timeout
        if self._submits_elsewhere():
            # A subclass that counts or wraps calls in submit() expects map() to go through it.
            items = iter(iterables[0]) if star else zip(*iterables, strict=False)
            if reporter is None:
                return map_through(self.submit, items, fn, deadline, buffersize)
            from .parent.client.counted import CountedFutures

            counted = CountedFutures(reporter)
            submit, items = counted.each(self.submit), counted.until_read(items)
            run = partial(map_through, submit, items, fn, deadline, buffersize)
            return counted.watched(run)
        # A lazy map submits more later: the executor must not be garbage collected before.
        keep = None if buffersize is None else self
        return self._submission(fn).map(
            self._options, fn, iterables, star, buffersize, deadline, keep, reporter
        )

    @overload
    def map_unordered(
        self, fn: Async[T], *iterables: Iterable[Any], **keywords: Unpack[Unordered]
    ) -> Iterator[T]: ...

    @overload
    def map_unordered(
        self, fn: Callable[..., T], *iterables: Iterable[Any], **keywords: Unpack[Unordered]
    ) -> Iterator[T]: ...

    @named
    def map_unordered(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        buffersize: int | None = None,
        return_exceptions: bool = False,
        star: bool = False,
        progress: Shown = None,
    ) -> Iterator[Any]:
        """Return an iterator of results in the order in which the calls end.

        Items are read as results are fetched, so the iterables may be endless. Closing the iterator
        cancels the calls that have not started.

        Args:
            fn: called with as many arguments as there are iterables.
            buffersize: how many calls may be unfinished or unfetched; by default enough to keep
                every worker busy.
            return_exceptions: yield the exception of a failed call instead of raising it, which
                would end the iteration.
            star: each item holds all of a call's arguments; see :meth:`map`.
            progress: shows how far the calls have come; see :meth:`map`.

        Raises:
            TypeError, ValueError: an argument is of a wrong type or out of range.
        """
        checks.buffersize(buffersize)
        checks.star(star, len(iterables))
        reporter = self._reporter(progress, fn, iterables)
        return self._submission(fn).map_unordered(
            self._options, fn, iterables, star, buffersize, return_exceptions, self, reporter
        )

    @overload
    def outcomes(
        self, fn: Async[T], *iterables: Iterable[Any], **keywords: Unpack[AsyncMap]
    ) -> Iterator[Outcome[T]]: ...

    @overload
    def outcomes(
        self, fn: Callable[..., T], *iterables: Iterable[Any], **keywords: Unpack[AsyncMap]
    ) -> Iterator[Outcome[T]]: ...

    @named
    def outcomes(
        self,
        fn: Callable[..., Any],
        *iterables: Iterable[Any],
        buffersize: int | None = None,
        star: bool = False,
        progress: Shown = None,
    ) -> Iterator[Outcome[Any]]:
        """Return an iterator of one :class:`Outcome` per item, in the order in which calls end.

        As :meth:`map_unordered`, but a failure never ends the iteration, and each outcome names its
        item: with several iterables, or with ``star``, the tuple of its call's arguments.

        Raises:
            TypeError, ValueError: an argument is of a wrong type or out of range.
        """
        checks.buffersize(buffersize)
        checks.star(star, len(iterables))
        options = self._options._replace(timed=True)
        reporter = self._reporter(progress, fn, iterables)
        submission = self._submission(fn)
        return submission.outcomes(options, fn, iterables, star, buffersize, self, reporter)

    def _reporter(
        self, progress: Shown, fn: Callable[..., object], iterables: tuple[Iterable[Any], ...]
    ) -> Reporter | None:
        """Who shows the progress of a stream; None if nobody is to."""
        if progress is None or progress is False:
            return None
        from .displays.choice import maker
        from .displays.lengths import length
        from .displays.reporter import Reporter
        from .wire.wording import function_name

        make = maker(progress, function_name(fn))
        if make is None:
            return None
        reporter = Reporter(make, length(iterables))
        self._assembly.reporters.add(reporter)
        return reporter

    def _submits_elsewhere(self) -> bool:
        return type(self).submit is not Calls.submit or "submit" in self.__dict__


def _ready(options: CallOptions) -> CallOptions:
    """``options`` with what workers need of them pickled."""
    if not options.retries:
        return options
    from .parent.launch import methods
    from .parent.work import session
    from .wire import payload

    payload.set_main_by_value(methods.main_travels_by_value())
    backoff = options.backoff if callable(options.backoff) else None
    retrying = session.dumps_known((options.retry_on, backoff, options.retries))
    return options._replace(retrying=retrying)

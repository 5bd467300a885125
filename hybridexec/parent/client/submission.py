"""Turn what callers ask for into batches, and outcomes into what callers get.

Thread: callers' threads, and those that iterate results.
Guarantees: what cannot be pickled fails only its own call; arguments are pickled in the thread that
passed them, before ``submit`` returns.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from ...options import CallOptions
from ...wire import payload
from ...wire.wording import function_name
from ..engine.engine import Engine
from ..work import session
from ..work.batch import Item
from ..work.function import UNSENT, Function, check_callable, refuse_items
from ..work.future import CallFuture
from .inputs import input_of
from .packing import pack_arguments
from .results import outcomes, results
from .sending import tell_refusal
from .streams import Stream

if TYPE_CHECKING:
    from ...outcomes import Outcome
    from .counted import Watcher

T = TypeVar("T")

are_plain = payload.are_plain


class Submission:
    """The way in to an engine."""

    def __init__(self, engine: Engine, max_pending: int | None, buffersize: int) -> None:
        """
        Args:
            max_pending: how many submitted calls may be unfinished before ``submit`` waits; None
                for no limit.
            buffersize: the default bound of a stream.
        """
        self._engine = engine
        self._room = None if max_pending is None else threading.Semaphore(max_pending)
        #: The default bound of a stream.
        self.buffersize = buffersize

    def submit(
        self,
        options: CallOptions,
        fn: Callable[..., T],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Future[T]:
        """See ``HybridExecutor.submit``."""
        engine = self._engine
        item: Item
        try:
            function = engine.functions.last
            if function.kept is not fn:
                function = engine.functions.intern(fn)
            prelude = None
            if not kwargs and are_plain(args):
                item = args
            else:
                packed = pack_arguments(function, args) if function.lasting and not kwargs else None
                if packed is not None:
                    item, prelude = packed
                else:
                    item, needs = session.dumps((args, kwargs))
                    if needs:
                        function = function.needing(needs)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            check_callable(fn)
            engine.check_open()
            tell_refusal(error, function_name(fn))
            refused: CallFuture[T] = CallFuture(engine, UNSENT, None, options)
            refused.fail(error)
            try:
                return refused
            finally:
                del refused  # this frame is in the error's traceback
        if function.style:
            refuse_items(function)
            options = options.in_async
        future: CallFuture[T] = CallFuture(engine, function, item, options, prelude)
        if item is not args and prelude is None:
            future.arguments = (args, kwargs)  # a fragment refers to nothing
        if self._room is None:
            engine.submit(future)
        else:
            self._submit_with_room(self._room, future)
        return future

    def _submit_with_room(self, room: threading.Semaphore, future: CallFuture[T]) -> None:
        self._engine.check_open()
        # The I/O thread makes room, so a callback on that thread must not wait for room.
        if not room.acquire(blocking=not self._engine.on_own_thread()):
            self._engine.submit(future)
            return
        try:
            self._engine.submit(future)
        except BaseException:
            room.release()
            raise
        future.add_done_callback(lambda _: room.release())

    def map(
        self,
        options: CallOptions,
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any], ...],
        star: bool,
        buffersize: int | None,
        deadline: float | None,
        keep: object,
        watcher: Watcher | None = None,
    ) -> Generator[T]:
        """See ``HybridExecutor.map``; ``keep`` is kept alive while results are iterated."""
        stream = self._stream(options, fn, iterables, star, buffersize, watcher, ordered=True)
        try:
            stream.fill()
        except BaseException:
            stream.close(running=True)  # the caller gets no iterator
            raise
        return _tied(results(stream, deadline, False, keep), watcher)

    def map_unordered(
        self,
        options: CallOptions,
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any], ...],
        star: bool,
        buffersize: int | None,
        return_exceptions: bool,
        keep: object,
        watcher: Watcher | None = None,
    ) -> Generator[T]:
        """See ``HybridExecutor.map_unordered``."""
        bound = self.buffersize if buffersize is None else buffersize
        stream = self._stream(options, fn, iterables, star, bound, watcher, ordered=False)
        return _tied(results(stream, None, return_exceptions, keep), watcher)

    def outcomes(
        self,
        options: CallOptions,
        fn: Callable[..., T],
        iterables: tuple[Iterable[Any], ...],
        star: bool,
        buffersize: int | None,
        keep: object,
        watcher: Watcher | None = None,
    ) -> Generator[Outcome[T]]:
        """See ``HybridExecutor.outcomes``."""
        bound = self.buffersize if buffersize is None else buffersize
        stream = self._stream(options, fn, iterables, star, bound, watcher, ordered=False)
        kept = stream.keep_items()
        return _tied(outcomes(stream, kept, keep), watcher)

    def _stream(
        self,
        options: CallOptions,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        star: bool,
        bound: int | None,
        watcher: Watcher | None,
        ordered: bool,
    ) -> Stream:
        engine = self._engine
        engine.check_open()
        items = input_of(iterables, ordered)
        refusal: BaseException | None = None
        function: Function | None = None
        try:
            function = engine.functions.intern(fn)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            check_callable(fn)
            tell_refusal(error, function_name(fn))
            refusal = error
        if function is not None and function.style:
            refuse_items(function)
            options = options.in_async
        try:
            single = len(iterables) == 1 and not star
            if watcher is None:
                return Stream(engine, function, refusal, items, single, options, bound, ordered)
            from .counted import CountedStream

            return CountedStream(
                watcher, engine, function, refusal, items, single, options, bound, ordered
            )
        finally:
            del refusal  # this frame is in its traceback


def _tied(results: Generator[Any], watcher: Watcher | None) -> Generator[Any]:
    """The results, whose end is the watcher's, even if nobody begins to iterate them."""
    if watcher is not None:
        watcher.tie(results)
    return results

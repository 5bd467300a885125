"""Turn what callers ask for into batches, and outcomes into what callers get.

Thread: callers' threads, and those that iterate results.
Guarantees: what cannot be pickled fails only its own call; arguments are pickled in the thread that
passed them, before ``submit`` returns.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Callable, Generator, Iterable
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any, TypeVar

from ...limits import Key
from ...options import CallOptions
from ...styles import FOR_LOOPS
from ...wire import payload
from ...wire.wording import function_name
from ..engine.engine import Engine
from ..work import session
from ..work.batch import UNPICKLABLE, Batch, Item
from ..work.function import UNSENT, Function, check_callable, refuse_items
from ..work.future import CallFuture
from .arrivals import Arrivals
from .call_stream import CallStream
from .inputs import Input, input_of
from .limited import key_of
from .packing import pack_arguments
from .results import outcomes, results
from .room import Room
from .sending import tell_refusal
from .streams import Changed, Stream

if TYPE_CHECKING:
    from ...outcomes import Outcome
    from .async_results import AsyncResults
    from .counted import Watcher
    from .fed import FedStream

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
        #: For submitted calls; None if that is not bounded.
        self.room = None if max_pending is None else Room(max_pending)
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
        if options.limits is not None:
            engine.check_open()
            try:
                future.key = key_of(options.limits, args, kwargs)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                future.fail(error)
                try:
                    return future
                finally:
                    del future  # this frame is in the error's traceback
        if item is not args and prelude is None:
            future.arguments = (args, kwargs)  # a fragment refers to nothing
        if self.room is None:
            engine.submit(future)
        else:
            self._submit_with_room(self.room, future)
        return future

    def _submit_with_room(self, room: Room, future: CallFuture[T]) -> None:
        self._engine.check_open()
        if not room.take():
            # The I/O thread makes room, so a callback on that thread must not wait for room.
            if self._engine.on_own_thread():
                self._engine.submit(future)
                return
            room.wait()
        try:
            self._engine.submit(future)
        except BaseException:
            room.leave()
            raise
        future.add_done_callback(lambda _: room.leave())

    def stream(
        self,
        options: CallOptions,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> CallStream[Any]:
        """See ``HybridExecutor.stream``."""
        engine = self._engine
        engine.check_open()
        arrivals = Arrivals(engine, options.stream_buffersize)
        key: Key | None = None
        try:
            function = engine.functions.intern(fn)
            item: Item
            if not kwargs and are_plain(args):
                item = args
            else:
                item, needs = session.dumps((args, kwargs))
                if needs:
                    function = function.needing(needs)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            check_callable(fn)
            tell_refusal(error, function_name(fn))
            try:
                arrivals.deliver([(0, UNPICKLABLE, error, None, None, None)])
                return CallStream(arrivals)
            finally:
                del arrivals  # this frame is in the error's traceback
        if options.limits is not None:
            try:
                key = key_of(options.limits, args, kwargs)
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                try:
                    arrivals.deliver([(0, UNPICKLABLE, error, None, None, None)])
                    return CallStream(arrivals)
                finally:
                    del arrivals  # this frame is in the error's traceback
        if function.style in FOR_LOOPS:
            options = options.in_async
        batch = Batch(function, [item], arrivals, options._replace(streamed=True), 0)
        if item is not args:
            batch.arguments = args, kwargs
        if type(item) is payload.Segments:
            batch.weight = item.size
        batch.keys = None if key is None else [key]
        arrivals.batch = batch
        engine.consumers.add(arrivals)
        engine.submit(batch)
        return CallStream(arrivals)

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
        stream = self._over(options, fn, iterables, star, buffersize, watcher, ordered=True)
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
        stream = self._over(options, fn, iterables, star, bound, watcher, ordered=False)
        if buffersize is None:
            stream.look_ahead()
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
        stream = self._over(options, fn, iterables, star, bound, watcher, ordered=False)
        if buffersize is None:
            stream.look_ahead()
        kept = stream.keep_items()
        return _tied(outcomes(stream, kept, keep), watcher)

    def awaited(
        self,
        options: CallOptions,
        fn: Callable[..., Any],
        method: str,
        iterables: tuple[Iterable[Any] | AsyncIterable[Any], ...],
        star: bool,
        buffersize: int | None,
        return_exceptions: bool,
        keep: object,
        watcher: Watcher | None = None,
    ) -> AsyncResults:
        """See ``HybridExecutor.amap`` and its relatives, one of which ``method`` names."""
        from .async_inputs import async_input_of
        from .async_results import AsyncResults, Signal, outcomes, values

        bound = self.buffersize if buffersize is None else buffersize
        ordered = method == "amap"
        items, signal = async_input_of(iterables, ordered), Signal()
        single = len(iterables) == 1 and not star
        stream = self._stream(options, fn, items, single, bound, watcher, ordered, signal)
        make = outcomes(stream) if method == "aoutcomes" else values(return_exceptions)
        results = AsyncResults(stream, signal, make, keep)
        if watcher is not None:
            watcher.tie(results)
        return results

    def _over(
        self,
        options: CallOptions,
        fn: Callable[..., Any],
        iterables: tuple[Iterable[Any], ...],
        star: bool,
        bound: int | None,
        watcher: Watcher | None,
        ordered: bool,
    ) -> Stream:
        items = input_of(iterables, ordered)
        single = len(iterables) == 1 and not star
        return self._stream(options, fn, items, single, bound, watcher, ordered)

    def _stream(
        self,
        options: CallOptions,
        fn: Callable[..., Any],
        items: Input,
        single: bool,
        bound: int | None,
        watcher: Watcher | None,
        ordered: bool,
        changed: Changed | None = None,
    ) -> Stream:
        engine = self._engine
        engine.check_open()
        function, refusal, options = self._interned(options, fn)
        try:
            what = engine, function, refusal, items, single, options, bound, ordered, changed
            if watcher is None:
                return Stream(*what)
            from .counted import CountedStream

            return CountedStream(watcher, *what)
        finally:
            del refusal, what  # this frame is in its traceback

    def fed(
        self,
        options: CallOptions,
        fn: Callable[..., Any],
        star: bool,
        ordered: bool,
        least: int,
        sized: bool,
        buffersize: int | None,
        over: Callable[[], None] | None = None,
    ) -> FedStream:
        """A stream to be fed; see there.

        Args:
            sized: whether all items are there already, so that their number is no reason to wait.
        """
        from .fed import FedStream

        engine = self._engine
        engine.check_open()
        function, refusal, options = self._interned(options, fn)
        most = None if sized else self.buffersize
        try:
            return FedStream(
                engine, function, refusal, not star, options, ordered, least, most, buffersize, over
            )
        finally:
            del refusal  # this frame is in its traceback

    def _interned(
        self, options: CallOptions, fn: Callable[..., Any]
    ) -> tuple[Function | None, BaseException | None, CallOptions]:
        """The function, or why it cannot be pickled; and how its calls are run."""
        try:
            function = self._engine.functions.intern(fn)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            check_callable(fn)
            tell_refusal(error, function_name(fn))
            return None, error, options
        if function.style:
            refuse_items(function)
            options = options.in_async
        return function, None, options


def _tied(results: Generator[Any], watcher: Watcher | None) -> Generator[Any]:
    """The results, whose end is the watcher's, even if nobody begins to iterate them."""
    if watcher is not None:
        watcher.tie(results)
    return results

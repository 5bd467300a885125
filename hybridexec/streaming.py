"""``HybridExecutor.stream``: a call whose result is iterated where it runs.

Thread: callers' threads.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, overload

from .options import CallOptions
from .public import public

if TYPE_CHECKING:
    from .parent.client.call_stream import CallStream
    from .parent.client.submission import Submission

P = ParamSpec("P")
T = TypeVar("T")


class Streaming:
    """A part of :class:`.calls.Calls`."""

    _options: CallOptions

    @abstractmethod
    def _submission(self, fn: object) -> Submission:
        """Where calls of this function go."""

    @overload
    def stream(
        self, fn: Callable[P, AsyncIterable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> CallStream[T]: ...
    @overload
    def stream(
        self, fn: Callable[P, Iterable[T]], /, *args: P.args, **kwargs: P.kwargs
    ) -> CallStream[T]: ...
    @overload
    def stream(
        self,
        fn: Callable[P, Coroutine[Any, Any, Iterable[T] | AsyncIterable[T]]],
        /,
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> CallStream[T]: ...
    @public
    def stream(self, fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> CallStream[Any]:
        """Run the generator function ``fn`` in a worker, and return an iterator of its items, which
        come as they are yielded.

        Instead of a generator function it may be anything that returns something to iterate. An
        ``async`` one runs in the "async" lane, unless ``options(lane=...)`` says otherwise. It runs
        as one call does, from now on, whether or not items are fetched. It waits while
        ``options(stream_buffersize=...)`` items have been yielded and not fetched; it holds its
        slot then, too, and its ``timeout`` runs on. If it fails, that is raised after the items
        before it. Once an item was delivered, it is not retried, whatever its options.

        What cannot be pickled fails the returned iterator, not this method.

        Raises:
            TypeError: ``fn`` is not callable.
            RuntimeError: the executor was shut down.
            ExecutorBroken: the executor cannot run calls any more.
        """
        return self._submission(fn).stream(self._options, fn, args, kwargs)

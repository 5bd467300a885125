"""An executor's calls as OpenTelemetry spans.

Thread: callers' threads begin the spans of calls; the thread that delivers an outcome ends them, or
the one that iterates; workers make those of runs.
Guarantees: a span that was begun is ended, however the call ends; calls made while nobody traces
take no step more.

A submitted call has a span ``submit NAME``; a ``map`` (or relative) has one, ``map NAME``, for all
of its calls, until its results were fetched or its iterator is closed. It is a child of the
caller's current span, and its context, baggage included, travels to the workers: each run of a call
has there a span ``NAME``, a child of it, which is the current one for what the call does. Those are
made with the tracer provider that the worker has, which the executor's ``initializer`` sets (see
"Watching" in the documentation).

====================== =======================================================================
attribute              of
====================== =======================================================================
``code.function.name`` all: the function, with its module
``process.pid``        runs: the worker's process id; events
``hybridexec.node``    the name of its machine, if that is a node of a cluster: the same
``error.type``         what has failed: the exception's type
====================== =======================================================================

=========================== ==================================================================
event of the call's span    says
=========================== ==================================================================
``hybridexec.retry``        a run came to nothing, and the call is to run again; with
                            ``exception.type`` and ``exception.message`` of what ended it
``hybridexec.worker_lost``  a run ended with its worker's process; the same attributes
``hybridexec.cancelled``    the call was cancelled
``exception``               the call has failed; the span's status is an error then
=========================== ==================================================================
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from .spans import AsyncResults, Results, describe, end, end_with, tell
from .styles import ASYNC, style_of
from .wire.contract import NODE
from .wire.surrounded import Surrounded, innermost
from .wire.wording import function_name

if TYPE_CHECKING:
    from opentelemetry.trace import Span, Tracer, TracerProvider

    from .executor import ExecutorView, HybridExecutor
    from .parent.assembly import Assembly
    from .parent.client.call_stream import CallStream
    from .parent.client.submission import Submission

__all__ = ["Tracing", "opentelemetry"]

_NAME = "hybridexec"


def opentelemetry(
    executor: HybridExecutor | ExecutorView, tracer_provider: TracerProvider | None = None
) -> Tracing:
    """Trace the calls of ``executor`` from here on, those made through its views included.

    Args:
        executor: an executor, or a view of one.
        tracer_provider: makes the spans of calls; None for the global one. Workers use the global
            one that they have.

    Returns:
        What ends that, with ``close()``.

    Raises:
        ImportError: the API is not installed: ``pip install 'hybridexec[opentelemetry]'``.
        ValueError: the executor is traced already.
        RuntimeError, ExecutorBroken: it takes no more calls.
    """
    try:
        from opentelemetry import trace
    except ImportError as error:
        raise ImportError(
            "hybridexec.tracing.opentelemetry needs opentelemetry-api, which is not installed: pip "
            "install 'hybridexec[opentelemetry]'"
        ) from error
    root: Any = getattr(executor, "_executor", executor)
    assembly: Assembly = root._assembly
    assembly.engine.check_open()  # and with the engine, there is a way in
    inner = assembly.submission
    if isinstance(inner, _WayIn):
        raise ValueError("this executor is traced already: close() what traces it first")
    way_in = _WayIn(inner, trace.get_tracer(_NAME, _version(), tracer_provider))
    assembly.submission = cast("Submission", way_in)
    return Tracing(assembly, inner)


def _version() -> str:
    from . import __version__

    return __version__


class Tracing:
    """That the calls of an executor are traced."""

    def __init__(self, assembly: Assembly, before: Submission | None) -> None:
        self._assembly = assembly
        self._before = before

    def close(self) -> None:
        """Trace the calls that are made from here on no longer. A second call does nothing."""
        before, self._before = self._before, None
        if before is not None:
            self._assembly.submission = before


class _WayIn:
    """As :class:`.submission.Submission`, which it is put in front of."""

    def __init__(self, inner: Any, tracer: Tracer) -> None:
        self._inner = inner
        self._tracer = tracer

    def submit(self, options: Any, fn: Any, *others: Any) -> Future[Any]:
        span, run = self._begin("submit", fn)
        future: Future[Any] = self._call(span, self._inner.submit, options, run, *others)
        if span.is_recording():
            future.add_done_callback(partial(end_with, span))
        return future

    def stream(self, options: Any, fn: Any, *others: Any) -> CallStream[Any]:
        span, run = self._begin("stream", fn)
        stream: CallStream[Any] = self._call(span, self._inner.stream, options, run, *others)
        if span.is_recording():
            stream._arrivals.on_end = partial(end, span)
        return stream

    def map(self, *args: Any) -> Iterator[Any]:
        return self._stream("map", *args)

    def map_unordered(self, *args: Any) -> Iterator[Any]:
        return self._stream("map_unordered", *args)

    def outcomes(self, *args: Any) -> Iterator[Any]:
        return self._stream("outcomes", *args)

    def awaited(self, options: Any, fn: Any, method: str, *others: Any) -> AsyncIterator[Any]:
        span, run = self._begin(method, fn)
        results: Any = self._call(span, self._inner.awaited, options, run, method, *others)
        return AsyncResults(results, span, method) if span.is_recording() else results

    @property
    def room(self) -> Any:
        return self._inner.room

    def _stream(self, method: str, options: Any, fn: Any, *others: Any) -> Iterator[Any]:
        span, run = self._begin(method, fn)
        results: Any = self._call(span, getattr(self._inner, method), options, run, *others)
        return Results(results, span, method) if span.is_recording() else results

    def _begin(self, method: str, fn: Any) -> tuple[Span, Any]:
        """The span of a call or a stream, and the function that its calls run."""
        from opentelemetry import propagate, trace

        from .parent.work.function import check_callable

        check_callable(fn)
        attributes = {"code.function.name": _full_name(fn)}
        span = self._tracer.start_span(f"{method} {function_name(fn)}", attributes=attributes)
        carrier: dict[str, str] = {}
        # Without a provider, older versions of the API make a span that is in no trace.
        traced = span.get_span_context().is_valid
        propagate.inject(carrier, trace.set_span_in_context(span) if traced else None)
        run = _Run(fn, carrier)
        if span.is_recording():
            run.listener = partial(tell, span)
        return span, run

    def _call(self, span: Span, method: Callable[..., Any], *args: Any) -> Any:
        try:
            return method(*args)
        except BaseException as error:
            end(span, error)
            raise


class _Run(Surrounded):
    """A function whose calls have a span in the worker."""

    def __init__(self, function: Callable[..., Any], carrier: dict[str, str]) -> None:
        super().__init__(function)
        self._carrier = carrier

    def __reduce__(self) -> tuple[Any, ...]:
        return _Run, (self.function, self._carrier)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, in the context of its caller, with a span of its own; a coroutine has
        the span until it ends."""
        from opentelemetry import context, propagate

        _flush_at_the_end()
        context.attach(propagate.extract(self._carrier))  # this call has a context of its own
        if style_of(innermost(self.function)) == ASYNC:
            return self._awaited(*args, **kwargs)
        with self._span():
            return self.function(*args, **kwargs)

    async def _awaited(self, *args: Any, **kwargs: Any) -> Any:
        with self._span():
            return await self.function(*args, **kwargs)

    @contextmanager
    def _span(self) -> Iterator[None]:
        from opentelemetry import trace

        tracer = trace.get_tracer(_NAME, _version())
        attributes: dict[str, Any] = {
            "code.function.name": _full_name(self.function),
            "process.pid": os.getpid(),
        }
        if NODE in os.environ:
            attributes["hybridexec.node"] = os.environ[NODE]
        with tracer.start_as_current_span(self.__qualname__, attributes=attributes) as span:
            try:
                yield
            except BaseException as error:
                describe(span, error)
                raise


def _full_name(function: Any) -> str:
    while (inner := getattr(function, "func", None) or _inside(function)) is not None:
        function = inner
    module = getattr(function, "__module__", None)
    name = function_name(function)
    return f"{module}.{name}" if isinstance(module, str) else name


def _inside(function: Any) -> Any:
    return function.function if isinstance(function, Surrounded) else None


_flushing: set[int] = set()


def _flush_at_the_end() -> None:
    """Have the spans exported that a worker has when it ends. (A forked one runs no exit handlers
    but multiprocessing's.)"""
    if os.getpid() not in _flushing:
        from multiprocessing import util

        _flushing.add(os.getpid())
        util.Finalize(None, _flush, exitpriority=10)


def _flush() -> None:
    from opentelemetry import trace

    flush = getattr(trace.get_tracer_provider(), "force_flush", None)
    if flush is not None:
        flush()

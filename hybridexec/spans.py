"""What the spans of calls tell, and when they end: see :mod:`hybridexec.tracing`.

Thread: the thread that delivers an outcome, or the one that iterates results.
Guarantees: a span is ended once.
"""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, Any

from . import native
from .errors import WorkerLost

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from .events import CallsRetried


class Results(Iterator[Any]):
    """The results of a stream, whose span ends with them."""

    def __init__(self, results: Any, span: Span, method: str) -> None:
        self._results = results
        self._span = span
        self._method = method

    def __next__(self) -> Any:
        try:
            result = next(self._results)
        except StopIteration:
            end(self._span)
            raise
        except BaseException as error:
            end(self._span, error)
            raise
        _tell_of(self._span, self._method, result)
        return result

    def close(self) -> None:
        """As that of the results."""
        self._results.close()
        end(self._span)

    def __del__(self) -> None:
        end(self._span)


class AsyncResults(AsyncIterator[Any]):
    """The same for those of ``amap`` and its relatives."""

    def __init__(self, results: Any, span: Span, method: str) -> None:
        self._results = results
        self._span = span
        self._method = method.removeprefix("a")

    async def __anext__(self) -> Any:
        try:
            result = await anext(self._results)
        except StopAsyncIteration:
            end(self._span)
            raise
        except BaseException as error:
            import asyncio  # it is there by now

            cancelled = isinstance(error, asyncio.CancelledError)
            end(self._span, CancelledError() if cancelled else error)
            raise
        _tell_of(self._span, self._method, result)
        return result

    async def aclose(self) -> None:
        """As that of the results."""
        await self._results.aclose()
        end(self._span)

    def __del__(self) -> None:
        end(self._span)


def _tell_of(span: Span, method: str, result: Any) -> None:
    """Have the span tell of a result that is a worker's loss."""
    if method != "map":  # where errors may be results
        lost = result.error if method == "outcomes" else result
        if isinstance(lost, WorkerLost):
            _tell_lost(span, lost)


def describe(span: Span, error: BaseException) -> None:
    """Say in a run's span how it has failed, as far as the API does not when it ends."""
    from opentelemetry.trace import Status, StatusCode

    span.set_attribute("error.type", _type_name(error))
    if not isinstance(error, Exception):  # what stops a call is none
        span.set_status(Status(StatusCode.ERROR, f"ended by {type(error).__name__}"))


def _type_name(error: BaseException) -> str:
    """The type as the API's exception events have it."""
    kind = type(error)
    name = kind.__qualname__
    return name if kind.__module__ == "builtins" else f"{kind.__module__}.{name}"


def end_with(span: Span, future: Future[Any]) -> None:
    """End a submitted call's span."""
    if future.cancelled():
        end(span, CancelledError())
    else:
        end(span, future.exception())


def end(span: Span, error: BaseException | None = None) -> None:
    """End a call's span; not again, if it has ended."""
    if not span.is_recording():
        return
    if isinstance(error, CancelledError):
        span.add_event("hybridexec.cancelled")
    elif error is not None and not isinstance(error, GeneratorExit):
        from opentelemetry.trace import Status, StatusCode

        if isinstance(error, WorkerLost):
            _tell_lost(span, error)
        span.set_attribute("error.type", _type_name(error))
        span.record_exception(error)
        span.set_status(Status(StatusCode.ERROR, f"{type(error).__name__}: {error}"))
    span.end()


def tell(span: Span, events: list[CallsRetried]) -> None:
    """Runs of the call came to nothing, and it is to run again."""
    for event in events if span.is_recording() else ():  # it may have been cancelled meanwhile
        at = time.time_ns() - int((native.monotonic() - event.at) * 1e9)
        why = _why(event.error, event.text, event.pid, event.node)
        if event.error in ("WorkerLost", "NodeLost"):
            span.add_event("hybridexec.worker_lost", why, at)
        span.add_event("hybridexec.retry", why, at)


def _tell_lost(span: Span, error: WorkerLost) -> None:
    span.add_event(
        "hybridexec.worker_lost", _why(type(error).__name__, str(error), error.pid, error.node)
    )


def _why(error: str, text: str, pid: int | None, node: str) -> dict[str, Any]:
    """The attributes of an event."""
    why: dict[str, Any] = {"exception.type": error, "exception.message": text}
    if pid is not None:
        why["process.pid"] = pid
    if node:
        why["hybridexec.node"] = node
    return why

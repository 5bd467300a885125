"""Makes the message that has a worker run calls.

Thread: turn holder.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ...options import How
from ...wire import frames, payload
from ...wire.messages import Calls
from ...wire.shared import Part
from ..work.batch import Batch
from ..work.function import Function
from .backlog import Span
from .worker import Worker

#: What stands in a frame's head as it is.
_IN_HEAD = {tuple, bytes}


def calls_frame(worker: Worker, granted: list[Span]) -> tuple[Calls, list[Part]]:
    """The message with these calls, and its segments; it includes functions new to the worker."""
    functions: list[tuple[Any, ...]] = []
    segments: list[Part] = []
    spans: list[tuple[Any, ...]] = []
    last_function, last_how, last_bare, last_prelude, next_id = None, None, False, None, 0
    last_items: list[Any] = []
    for batch, low, high, how in _with_how(granted):
        function = batch.function
        items: list[Any] = batch.items[low:high]
        if not (batch.bare and batch.prelude is None) and not set(map(type, items)) <= _IN_HEAD:
            items = [
                frames.embed(item, segments) if type(item) is payload.Segments else item
                for item in items
            ]
        first = batch.first + low
        if (
            first == next_id
            and function is last_function
            and how is last_how
            and function.lasting
            and batch.bare is last_bare
            and batch.prelude is last_prelude
        ):
            # Calls that were submitted one by one, with consecutive ids.
            last_items += items
            next_id += len(items)
            continue
        reference: int | bytes | list[int] = function.number
        if function.number not in worker.known:
            if not function.lasting and batch.size == 1 and not function.needs:
                reference = frames.embed(function.payload, segments)
            else:
                worker.known.add(function.number)
                functions += _introduced(worker, function, segments)
        spans.append((reference, how, first, items, batch.bare, batch.prelude, batch.since))
        last_function, last_how, last_items = function, how, items
        last_bare, last_prelude = batch.bare, batch.prelude
        next_id = first + len(items)
    return Calls(functions, spans), segments


def _with_how(granted: list[Span]) -> Iterator[tuple[Batch, int, int, How]]:
    """The spans, with how their calls are run. A call that has failed is by itself if its next
    failure is for ``backoff`` to judge, which is told how many there were."""
    for batch, low, high in granted:
        how = batch.options.how
        if batch.histories is None or not callable(batch.options.backoff):
            yield batch, low, high, how
            continue
        for place in range(low, high):
            history = batch.histories.get(place)
            failed = 0 if history is None else history.retries
            yield batch, place, place + 1, (*how[:-1], failed + 1) if failed else how


def _introduced(worker: Worker, function: Function, segments: list[Part]) -> list[tuple[Any, ...]]:
    """What a worker needs to know a function: pieces of ``__main__``, then the function itself."""
    entries: list[tuple[Any, ...]] = []
    for piece in function.needs:
        if piece.number not in worker.known:
            worker.known.add(piece.number)
            worker.known.discard(piece.replaces)
            embedded = frames.embed(piece.payload, segments)
            entries.append((piece.number, embedded, piece.name))
    needs = [(piece.number, piece.name) for piece in function.needs]
    embedded = frames.embed(function.payload, segments)
    return [*entries, (function.number, embedded, needs)]


def call_frame(worker: Worker, batch: Batch) -> tuple[Calls, Sequence[Part]]:
    """As :func:`calls_frame`, for a batch of one call; with a fast path for a known function with
    plain or packed arguments."""
    function, items, prelude = batch.function.number, batch.items, batch.prelude
    if function in worker.known and (type(items[0]) is tuple or prelude is not None):
        span = function, batch.options.how, batch.first, items, False, prelude, batch.since
        return Calls((), (span,)), ()
    return calls_frame(worker, [(batch, 0, 1)])

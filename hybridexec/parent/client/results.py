"""What a stream's consumer gets: outcomes as values, errors, or ``Outcome`` records.

Thread: the consumer's.
Guarantees: an iterator keeps no result alive that it has yielded; its end, however it comes, is the
stream's.
"""

from __future__ import annotations

from collections.abc import Generator
from concurrent.futures import CancelledError
from itertools import repeat
from typing import TYPE_CHECKING, Any

from ...wire import messages
from ..work.batch import ALL, Ended, Values
from ..work.decode import decode
from .streams import Stream

if TYPE_CHECKING:
    from ...outcomes import Outcome


def results(
    stream: Stream, deadline: float | None, return_exceptions: bool, keep: object
) -> Generator[Any]:
    """What ``map`` and ``map_unordered`` yield; ``keep`` is kept alive meanwhile."""
    try:
        bounded = stream.bounded
        for entry in stream.entries(deadline):
            # No name is bound to a result: the iterator must not keep it alive.
            if isinstance(entry, Values):
                values = entry.values[::-1]
                entry.values.clear()
                pop = values.pop  # these loops are hot: every bytecode counts
                # (Ctrl-C at the jump back of a `while` is not seen here: python/cpython#130279.)
                if bounded:
                    for _ in repeat(None, len(values)):
                        stream.fetch()
                        yield pop()
                else:
                    for _ in repeat(None, len(values)):
                        yield pop()
            else:
                taken = [entry]
                del entry
                if bounded:
                    stream.fetch()
                yield value_of(taken, return_exceptions)
    except KeyboardInterrupt:
        stream.close(running=True)
        raise
    finally:
        stream.close()
        del stream  # what an error's traceback holds must not hold the error


def value_of(taken: list[Ended], return_exceptions: bool) -> Any:
    """The result or error of the one outcome in the list, which is emptied."""
    _, status, value, _, process, history = taken.pop()
    result, error = decode(status, value, process, history)
    if error is None:
        return result
    if return_exceptions and not ends_all(status, value):
        return error
    try:
        raise error
    finally:
        del error, value  # this frame is in its traceback


def ends_all(status: int, value: Any) -> bool:
    """Whether this outcome comes from ``cancel_all()``, which ends a whole stream."""
    return status == messages.CANCELLED and value == ALL


def outcomes(stream: Stream, kept: dict[int, Any], keep: object) -> Generator[Outcome[Any]]:
    """What ``outcomes`` yields."""
    try:
        for ended in stream.entries():
            assert not isinstance(ended, Values), "timed calls end one by one"
            if ends_all(*ended[1:3]):
                raise CancelledError
            stream.fetch()
            yield outcome_of(ended, kept.pop(ended[0]))
    except KeyboardInterrupt:
        stream.close(running=True)
        raise
    finally:
        stream.close()


def outcome_of(ended: Ended, item: Any) -> Outcome[Any]:
    """The record of an outcome."""
    from ...outcomes import Outcome  # slow to load, and most programs do not need it

    _, status, value, seconds, process, history = ended
    value, error = decode(status, value, process, history)
    before = len(history.texts) if history is not None else 0
    ran = process is not None  # a call that lost its worker has one only if it had started
    return Outcome(
        item=item,
        value=value,
        error=error,
        attempts=before + ran,
        seconds=seconds,
        worker=None if process is None else process.pid,
        node="" if process is None else process.node,
    )

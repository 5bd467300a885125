"""A batch: calls that share a function, options and the sink that gets their outcomes.

``map`` makes batches of its items, and :mod:`.coalescing` of calls that were submitted one by one.
The calls of a batch are numbered in a row, so that an id and its batch tell a call's place.
"""

from __future__ import annotations

import itertools
import logging
import threading
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from ...options import CallOptions
from ...wire.payload import Payload
from ...wire.wording import call_text
from .function import Function

#: What travels as one call: plain arguments, or a payload of ``(args, kwargs)``. In a bare batch it
#: is the one argument itself, plain.
Item = tuple[Any, ...] | Payload

#: More ways for a call to end, beside those in wire.frames. LOST: the value is the exception that
#: all calls ended by the same event share, or a Loss; UNPICKLABLE: it is that of the call alone,
#: which never left.
LOST, UNPICKLABLE = -1, -2

#: What comes with CANCELLED if all calls were cancelled at once.
ALL = "all"

#: How a call ended, still as it came from the wire: the call's place among all of its sink's, a
#: status, a value, the seconds it ran (or None), the worker's pid (or None), and what became of its
#: earlier runs (or None if there were none). A plain tuple, because one is made for every call.
Ended = tuple[int, int, Any, float | None, int | None, "Troubles | None"]

#: The calls of a batch are numbered by so many lower bits of their ids.
ID_BITS = 32
NOTHING: frozenset[int] = frozenset()
_ids = itertools.count(1)
_logger = logging.getLogger("hybridexec")


class Values(NamedTuple):
    """How many calls in a row ended: with plain values, and nothing more to say of them."""

    #: The place of the first call among all of its sink's.
    first: int
    values: list[Any]


class Sink(Protocol):
    """Who wants to know how calls ended."""

    def deliver(self, ended: Sequence[Ended] | Values) -> None:
        """Take outcomes, each call's exactly once; on the I/O thread, or on what delivers in its
        place (see :mod:`.inline_calls` and :mod:`.gevent_parent`)."""


#: Outcomes, and to whom they go.
Delivery = tuple[Sink, Sequence[Ended] | Values]


def deliver(sink: Any, ended: Any) -> None:
    """Give ``sink`` outcomes; the others get theirs, whatever it does."""
    try:
        sink.deliver(ended)
    except BaseException as error:
        if is_ctrl_c(error):
            raise
        # SystemExit out of a user's callback, say: it must not stop the deliveries.
        _logger.exception("a callback of a call's outcome failed")


def is_ctrl_c(error: BaseException) -> bool:
    """Whether Ctrl-C has hit a caller that sees to an outcome itself: then it is the caller's."""
    main = threading.current_thread() is threading.main_thread()
    return main and isinstance(error, KeyboardInterrupt)


def deliver_all(deliveries: Iterable[Delivery]) -> None:
    """Give each sink its outcomes."""
    for sink, ended in deliveries:
        deliver(sink, ended)


class Troubles:
    """What became of a call's earlier runs."""

    __slots__ = ("alone", "lives", "retries", "texts")

    def __init__(self) -> None:
        #: One line for each of them.
        self.texts: list[str] = []
        self.retries = 0  # how many ended with an error after which the call was tried again
        self.lives = 0  # how many ended with their worker
        self.alone = 0  # in how many of those it was the only call that ran there


class Batch:
    """Calls ``first`` to ``first + size - 1``."""

    __slots__ = (
        "arguments",
        "bare",
        "dropped",
        "ended",
        "entered",
        "first",
        "function",
        "items",
        "next",
        "offset",
        "options",
        "remaining",
        "sink",
        "size",
        "troubles",
        "unwanted",
    )

    def __init__(
        self,
        function: Function,
        items: list[Any],
        sink: Sink,
        options: CallOptions,
        offset: int,
        bare: bool = False,
    ) -> None:
        self.first = next(_ids) << ID_BITS
        self.function = function
        #: An :data:`Item` for each call.
        self.items = items
        #: Whether an item is the one argument itself, not a tuple of arguments or a payload.
        self.bare = bare
        self.size = size = len(items)
        self.sink = sink
        #: The place of the first call among all of the sink's.
        self.offset = offset
        self.options = options
        #: Whether the pool has it: a submission may be refused, or interrupted.
        self.entered = False
        #: The calls from this place on have never been handed out to a worker.
        self.next = 0
        #: Calls that have not ended, and by place whether they have.
        self.remaining = size
        self.ended = bytearray(size)
        #: Places of the calls that were cancelled: they must not be sent (again).
        self.dropped: set[int] | frozenset[int] = NOTHING
        #: Places of cancelled calls that a worker had and might have started: if it has not, and
        #: they come back, they have ended.
        self.unwanted: set[int] | frozenset[int] = NOTHING
        #: What the calls that were run before went through, by place; None as long as none was.
        self.troubles: dict[int, Troubles] | None = None
        #: What payloads were made from. A pickle may only refer to it (a manager's proxy does), so
        #: it lives until the calls have ended.
        self.arguments: object = None

    def troubles_of(self, place: int) -> Troubles:
        """The call's troubles, to be added to."""
        if self.troubles is None:
            self.troubles = {}
        return self.troubles.setdefault(place, Troubles())

    def drop(self, places: Iterable[int]) -> None:
        """Note that the calls at these places were cancelled."""
        self.dropped = _with(self.dropped, places)

    def leave_alone(self, places: Iterable[int]) -> None:
        """Note that the calls at these places were cancelled, but may run on."""
        self.unwanted = _with(self.unwanted, places)

    def end(self, low: int, high: int) -> None:
        """Note that the calls from place ``low`` up to ``high`` have ended."""
        count = high - low
        self.ended[low:high] = b"\1" * count
        self.remaining -= count

    def end_rest(self) -> int:
        """Note that the calls have ended that were never handed out; how many these are."""
        low, self.next = self.next, self.size
        count = self.ended.count(0, low)
        self.ended[low:] = b"\1" * (self.size - low)
        self.remaining -= count
        return count

    def forget(self, low: int, high: int) -> None:
        """Let go of the arguments of calls whose outcome was delivered."""
        self.items[low:high] = [None] * (high - low)

    def text(self, place: int) -> str:
        """The call at ``place``, in a few words."""
        return call_text(self.function.name, self.plain(place))

    def plain(self, place: int) -> tuple[Any, ...] | None:
        """The arguments of the call at ``place``, if they are plain and were not let go of."""
        item = self.items[place]
        if self.bare:
            return (item,)
        return item if type(item) is tuple else None


def _with(places: set[int] | frozenset[int], more: Iterable[int]) -> set[int]:
    """These places and more: the same set, unless it is the one that all batches share."""
    if type(places) is not set:
        return set(more)
    places.update(more)
    return places


class Loss(NamedTuple):
    """What a call ends with that had started in a worker that died."""

    #: Shared by all of them.
    error: BaseException
    batch: Batch
    place: int

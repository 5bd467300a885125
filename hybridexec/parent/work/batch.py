"""A batch: calls that share a function, options and the sink that gets their outcomes.

``map`` makes batches of its items, and :mod:`.coalescing` of calls that were submitted one by one.
The calls of a batch are numbered in a row, so that an id and its batch tell a call's place.

Where each of them is, :attr:`Batch.states` says, a byte for each, and only the methods of
:class:`Batch` under "moves" change it:

=========  ========================================================  ===========================
state      a call that                                               goes on to
=========  ========================================================  ===========================
WAITING    waits for a worker                                        SENT
SENT       a worker has                                              any; WAITING: not started
UNWANTED   was cancelled while a worker had it, and may run on       DROPPED, ENDED
DROPPED    was cancelled or given up, its sink told or not to be,
           and whose worker has not answered                         ENDED
RETRYING   failed and waits for its retry                            WAITING
SUSPECT    lost its worker and waits for one in quarantine           SENT
ENDED      is over                                                   nothing
=========  ========================================================  ===========================

Any call may end from where it is.
"""

from __future__ import annotations

import itertools
import logging
import re
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

#: Where a call is.
WAITING, SENT, UNWANTED, DROPPED, RETRYING, SUSPECT, ENDED = range(7)
_SENT, _ENDED = bytes([SENT]), bytes([ENDED])

#: The calls of a batch are numbered by so many lower bits of their ids.
ID_BITS = 32
#: Calls that have not ended and were not dropped; quickly found among millions that have.
_OPEN = re.compile(b"[^%c%c]" % (DROPPED, ENDED), re.DOTALL)
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
        "states",
        "troubles",
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
        #: By place, where each call is.
        self.states = bytearray(size)
        #: Calls that have not ended.
        self.remaining = size
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

    # -- moves ------------------------------------------------------------------------------------

    def send(self, low: int, high: int) -> None:
        """The calls from place ``low`` up to ``high`` are with a worker."""
        self.states[low:high] = _SENT * (high - low)

    def wait(self, place: int) -> None:
        """A call waits for a worker again."""
        self.states[place] = WAITING

    def leave(self, places: Iterable[int]) -> None:
        """Calls were cancelled that a worker has, and may run on if they have started."""
        for place in places:
            self.states[place] = UNWANTED

    def drop(self, places: Iterable[int]) -> None:
        """The sink is not told of these calls any more, or not again, and a worker has them."""
        for place in places:
            self.states[place] = DROPPED

    def park(self, place: int, state: int) -> None:
        """A call waits for something else than a free worker: RETRYING, or SUSPECT."""
        self.states[place] = state

    def end(self, low: int, high: int) -> None:
        """The calls from place ``low`` up to ``high`` have ended."""
        count = high - low
        self.states[low:high] = _ENDED * count
        self.remaining -= count

    def end_rest(self) -> int:
        """The calls have ended that were never handed out; how many these are."""
        low, self.next = self.next, self.size
        count = self.states.count(WAITING, low)
        self.states[low:] = _ENDED * (self.size - low)
        self.remaining -= count
        return count

    # -- what is known of calls -------------------------------------------------------------------

    def open_places(self, high: int) -> list[int]:
        """The calls before place ``high`` that have not ended and were not dropped."""
        return [match.start() for match in _OPEN.finditer(self.states, 0, high)]

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


#: A call, by batch and place.
Call = tuple[Batch, int]


class Loss(NamedTuple):
    """What a call ends with that had started in a worker that died."""

    #: Shared by all of them.
    error: BaseException
    batch: Batch
    place: int

"""A batch: calls that share a function, options and the sink that gets their outcomes.

``map`` makes batches of its items, and :mod:`.coalescing` of calls that were submitted one by one.
The calls of a batch have consecutive ids, so an id and its batch give a call's place.

Thread: the one that makes a batch, until it is submitted; then the turn holder.

:attr:`Batch.states` says where each call is, in a byte, and only the methods of :class:`Batch`
under "moves" change it:

=========  ========================================================  ===========================
state      a call that                                               goes on to
=========  ========================================================  ===========================
WAITING    waits for a worker                                        SENT; LIMITED: it is new
SENT       a worker has                                              any; WAITING: not started
UNWANTED   was cancelled while a worker had it, and may run on       DROPPED, ENDED
DROPPED    was cancelled or given up: its sink hears no more of it,
           and its worker has not answered                           ENDED
RETRYING   failed and waits for its retry                            WAITING, LIMITED
SUSPECT    lost its worker and waits for one in quarantine           SENT
LIMITED    waits until its limits let it start                       WAITING
ENDED      is over                                                   nothing
=========  ========================================================  ===========================

Any call may end from where it is.
"""

from __future__ import annotations

import itertools
import logging
import re
import threading
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple, Protocol

from ...limits import Key
from ...options import CallOptions
from ...process import Process
from ...wire import fragments, messages
from ...wire.messages import Result
from ...wire.payload import Payload
from ...wire.wording import call_text
from .function import Function

#: What travels as one call: plain arguments, or a payload of ``(args, kwargs)``. In a bare batch it
#: is the one argument itself, plain.
Item = tuple[Any, ...] | Payload

#: Statuses beside those in wire.messages. LOST: the value is an exception that all calls ended by
#: the same event share, or a Loss; UNPICKLABLE: it is this call's own exception (it was never sent,
#: or its result is no good); PACKED: it is ``(prelude, fragment)``.
LOST, UNPICKLABLE, PACKED = -1, -2, -3

#: What comes with CANCELLED if all calls were cancelled at once.
ALL = "all"

#: How a call ended, as it came from the wire: its place among all calls of its sink, a status, a
#: value, the seconds it ran (or None), the worker's process (or None), and the history of its
#: earlier runs (or None if there were none). A plain tuple, because one is made for every call.
Ended = tuple[int, int, Any, float | None, Process | None, "AttemptHistory | None"]

#: Where a call is.
WAITING, SENT, UNWANTED, DROPPED, RETRYING, SUSPECT, LIMITED, ENDED = range(8)
_SENT, _LIMITED, _ENDED = bytes([SENT]), bytes([LIMITED]), bytes([ENDED])

#: How many low bits of an id are the call's place in its batch.
ID_BITS = 32
#: Finds the calls that have not ended and were not dropped, fast among millions that have.
_OPEN = re.compile(b"[^%c%c]" % (DROPPED, ENDED))
_ids = itertools.count(1)
_logger = logging.getLogger("hybridexec")


class Values(NamedTuple):
    """How consecutive calls ended: with these values, and nothing more to say of them."""

    #: The place of the first call among all calls of its sink.
    first: int
    #: Plain, or fragments.
    values: list[Any]
    #: The fragments', if they are.
    prelude: bytes | None = None
    #: The worker's.
    process: Process | None = None

    def open(self) -> list[Any] | None:
        """The values; None if one of the fragments is no good."""
        if self.prelude is None:
            return self.values
        try:
            return fragments.load_all(self.prelude, self.values)
        except Exception:
            return None

    def singly(self) -> list[Ended]:
        """The same as the ends of single calls."""
        return [
            (*result, self.process, None) for result in apart(self.first, self.values, self.prelude)
        ]


class Yielded(NamedTuple):
    """Items that a call has yielded one after another."""

    #: How many it has yielded before them. (Deliveries to different sinks may overtake each other,
    #: in a gevent-patched parent.)
    first: int
    #: Whether they are payloads; if not, they are plain.
    packed: bool
    values: list[Any]


def apart(first: int, values: list[Any], prelude: bytes | None) -> Iterator[Result]:
    """The results in a row one by one."""
    for call, value in enumerate(values, first):
        if prelude is None:
            yield call, messages.VALUE, value, None
        else:
            yield call, PACKED, (prelude, value), None


class Limiter(Protocol):
    """Keeps calls until their limits let them start."""

    def leave(self, batch: Batch, places: Iterable[int]) -> None:
        """These calls are about to end, or to wait for a retry."""


class Reader(Protocol):
    """Reads the items of a stream whose calls may have to wait for limits."""

    def wait(self, change: int) -> None:
        """So many more of them wait, or fewer; on the I/O thread."""

    def tell(self) -> None:
        """It has been told of more."""


class Sink(Protocol):
    """Receives the outcomes of calls."""

    def deliver(self, ended: Sequence[Ended] | Values) -> None:
        """Take outcomes, each call's exactly once; on the I/O thread, or what delivers in its place
        (see :mod:`.inline_calls` and :mod:`.gevent_parent`). The sink of a streaming call takes
        :class:`Yielded` items before that, too."""


#: A sink, and the outcomes for it.
Delivery = tuple[Sink, Sequence[Ended] | Values | Yielded]


def deliver(sink: Any, ended: Any) -> None:
    """Give ``sink`` outcomes; whatever it raises is logged, but for a caller's Ctrl-C."""
    try:
        sink.deliver(ended)
    except BaseException as error:
        if is_ctrl_c(error):
            raise
        # Even a SystemExit of a user's callback must not keep outcomes from other sinks.
        _logger.exception("a callback of a call's outcome failed")


def is_ctrl_c(error: BaseException) -> bool:
    """Whether this is Ctrl-C in a caller that handles an outcome itself: the caller must see it."""
    main = threading.current_thread() is threading.main_thread()
    return main and isinstance(error, KeyboardInterrupt)


def deliver_all(deliveries: Iterable[Delivery]) -> None:
    """Give each sink its outcomes."""
    for sink, ended in deliveries:
        deliver(sink, ended)


class AttemptHistory:
    """The history of a call's earlier runs."""

    __slots__ = ("alone", "deaths", "retries", "texts")

    def __init__(self) -> None:
        #: One line for each of them.
        self.texts: list[str] = []
        self.retries = 0  # how many ended with an error and were followed by a retry
        self.deaths = 0  # how many ended with their worker
        self.alone = 0  # in how many of those it was the only call that ran there


class Batch:
    """Calls ``first`` to ``first + size - 1``."""

    __slots__ = (
        "arguments",
        "bare",
        "crew",
        "first",
        "function",
        "histories",
        "items",
        "keys",
        "limiter",
        "next",
        "offset",
        "options",
        "prelude",
        "reader",
        "remaining",
        "retried",
        "since",
        "sink",
        "size",
        "states",
        "weight",
        "yielded",
    )

    def __init__(
        self,
        function: Function,
        items: list[Any],
        sink: Sink,
        options: CallOptions,
        offset: int,
        bare: bool = False,
        prelude: bytes | None = None,
    ) -> None:
        self.first = next(_ids) << ID_BITS
        self.function = function
        #: An :data:`Item` for each call.
        self.items = items
        #: Whether an item is the one argument itself, not a tuple of arguments or a payload.
        self.bare = bare
        #: The prelude of those items that are fragments; None if there are none.
        self.prelude = prelude
        self.size = size = len(items)
        self.sink = sink
        #: The place of the first call among all calls of the sink.
        self.offset = offset
        self.options = options
        #: Bytes of large payloads for each call, on average.
        self.weight = 0
        #: The pool's crew for its lane (:class:`..pool.crew.Crew`); None before it has entered the
        #: pool: a submission may be refused, or interrupted.
        self.crew: Any = None
        #: When it did, in monotonic seconds.
        self.since = 0.0
        #: The calls from this place on have never been handed out to a worker.
        self.next = 0
        #: Where each call is, by place.
        self.states = bytearray(size)
        #: How many calls have not ended.
        self.remaining = size
        #: The histories of calls that were run before, by place; None if there are none.
        self.histories: dict[int, AttemptHistory] | None = None
        #: How many items of its call, a streaming one, were delivered. If any, it is not run again.
        self.yielded = 0
        #: The keys by which calls are limited, by place; None if there are none. And what keeps to
        #: these, and other, limits; None if nothing does.
        self.keys: list[Key] | None = None
        self.limiter: Limiter | None = None
        #: Who reads the items of its stream, if that is to know how many calls wait for limits.
        self.reader: Reader | None = None
        #: How many runs of its calls came to nothing and are followed by another.
        self.retried = 0
        #: The objects that payloads were made from. A pickle may merely refer to one (a manager's
        #: proxy does), so they are kept alive until the calls have ended.
        self.arguments: object = None

    def history_of(self, place: int) -> AttemptHistory:
        """The call's history, made if there is none."""
        if self.histories is None:
            self.histories = {}
        return self.histories.setdefault(place, AttemptHistory())

    # -- moves ------------------------------------------------------------------------------------

    def send(self, low: int, high: int) -> None:
        """The calls from place ``low`` up to ``high`` are with a worker."""
        self.states[low:high] = _SENT * (high - low)

    def wait(self, place: int) -> None:
        """A call waits for a worker again."""
        self.states[place] = WAITING

    def leave(self, places: Iterable[int]) -> None:
        """Calls that a worker has were cancelled; they may run on if they have started."""
        for place in places:
            self.states[place] = UNWANTED

    def drop(self, places: Iterable[int]) -> None:
        """The sink hears no more of these calls, which a worker has."""
        for place in places:
            self.states[place] = DROPPED

    def limit(self, low: int, high: int) -> None:
        """The calls from place ``low`` up to ``high`` wait until their limits let them start."""
        self.states[low:high] = _LIMITED * (high - low)

    def park(self, place: int, state: int) -> None:
        """A call waits for something other than a free worker: RETRYING or SUSPECT."""
        if self.limiter is not None and state == RETRYING:
            self.limiter.leave(self, (place,))
        self.states[place] = state

    def end(self, low: int, high: int) -> None:
        """The calls from place ``low`` up to ``high`` have ended."""
        if self.limiter is not None:
            self.limiter.leave(self, range(low, high))
        count = high - low
        self.states[low:high] = _ENDED * count
        self.remaining -= count

    def end_with(self, outcomes: Sequence[Ended]) -> None:
        """The calls of these outcomes have ended."""
        states, offset = self.states, self.offset
        if self.limiter is not None:
            self.limiter.leave(self, [outcome[0] - offset for outcome in outcomes])
        for outcome in outcomes:
            states[outcome[0] - offset] = ENDED
        self.remaining -= len(outcomes)

    def end_rest(self) -> int:
        """The calls that were never handed out have ended; returns their number."""
        low, self.next = self.next, self.size
        count = self.states.count(WAITING, low)
        self.states[low:] = _ENDED * (self.size - low)
        self.remaining -= count
        return count

    # -- what is known of calls -------------------------------------------------------------------

    def open_places(self, high: int) -> list[int]:
        """The places before ``high`` of the calls that have not ended and were not dropped."""
        return [match.start() for match in _OPEN.finditer(self.states, 0, high)]

    def forget(self, low: int, high: int) -> None:
        """Drop the arguments of calls whose outcome was delivered."""
        self.items[low:high] = [None] * (high - low)

    def text(self, place: int) -> str:
        """The call at ``place``, in a few words."""
        return call_text(self.function.name, self.plain(place))

    def plain(self, place: int) -> tuple[Any, ...] | None:
        """The arguments of the call at ``place``, if they are plain or packed, so that to unpickle
        them runs no code of the user's, and were not dropped."""
        item = self.items[place]
        if self.prelude is not None and type(item) is bytes:
            try:
                item = fragments.load(self.prelude, item)
            except Exception:
                return None
            return (item,) if self.bare else item
        if self.bare and self.prelude is None:
            return (item,)
        return item if type(item) is tuple else None


#: A call, by batch and place.
Call = tuple[Batch, int]


class Loss(NamedTuple):
    """The value of LOST for a call that had started in a worker that died."""

    #: Shared by all such calls of the worker.
    error: BaseException
    batch: Batch
    place: int

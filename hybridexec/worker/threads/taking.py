"""Takes calls out of the inbox, and their arguments out of what travelled.

Thread: the runners, one at a time.
Guarantees: ``TAKEN`` is raised before a call leaves the inbox, and set back if it was not to be
had; a call that was dropped, or that the parent has forbidden to take, is not handed out.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from ...wire import messages, payload
from ...wire.page import HELD, TAKEN, StatusPage
from ..inbox import Inbox, Job, Span
from ..rows import Put


class Taken(NamedTuple):
    """A call that was taken, and is to be run."""

    call: int
    job: Job
    #: What travelled, and whether that is the one argument itself: see :class:`.messages.Calls`.
    item: Any
    bare: bool
    #: The arguments, if a fragment was unpickled; or what that raised; None if it is no fragment.
    ready: tuple[Any, ...] | BaseException | None
    #: When the parent got the call's span, in monotonic seconds.
    since: float

    @property
    def described(self) -> Any:
        """The item, as errors describe it."""
        return (self.item,) if self.bare else self.item

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """The call's arguments, unpickled now if they are not yet.

        Raises:
            Whatever unpickling them raises.
        """
        item, ready = self.item, self.ready
        if self.bare:
            return (item,), {}
        if isinstance(ready, BaseException):
            raise ready
        if ready is not None:
            return ready, {}
        if type(item) is tuple:
            return item, {}
        args, kwargs = payload.loads(item)
        return args, kwargs


class Taking:
    """Takes the calls of one worker."""

    def __init__(self, page: StatusPage, inbox: Inbox, put: Put) -> None:
        """
        Args:
            put: takes what the parent shall get.
        """
        self._words = page.words
        self._inbox = inbox
        self._put = put

    @property
    def waiting(self) -> int:
        """How many calls there are to be taken, as far as may be, on any thread."""
        if self._words[HELD] != self._inbox.released:
            return 0
        return self._inbox.arrived - self._words[TAKEN]

    def take(self, begin: Callable[[int], object], end: Callable[[int], object]) -> Taken | None:
        """The next call that is to be run; None if there is none to be had.

        Args:
            begin: called with each call's id before it leaves the inbox.
            end: called if it was not to be had then, or is not to be run.
        """
        words, inbox = self._words, self._inbox
        while (span := inbox.head()) is not None:
            call = span.next
            begin(call)
            taken = words[TAKEN] + 1
            words[TAKEN] = taken
            try:
                if words[HELD] != inbox.released:
                    raise IndexError
                item = span.items.popleft()
            except IndexError:  # it has been taken back just now, or is about to be
                words[TAKEN] = taken - 1
                end(call)
                if words[HELD] != inbox.released:
                    return None
                continue
            span.next = call + 1
            if inbox.asked and taken >= inbox.low_at:
                inbox.asked = False
                self._put(messages.LowWatermark())
            ready = None
            if span.prelude is not None and type(item) is bytes:
                ready = _unpickled(span, call, item)
            if inbox.dropped and call in inbox.dropped:
                inbox.dropped.discard(call)
                end(call)
                self._put((call, messages.CANCELLED, None, None))
                continue
            bare = span.bare and span.prelude is None
            return Taken(call, span.job, item, bare, ready, span.since)
        return None


def _unpickled(span: Span, call: int, fragment: bytes) -> tuple[Any, ...] | BaseException:
    """The arguments in a call's fragment, or why there are none. No code of the user's runs."""
    place = call - span.first_ahead
    if place >= len(span.ahead):
        try:
            span.unpickle(call, fragment)
        except BaseException as error:
            return error
        place = 0
    found, span.ahead[place] = span.ahead[place], None
    return (found,) if span.bare else found

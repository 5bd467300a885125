"""The calls that have come and not started, in spans of calls that share a job.

Thread: whichever reads the call pipe adds calls and takes some back; main takes them out to run
them. Where these race, a single operation of a deque, which the GIL makes atomic, decides.
Guarantees: calls leave in the order in which they came; each is taken out or back, never both.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..wire import fragments, payload

if TYPE_CHECKING:
    from ..options import How

#: How many fragments are unpickled together at most, and how many bytes of them.
_MOST_AHEAD, _BYTES_AHEAD = 64, 64 * 1024
_FRAGMENTS = {bytes}


class Job:
    """What the calls of one span share: their function and how to run it."""

    __slots__ = (
        "attempt",
        "function",
        "packer",
        "reference",
        "retrying",
        "special",
        "timed",
        "timeout",
        "traced",
        "window",
    )

    def __init__(self, reference: int | payload.Payload, how: How) -> None:
        """
        Args:
            reference: the function's number, or its pickle.
            how: how calls are run.
        """
        self.function: Callable[..., Any] | None = None
        self.reference = reference
        #: Makes fragments of results; None before there was one that is not plain.
        self.packer: fragments.Packer | None = None
        self.timeout, self.timed, self.traced, self.retrying, self.window, self.attempt = how
        #: Whether there is more to do about such a call than to run it. (A streaming call's result
        #: must not leave in a row, which may be in the outbox before its items.)
        self.special = (
            self.timed or self.traced or self.timeout is not None or self.window is not None
        )

    def new_packer(self) -> fragments.Packer:
        """A packer for the results of these calls."""
        self.packer = fragments.Packer(payload.main_by_value)
        return self.packer

    def press(self, prelude: bytes | None) -> Callable[[object], bytes | None] | None:
        """A row of results begins: what makes its fragments from now on, if it is of fragments, and
        will be of this prelude."""
        packer = self.packer
        if packer is None:
            return None
        packer.refresh()
        return packer.press if packer.prelude is prelude and not packer.undecided else None


class Span:
    """Calls in a row that share a job: their ids are consecutive."""

    __slots__ = (
        "_singly",
        "ahead",
        "bare",
        "end",
        "first_ahead",
        "items",
        "job",
        "next",
        "prelude",
        "since",
    )

    def __init__(
        self,
        job: Job,
        first: int,
        items: Iterable[Any],
        bare: bool,
        prelude: bytes | None = None,
        since: float = 0.0,
    ) -> None:
        self.job = job
        #: See :class:`.messages.Calls` for these four.
        self.items = deque(items)
        self.bare = bare
        self.prelude = prelude
        self.since = since
        #: What is unpickled of some calls' arguments, and the id of the first of these; who takes a
        #: call empties its place.
        self.ahead: list[Any] = []
        self.first_ahead = first
        self._singly = False  # whether each is unpickled by itself
        # Invariant: while nobody is taking a call, end - next == len(items).
        self.next = first  # the id of the first call, written only where calls are taken
        self.end = first + len(self.items)  # the id after the last, written by the reader only

    def unpickle(self, call: int, fragment: bytes) -> list[Any]:
        """Put ahead what a call has, which was taken just now, and what some have that follow it.

        Raises:
            Whatever its unpickling raises.
        """
        assert self.prelude is not None
        together = [fragment]
        if not self._singly:
            # A copy, because some may be taken back meanwhile.
            together += islice(self.items, min(_MOST_AHEAD - 1, _BYTES_AHEAD // len(fragment)))
            if set(map(type, together)) != _FRAGMENTS or sum(map(len, together)) > _BYTES_AHEAD:
                del together[1:]
        try:
            values = fragments.load_all(self.prelude, together)
        except Exception:
            # One of them is no good, and that is for its own call to say.
            self._singly = True
            values = [fragments.load(self.prelude, fragment)]
        self.first_ahead, self.ahead = call, values
        return values


class Inbox:
    """The spans of calls in the order in which they came."""

    def __init__(self) -> None:
        #: Invariant: spans are removed only where calls are taken, and only empty ones.
        self.spans: deque[Span] = deque()
        #: How many calls have come and were not taken back; written by the reader only.
        self.arrived = 0
        #: Cancelled calls that have not started.
        self.dropped: set[int] = set()
        #: Whether the parent wants to hear when few calls are left, and at which value of ``TAKEN``
        #: that is; written by the reader only.
        self.asked = False
        self.low_at = 0
        #: The number of the last Reclaim; while the status page's is another, no call is taken.
        self.released = 0

    def add(self, span: Span) -> None:
        """Put calls in."""
        self.arrived += len(span.items)
        self.low_at += len(span.items)
        self.spans.append(span)

    def head(self) -> Span | None:
        """The span with the next call, if there is one; on the main thread."""
        spans = self.spans
        while spans:
            if spans[0].items:
                return spans[0]
            spans.popleft()
        return None

    def take_back(self, count: int) -> list[int]:
        """Take up to ``count`` calls out again, the newest first."""
        calls: list[int] = []
        for span in reversed(list(self.spans)):
            while len(calls) < count and self._shorten(span):
                calls.append(span.end)
        self.dropped.difference_update(calls)
        return calls

    def reclaim(self, number: int, calls: list[int]) -> None:
        """Take these calls out again, which are the last that came: they run elsewhere. None is
        taken now; from then on, they are again."""
        gone = set(calls)
        for span in reversed(list(self.spans)):
            while span.end - 1 in gone and self._shorten(span):
                pass
        self.dropped -= gone
        self.released = number

    def notify_low(self, low: int, taken: int) -> bool:
        """Have it said when no more than ``low`` calls are left, of which ``taken`` have been taken
        so far; whether that is so now."""
        self.low_at = self.arrived - low
        self.asked = taken < self.low_at
        return not self.asked

    def _shorten(self, span: Span) -> bool:
        """Take the last call out of a span, if there is one."""
        try:
            span.items.pop()
        except IndexError:
            return False
        span.end -= 1
        self.arrived -= 1
        self.low_at -= 1
        return True

    def drop(self, calls: Iterable[int]) -> None:
        """Of these calls, those that are here are not to be run."""
        spans = list(self.spans)
        self.dropped.update([call for call in calls if _is_in(spans, call)])

    def forget_dropped(self) -> None:
        """Forget dropped calls that are not here any more."""
        if self.dropped:
            spans = list(self.spans)
            gone = [call for call in list(self.dropped) if not _is_in(spans, call)]
            self.dropped.difference_update(gone)


def _is_in(spans: list[Span], call: int) -> bool:
    return any(span.next <= call < span.end for span in spans)

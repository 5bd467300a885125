"""What limits of calls ask of those who submit them: their keys, and to look ahead.

Thread: callers' threads, and consumers' of streams; :attr:`Limited.waiting` is the turn holder's.
Guarantees: a call's key is found out in the thread that passes its arguments; what is wrong with it
is its own call's failure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...limits import Key, Limits
from ...options import CallOptions
from ...wire.wording import add_note

#: How many calls of a stream may wait for limits while more are read, for those that need not.
LOOK_AHEAD = 10_000

_KEY_NOTE = (
    "The key of this call could not be found out, so it was not run: key= of options() is called "
    "with the call's arguments, and returns what can be hashed, such as the name of a host."
)


def key_of(limits: Limits, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Key | None:
    """The key of a call; None if calls have none.

    Raises:
        Whatever finding it out raises.
    """
    try:
        return limits.find(args, kwargs)
    except BaseException as error:
        add_note(error, _KEY_NOTE)
        raise


def limited(options: CallOptions, wake: Callable[[], None] | None = None) -> Limited | None:
    """What a stream of such calls keeps; None if they have no limits. See :class:`Limited`."""
    return None if options.limits is None else Limited(options.limits, wake)


class Limited:
    """What a stream of limited calls keeps."""

    def __init__(self, limits: Limits, wake: Callable[[], None] | None) -> None:
        """
        Args:
            wake: has the consumer look whether there is room, if it may :meth:`look_ahead`.
        """
        self._limits = limits
        self._wake = wake
        self._looks_ahead = False
        self._keys: list[Key] = []
        self._first = 0
        #: How many calls wait for limits.
        self.waiting = 0
        #: Whether there are more of them than when calls were read last.
        self.has_news = False

    def look_ahead(self) -> None:
        """Calls that wait for limits count apart from the stream's bound."""
        self._looks_ahead = True

    def room(self, bound: int, unfetched: int) -> int:
        """How many more calls may be read if so many are unfinished or unfetched."""
        if not self._looks_ahead:
            return bound - unfetched
        waiting = self.waiting
        return min(bound - (unfetched - waiting), LOOK_AHEAD - waiting)

    def find_keys(
        self, count: int, first: int, arguments: Callable[[int], tuple[Any, ...]]
    ) -> Iterator[tuple[int, int, BaseException | None]]:
        """Find out the keys of ``count`` calls, of which ``first`` is the place of the first.

        Yields runs of calls, from one up to another, whose keys :meth:`keys` then has, each with
        the error of the call that follows, if that has no key.
        """
        if self._limits.key is None:
            yield 0, count, None
            return
        start = 0
        self._keys, self._first = [], first
        for number in range(count):
            try:
                key = key_of(self._limits, arguments(number), {})
            except KeyboardInterrupt:
                raise
            except BaseException as error:
                yield start, number, error
                start = number + 1
                self._keys, self._first = [], first + start
            else:
                assert key is not None
                self._keys.append(key)
        yield start, count, None

    def keys(self, first: int, count: int) -> list[Key] | None:
        """The keys of ``count`` calls, of which ``first`` is the place of the first."""
        if self._limits.key is None:
            return None
        start = first - self._first
        return self._keys[start : start + count]

    # -- on the I/O thread --------------------------------------------------------------------

    def wait(self, change: int) -> None:
        """More calls wait for limits, or fewer."""
        self.waiting += change

    def tell(self) -> None:
        """More calls wait than before: there may be room for others."""
        if self._looks_ahead and self._wake is not None:
            self.has_news = True
            self._wake()

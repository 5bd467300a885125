"""Who listens to the executor's events, and what each of them is told.

Thread: any may begin or cease to listen; the I/O thread tells.
Guarantees: a listener is called without the turn and without a lock, after the outcomes of that
turn were delivered, with all its events since the last time; by one thread, so in order (by a
greenlet for each list in a process that gevent has patched). What it raises is logged, and hurts
neither calls nor other listeners.

Calls are told of only while somebody wants to hear of them. The events' module is not loaded before
something happens that somebody wants to hear of.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from ..pool.pool import Pool
from ..pool.tally import OF_CALLS

if TYPE_CHECKING:
    from ...events import Event

    #: It must return soon: the I/O thread waits for it.
    Listener = Callable[[list[Event]], object]
    _Entry = tuple[Listener, frozenset[str]]
    #: A listener, and what to tell it.
    News = tuple[Listener, list[Event]]

_logger = logging.getLogger("hybridexec")


class Listeners:
    """The listeners of one engine."""

    def __init__(self, pool: Pool, turning: Any, on_io_thread: Callable[[], bool]) -> None:
        """
        Args:
            turning: the turn.
        """
        self._tally = pool.actions.tally
        self._workers = pool.workers
        self._turning = turning
        self._on_io_thread = on_io_thread
        # These two are changed in a turn. The second: who is to be called, once, after what has
        # happened until then was told.
        self._entries: list[_Entry] = []
        self._after: list[Listener] = []

    def listen(self, listener: Listener, names: Collection[str]) -> Callable[[], None]:
        """Tell ``listener`` what happens from here on. Of calls that the pool has by now it hears
        how they go on, but not that they were submitted.

        Args:
            names: those of the events' classes that it wants.

        Returns:
            What ends that. The list that is on its way may still come.
        """
        entry = listener, frozenset(names)
        with self._turning:
            self._entries.append(entry)
            if self._tally.emitter is None and _is_of_calls(entry):
                from ..pool.emitter import Emitter

                self._tally.emitter = Emitter(self._workers)
        return lambda: self._cease(entry)

    def _cease(self, entry: _Entry) -> None:
        with self._turning:
            self._entries = [other for other in self._entries if other is not entry]
            if not any(map(_is_of_calls, self._entries)):
                self._tally.emitter = None

    def after(self, called: Callable[[], object]) -> None:
        """Have ``called`` called when all has been told that has happened by now. The I/O thread
        must be woken, if it sleeps."""
        with self._turning:
            self._after.append(lambda _: called())

    def take(self, now: float) -> list[News]:
        """What there is to tell, if this is the thread that tells it; in a turn."""
        tally = self._tally
        if not (tally.emitter or tally.happened or tally.told_apart or self._after):
            return []
        if not self._on_io_thread():
            return []
        wanted: frozenset[str] = frozenset().union(*(names for _, names in self._entries))
        events = tally.take_events(now, wanted)
        news = [
            (listener, [event for event in events if type(event).__name__ in names])
            for listener, names in self._entries
        ]
        after, self._after = self._after, []
        told = [each for each in news if each[1]] + tally.take_apart(now)
        return told + [(called, []) for called in after]


def _is_of_calls(entry: _Entry) -> bool:
    return not OF_CALLS.isdisjoint(entry[1])


def tell_all(news: list[News]) -> None:
    """Give each listener its events; outside of the turn."""
    for listener, told in news:
        try:
            listener(told)
        except Exception:
            _logger.exception("a listener of an executor's events failed")

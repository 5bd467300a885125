"""Who listens to the executor's events, and what each of them is told.

Thread: any may begin or cease to listen; the I/O thread tells.
Guarantees: a listener is called without the turn and without a lock, after the outcomes of that
turn were delivered, with all its events since the last time; by one thread, so in order (by a
greenlet for each list in a process that gevent has patched). What it raises is logged, and hurts
neither calls nor other listeners.

While nobody listens, the pool has no emitter, and the events' module is not loaded.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ..pool.pool import Pool

if TYPE_CHECKING:
    from ...events import Event

    #: It must return soon: the I/O thread waits for it.
    Listener = Callable[[list[Event]], object]
    _Entry = tuple[Listener, frozenset[type[Event]]]
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
        self._actions = pool.actions
        self._tally = pool.actions.tally
        self._workers = pool.workers
        self._turning = turning
        self._on_io_thread = on_io_thread
        # Changed in a turn.
        self._entries: list[_Entry] = []

    def listen(
        self, listener: Listener, classes: tuple[type[Event], ...] | None = None
    ) -> Callable[[], None]:
        """Tell ``listener`` what happens from here on. Of calls that the pool has by now it hears
        how they go on, but not that they were submitted.

        Args:
            classes: which events, by their classes or what these derive from; None for all.

        Returns:
            What ends that. The list that is on its way may still come.
        """
        from ... import events
        from ..pool.emitter import Emitter

        wanted = (kind for kind in events.KINDS if issubclass(kind, classes or events.Event))
        entry = listener, frozenset(wanted)
        with self._turning:
            self._entries.append(entry)
            if self._tally.emitter is None:
                self._tally.emitter = Emitter(self._workers)
        return lambda: self._cease(entry)

    def _cease(self, entry: _Entry) -> None:
        with self._turning:
            self._entries = [other for other in self._entries if other is not entry]
            if not self._entries:
                self._tally.emitter = None

    def take(self, now: float) -> list[News]:
        """What there is to tell, if this is the thread that tells it; in a turn."""
        if self._tally.emitter is None or not self._on_io_thread():
            return []
        events = self._actions.take_events(now)
        news = [
            (listener, [event for event in events if type(event) in wanted])
            for listener, wanted in self._entries
        ]
        return [(listener, told) for listener, told in news if told]


def tell_all(news: list[News]) -> None:
    """Give each listener its events; outside of the turn."""
    for listener, told in news:
        try:
            listener(told)
        except Exception:
            _logger.exception("a listener of an executor's events failed")

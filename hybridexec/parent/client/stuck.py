"""Finds iterables that keep a loop from the results that they may be waiting for, and says so.

A generator that waits for what the loop over the results is to find waits for ever: while the loop
asks for a result, it is in the generator. From outside, that looks like an iterable that is merely
slow, so what is logged says "if".

Thread: one of its own, while there are loops over such iterables; the rest, the consumers'.
Guarantees: a loop costs one entry in a set, whatever it reads; each is reported once at most. An
iterable whose items are at hand is not watched, and neither are the first items of others.
"""

from __future__ import annotations

import logging
import os
import sys
import weakref
from collections.abc import Iterator
from types import CodeType, FrameType
from typing import Any, Protocol

from ... import native

_logger = logging.getLogger("hybridexec")
#: Seconds between two looks.
_TICK = 0.5
#: Seconds after which a read that keeps back results, or comes when there are none, is reported.
_LONG = 5.0


class Reader(Protocol):
    """A stream, as far as it matters here."""

    @property
    def name(self) -> str:
        """What it calls."""

    def is_held_up(self) -> bool:
        """Whether its next result is there already, or needs another item."""


class Read:
    """The reading of one iterable."""

    def __init__(self, items: Iterator[Any], reader: Reader, code: CodeType) -> None:
        """
        Args:
            items: they are read on the calling thread.
            code: that of the function that reads them.
        """
        self._items = items
        self._thread = native.ident()
        self._code = code
        self._reader = weakref.ref(reader)
        #: What was read by now, while it is read.
        self.chunk: list[Any] | None = None
        # The chunk when it was last looked at, and its size; since when nothing has moved.
        self._seen: tuple[list[Any], int] | None = None
        self._since = 0.0

    def look(self, now: float) -> bool:
        """Report the read if it has taken too long; returns whether it was."""
        chunk, reader = self.chunk, self._reader()
        if chunk is None or reader is None or not reader.is_held_up():
            self._seen = None
            return False
        size = len(chunk)
        if self._seen is None or self._seen[0] is not chunk or self._seen[1] != size:
            self._seen, self._since = (chunk, size), now
            return False
        if now - self._since < _LONG:
            return False
        _logger.warning(
            "the loop over the results of %s has waited for %.0f s for its iterable's next item%s, "
            "and gets no results meanwhile. If that waits for something that the loop itself is to "
            "add, it waits for ever, because it is the loop that reads it: give map_unordered() or "
            "outcomes() a hybridexec.Frontier instead, and have the loop add to that",
            reader.name,
            now - self._since,
            self._place(),
        )
        return True

    def _place(self) -> str:
        frame = self._frame()
        if frame is None:
            return ""
        return f" ({frame.f_code.co_filename}:{frame.f_lineno}, in {frame.f_code.co_qualname})"

    def _frame(self) -> FrameType | None:
        """The iterable's own frame, if it is written in Python."""
        frame = sys._current_frames().get(self._thread)
        inner = None
        while frame is not None and frame.f_code is not self._code:
            frame, inner = frame.f_back, frame
        if frame is not None:
            return inner
        # Where gevent has patched threading, another greenlet of that thread may be running.
        return getattr(self._items, "gi_frame", None)


class _Watch:
    """This process's."""

    def __init__(self) -> None:
        # Reentrant: a finalizer may interrupt its holder.
        self._lock = native.new_lock()
        self._reads: set[Read] = set()
        self._running = False

    def add(self, read: Read) -> None:
        with self._lock:
            self._reads.add(read)
            if self._running:
                return
            self._running = True
        try:
            native.start_thread(self._run, "hybridexec-reads", deaf=True)
        except RuntimeError:
            self._running = False  # there are too many threads: another loop may have more luck

    def forget(self, read: Read) -> None:
        with self._lock:
            self._reads.discard(read)

    def _run(self) -> None:
        while True:
            native.sleep(_TICK)
            with self._lock:
                reads = list(self._reads)
                self._running = bool(reads)
            if not reads:
                return
            for read in reads:
                if read.look(native.monotonic()):
                    self.forget(read)


_watch = _Watch()


def _after_fork_in_child() -> None:
    global _watch
    _watch = _Watch()


os.register_at_fork(after_in_child=_after_fork_in_child)


def watch(read: Read) -> None:
    """Report this read if it takes too long."""
    _watch.add(read)


def forget(read: Read) -> None:
    """It is over; does nothing if it was not watched."""
    _watch.forget(read)

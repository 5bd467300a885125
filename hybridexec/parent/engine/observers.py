"""Those who observe an executor, or go with it: who they are, and that all is told when it ends.

Thread: any may begin to observe or cease; the I/O thread ends.
Guarantees: who ceases to observe has had what happened until then; the end of an executor waits for
its observers and companions, for some seconds.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Protocol

from ... import native
from . import warnings
from .listeners import Listeners
from .observation import PATIENCE, Observation

if TYPE_CHECKING:
    from ...events import Event


class Companion(Protocol):
    """What ends with an executor."""

    def end(self) -> None:
        """The executor has ended. This must return soon."""

    def join(self, seconds: float) -> None:
        """Wait until what follows from that is over, for so many seconds at most."""


class Observers:
    """One engine's. The first is the library's own log."""

    def __init__(
        self, listeners: Listeners, wait_for: Callable[[threading.Event, float | None], bool]
    ) -> None:
        """
        Args:
            wait_for: waits until the I/O thread has told something, for so many seconds at most;
                whether it has, or will.
        """
        self._listeners = listeners
        self._wait_for = wait_for
        self._companions: list[Companion] = []
        self._ended = False
        self.observe(warnings.log, warnings.LEVELS)

    def observe(self, observer: Callable[[Event], object], names: Collection[str]) -> Observation:
        """Have ``observer`` called with each event of the classes with these names, on a thread of
        its own."""
        observation = Observation(observer)
        cease = self._listeners.listen(observation.put, names)
        observation.cease_with(partial(self._cease, observation, cease))
        self._companions.append(observation)
        return observation

    def accompany(self, companion: Companion) -> bool:
        """Have it end with the executor; false if that has ended."""
        self._companions.append(companion)
        return not self._ended

    def leave(self, companion: Companion) -> None:
        """It has ended before the executor."""
        with contextlib.suppress(ValueError):  # two threads may close it
            self._companions.remove(companion)

    def _cease(self, observation: Observation, cease: Callable[[], None]) -> None:
        """Tell an observation what has happened until now, and no more."""
        told = threading.Event()

        def end() -> None:
            cease()
            observation.end()
            told.set()

        self._listeners.after(end)
        if not self._wait_for(told, PATIENCE):
            end()
        if told.is_set():  # else, in a callback, the executor's end may have to wait for it
            self.leave(observation)

    def become_inert(self) -> None:
        """This process is a fork, without the threads."""
        for companion in self._companions:
            if isinstance(companion, Observation):
                companion.become_inert()

    def end(self) -> None:
        """There is nothing more to tell."""
        self._ended = True
        for companion in list(self._companions):
            companion.end()

    def join(self, seconds: float | None) -> None:
        """Wait until all have been told, for so many seconds at most, and not for too long."""
        end = native.monotonic() + (PATIENCE if seconds is None else min(seconds, PATIENCE))
        for companion in list(self._companions):
            companion.join(max(0.0, end - native.monotonic()))

"""Waits for signals without blocking the hub (``sigwait`` and its relatives, ``pause``), and sends
them to a thread that is a greenlet.

Thread: any thread or greenlet; threads without a hub block as usual.
Guarantees: a call that is stopped while it waits has taken no signal, nor has any call taken
another's alarm.

To the kernel, it is the main thread that waits, whichever call does: the mask of blocked signals is
that thread's. The worker's other threads block all signals, so they get none that main waits for.
"""

from __future__ import annotations

import contextlib
import signal
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import Any

from gevent._hub_local import get_hub_if_exists

from ... import native
from . import alarms, signals
from .blocking import Pauses, originals

_sigtimedwait: Any = originals.get("_signal.sigtimedwait")
_sigwait: Any = originals["_signal.sigwait"]

#: Signals that are blocked only because somebody waits for them, and how often.
_held: Counter[int] = Counter()


def sigwait(sigset: Iterable[int], /) -> int:
    """``signal.sigwait``."""
    if get_hub_if_exists() is None:
        return int(_sigwait(sigset))
    return int(_until(set(sigset), None).si_signo)


def sigwaitinfo(sigset: Iterable[int], /) -> signal.struct_siginfo:
    """``signal.sigwaitinfo``."""
    if get_hub_if_exists() is None:
        return originals["_signal.sigwaitinfo"](sigset)  # type: ignore[no-any-return]  # the system's
    return _until(set(sigset), None)  # type: ignore[no-any-return]  # or what stands for it


def sigtimedwait(sigset: Iterable[int], timeout: float, /) -> signal.struct_siginfo | None:
    """``signal.sigtimedwait``."""
    if get_hub_if_exists() is None or not timeout > 0:
        return _sigtimedwait(sigset, timeout)  # type: ignore[no-any-return]  # likewise
    return _until(set(sigset), timeout)  # type: ignore[no-any-return]  # likewise


def _until(numbers: set[int], seconds: float | None) -> Any:
    """Wait for one of those signals; None if it has not come by then."""
    end = None if seconds is None else native.monotonic() + seconds
    if signals.installed is not None:
        numbers = signals.installed.unkept(numbers)
    pauses = Pauses()
    with _blocked(numbers), _for_alarms(numbers) as ours:
        while True:
            found = None if ours is None else ours.kept()
            if found is None:
                found = _look(numbers)
                if found is not None and ours is not None and not ours.claim(found):
                    continue
            if found is not None:
                return found
            left = None if end is None else end - native.monotonic()
            if left is not None and left <= 0:
                return None
            pauses.pause(left)


@contextlib.contextmanager
def _for_alarms(numbers: set[int]) -> Iterator[alarms.Alarms | None]:
    """Have the alarms of the call come here, if it waits for them."""
    ours = alarms.installed
    if ours is None or signals.installed is None or signal.SIGALRM not in numbers:
        yield None
        return
    owner = signals.installed.owner()
    ours.waiting.add(owner)
    try:
        yield ours
    finally:
        ours.waiting.discard(owner)


class _Found:
    """What is known of a signal where the system does not tell."""

    def __init__(self, number: int) -> None:
        self.si_signo = number


def _look(numbers: set[int]) -> Any:
    if _sigtimedwait is not None:
        return _sigtimedwait(numbers, 0)
    return _Found(_sigwait(numbers)) if numbers & signal.sigpending() else None


@contextlib.contextmanager
def _blocked(numbers: set[int]) -> Iterator[None]:
    """Have no handler take what is waited for, as in a wait in the kernel."""
    handled = {number for number in numbers if callable(signal.getsignal(number))}
    if handled:
        handled -= signal.pthread_sigmask(signal.SIG_BLOCK, handled) - _held.keys()
    _held.update(handled)
    try:
        yield
    finally:
        _held.subtract(handled)
        over = {number for number in handled if _held[number] <= 0}
        for number in over:
            del _held[number]
        if over:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, over)


def pause() -> None:
    """``signal.pause``."""
    ours = signals.installed
    if ours is None or get_hub_if_exists() is None:
        originals["_signal.pause"]()
        return
    owner = ours.owner()
    ours.pausing.add(owner)
    pauses = Pauses()
    try:
        while owner in ours.pausing:
            pauses.pause()
    finally:
        ours.pausing.discard(owner)


def pthread_kill(thread_id: int, signalnum: int, /) -> None:
    """``signal.pthread_kill``."""
    originals["_signal.pthread_kill"](_native(thread_id), signalnum)


def pthread_getcpuclockid(thread_id: int, /) -> int:
    """``time.pthread_getcpuclockid``."""
    return int(originals["time.pthread_getcpuclockid"](_native(thread_id)))


def _native(thread_id: int) -> int:
    """The system's id of the thread that a greenlet runs on whose id ``threading`` has told: the
    system takes an id for an address, and reads there."""
    if not isinstance(thread_id, int) or thread_id in sys._current_frames():
        return thread_id
    here: int = native.ident()
    return here if signals.installed is None else signals.installed.main

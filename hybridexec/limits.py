"""How fast calls may come: what ``options(rate=..., key=..., per_key=...)`` asks for.

Thread: callers' threads make them and look keys up; what the pool keeps in a :class:`Key` is the
turn holder's.
Guarantees: what a :class:`Limits` holds was checked. Equal keys are one :class:`Key` as long as any
of their calls is known, so that no code of the user's (``__hash__``, ``__eq__``) is run to tell the
calls of one key from those of another, except in the thread that makes them.
"""

from __future__ import annotations

import os
import weakref
from collections import deque
from collections.abc import Callable, Hashable, Mapping
from typing import Any, NamedTuple

from . import native
from .checks import integer, positive, seconds
from .options import OF_LIMITS

#: Without a ``burst``: by how much the pace is slower than the rate, and how much of ``per`` may be
#: made up for if a start is late. The one outweighs the other: so no more than ``rate`` calls start
#: in any ``per`` seconds, as nearly evenly as they can, and 96 % of the rate is kept.
MARGIN, SLACK = 1.04, 0.01

# Reentrant: a finalizer, or the key's own code, may submit calls.
_looking_up = native.new_lock()


def _after_fork_in_child() -> None:
    global _looking_up
    _looking_up = native.new_lock()  # it may have been held


os.register_at_fork(after_in_child=_after_fork_in_child)


class Pace(NamedTuple):
    """So many seconds lie between starts, on average; any may come so much sooner that it makes up
    for what came later."""

    every: float
    slack: float


class Key:
    """One of the things that calls are limited by."""

    __slots__ = ("__weakref__", "is_in_turn", "running", "time", "waiting", "wakes_at")

    def __init__(self) -> None:
        #: Calls that wait, as spans of their batches, in order.
        self.waiting: deque[Any] = deque()
        #: How many were released and have not ended.
        self.running = 0
        #: When the next would start if all had come at an even pace.
        self.time = 0.0
        #: Whether it is in the queue of those that have turns.
        self.is_in_turn = False
        #: When its next call may start, if it sleeps until then; -1 if it does not.
        self.wakes_at = -1.0


class Limits:
    """How fast the calls of a view may come, and of the views derived from it that set none of this
    anew. There is one for each ``options()`` that does."""

    __slots__ = ("_keys", "burst", "key", "limiter", "per", "per_key", "rate", "rate_per_key")

    def __init__(
        self,
        rate: float | None = None,
        per: float = 1.0,
        burst: int | None = None,
        key: Callable[..., Hashable] | None = None,
        per_key: int | None = None,
        rate_per_key: float | None = None,
    ) -> None:
        self.rate = rate
        self.per = per
        self.burst = burst
        self.key = key
        self.per_key = per_key
        self.rate_per_key = rate_per_key
        self._keys: weakref.WeakValueDictionary[Hashable, Key] = weakref.WeakValueDictionary()
        #: What the pool keeps of it.
        self.limiter: Any = None

    def pace(self, rate: float | None) -> Pace | None:
        """That of so many starts in ``per`` seconds; None for any."""
        if rate is None:
            return None
        every = self.per / rate
        if self.burst is None:
            return Pace(MARGIN * every, SLACK * self.per)
        return Pace(every, (self.burst - 1) * every)

    def find(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Key | None:
        """The key of a call with these arguments; None if calls have none.

        Raises:
            Whatever ``key`` raises, and TypeError if what it returns cannot be hashed.
        """
        if self.key is None:
            return None
        value = self.key(*args, **kwargs)
        with _looking_up:
            found = self._keys.get(value)
            if found is None:
                found = self._keys[value] = Key()
            return found


def updated(before: Limits | None, changes: Mapping[str, Any]) -> Limits | None:
    """What is asked for by these options, where all else is as ``before``; None if nothing is."""
    before = before or Limits()
    asked = {**{name: getattr(before, name) for name in OF_LIMITS}, **changes}
    for name in ("rate", "rate_per_key"):
        if asked[name] is not None:
            asked[name] = positive(asked[name], name)
    asked["per"] = seconds(asked["per"], "per")
    for name in ("burst", "per_key"):
        if asked[name] is not None:
            integer(asked[name], name)
    if asked["key"] is not None and not callable(asked["key"]):
        raise TypeError(
            "key must be a callable that is given a call's arguments and returns what the call is "
            f"limited by, not {type(asked['key']).__name__}"
        )
    _check_together(asked, changes)
    limits = Limits(**asked)
    is_limited = limits.rate or limits.per_key or limits.rate_per_key
    return limits if is_limited else None


def _check_together(asked: Mapping[str, Any], changes: Mapping[str, Any]) -> None:
    """Refuse options that say nothing without others."""
    has_rate = asked["rate"] is not None or asked["rate_per_key"] is not None
    for name in ("per_key", "rate_per_key"):
        if asked[name] is not None and asked["key"] is None:
            raise ValueError(
                f"{name} needs key=, a callable that is given a call's arguments and returns what "
                "the call is limited by, such as its host"
            )
    for name in ("per", "burst"):
        if changes.get(name) is not None and not has_rate:
            raise ValueError(f"{name} needs rate= or rate_per_key=, of which it is a part")
    if changes.get("key") is not None and not has_rate and asked["per_key"] is None:
        raise ValueError("key needs per_key=, rate_per_key= or rate=: what it limits, and how much")

"""Calls that wait because of limits: how many may start in a time, and run at once for each key.

Thread: turn holder.
Guarantees: in any s seconds no more calls are handed out than ``burst + s * rate / per``; without a
``burst``, no more than ``rate`` in any ``per`` seconds; nor of any key than its own rate allows. Of
each key, no more than ``per_key`` are handed out and have not ended. Keys have turns: of those that
may go on, each has one call handed out before any has two. What may be handed out is, when it is
asked for, and what :meth:`Limiter.due` says is exact, so nobody looks in vain. What a call takes of
its key it gives back once, however it ends. A cancelled call is never handed out.

A call costs a few steps, and one that waits for its key's time those of a heap, however many keys
there are.

A key is in one of these places, or in none:

- in turn, if its next call may start as far as it is concerned, or it is about to be looked at;
- asleep, until its next call may start;
- nowhere, if it is full: the end of one of its calls puts it in turn; or if no call of it waits.

Rates are kept as a token bucket without tokens ("generic cell rate algorithm"): of each key, and of
all, it is known when the next call would start if all came evenly. A key is not forgotten before.
"""

from __future__ import annotations

import heapq
import itertools
from collections import deque
from collections.abc import Callable, Iterable
from typing import Any

from ...limits import Key, Limits
from ..work.batch import ENDED, LIMITED, RETRYING, Batch, Call
from .backlog import Span


class Limiter:
    """The calls of one :class:`.limits.Limits`."""

    def __init__(self, limits: Limits, told: Callable[[Batch, int], None]) -> None:
        """
        Args:
            told: is called when more calls of a batch wait here, or fewer, with how many.
        """
        self._told = told
        self._pace = limits.pace(limits.rate)
        self._key_pace = limits.pace(limits.rate_per_key)
        self._per_key = limits.per_key
        #: Whether starts are limited, not only how many run at once.
        self.is_paced = not (self._pace is None and self._key_pace is None)
        self._all = Key()  # stands for the key of calls that have none
        self._time = 0.0  # of all calls, as Key.time
        self._in_turn: deque[Key] = deque()
        self._asleep: list[tuple[float, int, Key]] = []
        # Keys that are kept until their time has come, though none of their calls may wait.
        self._owing: list[tuple[float, int, Key]] = []
        self._order = itertools.count()  # breaks ties: keys cannot be compared
        # Those with calls that wait, or have waited and were cancelled.
        self._keys: dict[Key, None] = {}
        #: How many calls wait.
        # Invariant: how many of its batches' calls are LIMITED.
        self.count = 0

    def _add(self, batch: Batch, change: int) -> None:
        self.count += change
        self._told(batch, change)

    def add(self, batch: Batch) -> None:
        """New calls come."""
        batch.limiter = self
        batch.limit(0, batch.size)
        batch.next = batch.size
        self._add(batch, batch.size)
        keys: Iterable[Key] = itertools.repeat(self._all, batch.size)
        first = 0
        for key, group in itertools.groupby(batch.keys or keys):
            end = first + sum(1 for _ in group)
            self._queue(key)
            key.waiting.append((batch, first, end))
            first = end

    def put_back(self, calls: Iterable[Call]) -> None:
        """Calls are to be tried again, before others of their key."""
        for batch, place in calls:
            batch.limit(place, place + 1)
            self._add(batch, 1)
            key = self._key_of(batch, place)
            self._queue(key)
            key.waiting.appendleft((batch, place, place + 1))

    def _key_of(self, batch: Batch, place: int) -> Key:
        return self._all if batch.keys is None else batch.keys[place]

    def _queue(self, key: Key) -> None:
        """Calls of a key are about to wait."""
        self._keys[key] = None
        if key.wakes_at < 0:
            self._give_turn(key)

    def _give_turn(self, key: Key) -> None:
        if not key.is_in_turn:
            key.is_in_turn = True
            key.wakes_at = -1.0
            self._in_turn.append(key)

    # -- what may start ---------------------------------------------------------------------------

    def due(self, now: float) -> float | None:
        """When a call may start: now, or a later time; None if that depends on the end of others,
        or no call waits."""
        at = now
        if self._next(now) is None:
            if not self._asleep:
                return None
            at = self._asleep[0][0]
        return at if self._pace is None else max(at, self._time - self._pace.slack)

    def peek(self, now: float) -> Batch | None:
        """The batch of the call that may start now; None if none may."""
        if self._pace is not None and self._time - self._pace.slack > now:
            return None
        key = self._next(now)
        return None if key is None else key.waiting[0][0]

    def take(self, now: float) -> Call:
        """Hand out the call of which :meth:`peek` has just told."""
        key = self._in_turn.popleft()
        batch, low, high = key.waiting.popleft()
        place = batch.states.find(LIMITED, low, high)
        if place + 1 < high:
            key.waiting.appendleft((batch, place + 1, high))
        batch.wait(place)
        key.running += 1
        if self._pace is not None:
            self._time = max(self._time, now) + self._pace.every
        if self._key_pace is not None:
            key.time = max(key.time, now) + self._key_pace.every
        self._in_turn.append(key)  # whether it may go on is seen when its turn comes
        self._add(batch, -1)
        if not self.count:
            self._let_go()
        return batch, place

    def _next(self, now: float) -> Key | None:
        """The key whose turn it is, and which may start a call. All others that are looked at are
        put where they belong."""
        owing, asleep, in_turn = self._owing, self._asleep, self._in_turn
        while owing and owing[0][0] <= now:
            heapq.heappop(owing)
        while asleep and (asleep[0][0] <= now or not self._sleeps(*asleep[0])):
            at, _, key = heapq.heappop(asleep)
            if key.wakes_at == at:
                self._give_turn(key)
        slack = 0.0 if self._key_pace is None else self._key_pace.slack
        while in_turn:
            key = in_turn[0]
            may_start_at = key.time - slack
            is_full = self._per_key is not None and key.running >= self._per_key
            waits = self._waits(key)
            if waits and not is_full and may_start_at <= now:
                return key
            in_turn.popleft()
            key.is_in_turn = False
            if not waits:
                del self._keys[key]
                self._owe(key)
            elif not is_full:
                key.wakes_at = may_start_at
                heapq.heappush(asleep, (may_start_at, next(self._order), key))
        return None

    def _sleeps(self, at: float, _: int, key: Key) -> bool:
        """Whether a key sleeps until then, and has calls that wait."""
        return key.wakes_at == at and self._waits(key)

    def _waits(self, key: Key) -> bool:
        """Whether calls of a key wait; spans of which none does any more are removed."""
        waiting = key.waiting
        while waiting:
            batch, low, high = waiting[0]
            if batch.states.find(LIMITED, low, high) >= 0:
                return True
            waiting.popleft()
        return False

    def _owe(self, key: Key) -> None:
        if self._key_pace is not None:
            heapq.heappush(self._owing, (key.time, next(self._order), key))

    # -- what is over -----------------------------------------------------------------------------

    def leave(self, batch: Batch, places: Iterable[int]) -> None:
        """These calls are about to end, or to wait for a retry: what they have taken is free."""
        states = batch.states
        gone = 0
        for place in places:
            state = states[place]
            if state == LIMITED:
                gone += 1
            elif state not in (RETRYING, ENDED):
                key = self._key_of(batch, place)
                key.running -= 1
                if key.waiting and key.wakes_at < 0:
                    self._give_turn(key)  # it was full
        if gone:
            self._add(batch, -gone)
            if not self.count:
                self._let_go()

    def _let_go(self) -> None:
        """No call waits: keep no batch, some of whose calls were cancelled."""
        for key in self._keys:
            key.waiting.clear()
            key.is_in_turn, key.wakes_at = False, -1.0
            self._owe(key)
        self._keys.clear()
        self._in_turn.clear()
        self._asleep.clear()

    def withdraw(self, is_over: Callable[[Batch], Any]) -> list[Span]:
        """Hand out the calls of these batches for good; the spans may include cancelled places."""
        spans: list[Span] = []
        for key in self._keys:
            kept: deque[Span] = deque()
            for span in key.waiting:
                (spans if is_over(span[0]) else kept).append(span)
            key.waiting = kept
        return spans

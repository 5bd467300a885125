"""A crew: the workers of one lane, and the calls of that lane that no worker has.

Thread: turn holder; other threads read the numbers.
Guarantees: a call runs in a worker of its own lane, and waits for no other: what one crew's calls
do to its workers does not keep another's. When no worker of a lane can be had, that is the end of
this lane's calls only.

A pool has a crew for each lane that has had calls, made when the first of them comes. A batch
belongs to one from then on, and so does each worker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from ..work.batch import RETRYING, SUSPECT, WAITING, Batch, Call
from .actions import Actions
from .backlog import Backlog
from .dispatch import Dispatch
from .quarantine import Quarantine
from .recall import Recall
from .retries import Retries
from .scaling import Scaling
from .worker import Worker


class Terms(NamedTuple):
    """What is the same for all crews of a pool. See :class:`.pool.Pool`."""

    max_workers: int
    budget: int | None
    grace: float
    all_at_once: bool
    idle_timeout: float | None
    patient: bool


class Crew:
    """One lane's."""

    def __init__(
        self,
        lane: str,
        slots: int,
        terms: Terms,
        numbers: Iterator[int],
        everybody: dict[int, Worker],
        actions: Actions,
        wanted: Callable[[list[tuple[Batch, int]]], list[Call]],
    ) -> None:
        """
        Args:
            slots: how many calls each worker runs at once.
            numbers: the numbers of workers to come.
            everybody: the workers of all crews, by number, these included.
            wanted: see :meth:`.ledger.Ledger.wanted`.
        """
        self._wanted = wanted
        self.lane = lane
        self.slots = slots
        self.workers: dict[int, Worker] = {}
        self.backlog = Backlog()
        self.retries = Retries()
        self.suspects = Quarantine()
        # Who keeps calls of these states.
        self.keepers: dict[int, Backlog | Retries | Quarantine] = {
            WAITING: self.backlog,
            RETRYING: self.retries,
            SUSPECT: self.suspects,
        }
        #: How many calls have no outcome yet.
        # Invariant: those in the backlog, retries and suspects, those that wait because of limits,
        # and those in the `in_flight` of these workers whose outcome is not delivered yet.
        self.unfinished = 0
        #: How many went which way, for the tally.
        self.counts = actions.tally.lanes[lane]
        #: How many wait because of limits; :mod:`.admission` counts them.
        self.limited = 0
        #: Whether one of them may start, and has no free slot.
        self.held_up = False
        # Those that were let go to start at once, and wait for that as far as is known.
        self._let_go: list[Call] = []
        self._is_odd = False  # see room_for_paced
        #: How often a call has come to the backlog, for the first time or to be tried again.
        self.arrived = 0
        #: Whether calls that no worker has end at once, instead of being sent (again).
        self.closing = False
        #: Why no call can run any more; None if they can.
        self.broken_because: BaseException | None = None
        self.scaling = Scaling(self, terms, numbers, everybody, actions)
        self.dispatch = Dispatch(self.scaling, self.backlog, self.suspects, slots, actions)
        self.recall = Recall(self.workers, self.backlog, slots, actions)

    @property
    def waiting(self) -> int:
        """How many calls no worker has."""
        return self.backlog.count + self.retries.count + self.suspects.count + self.limited

    @property
    def wanting(self) -> int:
        """How many calls want workers: those that run or may."""
        return self.unfinished - self.limited + self.held_up

    def wait_seconds(self, now: float) -> float | None:
        """Seconds until time alone changes something; None if it does not."""
        looks = [w.deadlines.look_at for w in self.workers.values() if w.deadlines]
        due = self.retries.next_due
        if due is not None:
            looks.append(due)
        if now < self.scaling.starts.next_at and self.scaling.short and self.unfinished:
            looks.append(self.scaling.starts.next_at)
        soonest = max(0.0, min(looks) - now) if looks else None
        stuck = self.recall.stuck_seconds(now)
        if soonest is None or stuck is None:
            return stuck if soonest is None else soonest
        return min(soonest, stuck)

    # -- calls that come --------------------------------------------------------------------------

    def add(self, batch: Batch) -> None:
        """New calls may be sent."""
        self.backlog.add(batch)
        self.arrived += batch.size
        self.scaling.need(self.wanting)

    def try_again(self, calls: list[Call]) -> None:
        """Failed calls may be sent again."""
        self.backlog.put_back(calls)
        self.arrived += len(calls)
        self.scaling.short = True

    def admit(self, calls: list[Call], at_once: bool) -> None:
        """Limits let these calls start; they are to start ``at_once``, before all others."""
        if at_once:
            self.backlog.put_back(calls)
            self._let_go += calls
        else:
            self.backlog.append(calls)
        self.arrived += len(calls)
        self.scaling.need(self.wanting)

    def hold_up(self) -> None:
        """A call whose start is limited may start, and has no slot."""
        self.held_up = True
        self.scaling.need(self.wanting)

    def room_for_paced(self, weight: int) -> int:
        """How many calls of this weight, whose start is limited, would start now, beside those that
        were let go. If others wait, they get every other slot."""
        self._forget_sent()
        unsent = len(self._let_go)
        # A worker has fewer slots for heavier calls, whichever it is sent first.
        heaviest = max([weight, *(batch.weight for batch, _ in self._let_go)])
        free = self.dispatch.free_slots(heaviest) - unsent
        if free > 0 and self.backlog.count > unsent:
            self._is_odd = not self._is_odd
            free = (free + self._is_odd) // 2
        return free

    def _forget_sent(self) -> None:
        self._let_go = [call for call in self._let_go if call[0].states[call[1]] == WAITING]

    # -- as time passes ---------------------------------------------------------------------------

    def prepare(self, draining: bool, now: float) -> None:
        """Start missing workers, before it is decided which calls are sent."""
        if self.scaling.short or self.suspects.count:
            self._hire(draining, now)

    def serve(self, running: bool, draining: bool, now: float) -> None:
        """Send the calls that can be sent, and start workers in place of those that are used up.

        Args:
            running: whether the pool is, so that workers without calls may rest.
            draining: whether it is finishing its last calls.
        """
        scaling = self.scaling
        self.dispatch.sends_none_ahead = self.held_up
        self.dispatch.run(now)
        if self.unfinished > 1 and not self.backlog.count:
            # A worker may have run out of calls just now.
            self.relieve(now)
            self.dispatch.run(now)  # what was reclaimed
        if self._let_go:
            self._forget_sent()  # now: all that their futures refer to would stay
        if scaling.short:
            self._hire(draining, now)  # in place of those that were just sent all they may run
        if running:
            scaling.rest(now)  # last: whoever has just been sent a call is not idle

    def relieve(self, now: float) -> None:
        """See to workers that are stuck."""
        self.backlog.put_back(self._wanted(self.recall.relieve(now)))

    # -- ends of workers --------------------------------------------------------------------------

    def retire(self, worker: Worker, cause: str) -> None:
        """Let a worker finish what it runs, give back the rest, and end."""
        self.scaling.retire(worker, cause)
        if worker.waiting > 0 and not worker.recalls:
            self.recall.ask(worker, worker.waiting)

    def retire_surplus(self) -> None:
        """Retire the workers that are too many."""
        for worker in self.scaling.surplus():
            self.retire(worker, "resized")

    def settle(self, ending: bool) -> None:
        """Stop idle workers that will get no more calls: all of them, if the pool is ``ending``."""
        ending = ending or (self.broken_because is not None and not self.unfinished)
        if ending or self.scaling.leaving:
            self.scaling.settle(ending, self.suspects.count)

    def _hire(self, draining: bool, now: float) -> None:
        """Start missing workers, if they may be started now; only as many as the last calls need if
        the pool is ``draining``."""
        if self.closing or not self.scaling.may_hire(self.unfinished, now):
            return
        if draining:
            self.scaling.hire_to_finish(self.backlog.count + self.held_up, self.suspects.groups)
        else:
            self.scaling.hire(self.wanting, self.suspects.groups)

"""The ledger: which calls there are, and how they end.

Thread: turn holder; attributes that other threads read say so.
Guarantees: each call that enters is delivered to its sink exactly once, unless it was cancelled
while it ran: the sink knows of that already. After a batch's last call, workers forget its
function, unless it is a lasting one.

An unfinished call is in flight to a worker (in its ``in_flight``), or it waits in its crew
(:mod:`.crew`): in the backlog to be sent, in the retries until it is due, or among the suspects for
a quarantine worker.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ...process import Process
from ...wire import messages
from ..work.batch import (
    ALL,
    DROPPED,
    ENDED,
    LOST,
    SENT,
    UNWANTED,
    Batch,
    Call,
    Delivery,
    Ended,
    Sink,
    Values,
    Yielded,
)
from ..work.function import Function
from .actions import Actions
from .admission import Admission
from .crew import Crew
from .worker import Worker


class Ledger:
    """A pool's calls."""

    def __init__(
        self, crews: dict[str, Crew], workers: dict[int, Worker], actions: Actions
    ) -> None:
        """
        Args:
            crews: those there are, by lane.
            workers: theirs, by number.
        """
        self._crews = crews
        self._workers = workers
        self._actions = actions
        self._tally = actions.tally
        #: How many calls have no outcome yet; other threads read it.
        # Invariant: the sum of the crews'.
        self.unfinished = 0
        #: Keeps the calls that wait because of limits.
        self.admission = Admission()
        #: Whether all crews are closing.
        self.closing = False
        #: Why no call can run any more; None if they can. Other threads read it.
        self.broken_because: BaseException | None = None
        self._users: dict[int, int] = {}  # by number of a passing function: batches that use it
        self._outcomes: list[Delivery] = []

    def take_outcomes(self) -> list[Delivery]:
        """Hand out the outcomes to deliver, with their sinks."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def deliver_later(self, outcomes: list[Delivery]) -> None:
        """Take back outcomes that were handed out and not delivered."""
        self._outcomes += outcomes

    def count(self, crew: Crew) -> int:
        """The number of a crew's unfinished calls, counted where they are."""
        held = sum(
            batch.states[call - batch.first] != DROPPED
            for worker in crew.workers.values()
            for call, batch in worker.in_flight.calls()
        )
        return held + crew.waiting

    def enter(self, batch: Batch, crew: Crew) -> None:
        """Enter the calls of a new batch, which are that crew's."""
        batch.crew = crew
        self.unfinished += batch.size
        crew.unfinished += batch.size
        self._tally.add(batch)
        if not batch.function.lasting:
            number = batch.function.number
            self._users[number] = self._users.get(number, 0) + 1

    def cancel(self, batch: Batch, places: Iterable[int] | None, running: bool) -> None:
        """See :meth:`.pool.Pool.cancel`."""
        crew: Crew | None = batch.crew
        if crew is None:
            return
        before, handed_out = self.unfinished, batch.next
        if places is None:
            # Most calls of a long stream are in batches of which no worker has any.
            count = crew.backlog.cancel_rest(batch)
            if count:
                self._less(crew, count)
                self._release_if_over(batch)
            places = batch.open_places(handed_out)
        states = batch.states
        sent: set[int] = set()
        for place in places:
            state = states[place]
            if state in (SENT, UNWANTED):
                sent.add(place)
            elif state not in (DROPPED, ENDED):
                self._less(crew, 1)
                self.ended(batch, place)
                keeper = crew.keepers.get(state)
                if keeper is not None:  # a limiter sees to that itself
                    keeper.forget(1)
        for worker in list(crew.workers.values()):
            if not sent:
                break
            found = [call - batch.first for call in worker.in_flight.those_of(batch, sent)]
            self._cancel_sent(worker, batch, found, running)
            sent.difference_update(found)
        self._tally.cancel(batch, before - self.unfinished)

    def _cancel_sent(self, worker: Worker, batch: Batch, places: list[int], running: bool) -> None:
        """Cancel calls that a worker has."""
        if not places:
            return
        calls = [batch.first + place for place in places]
        self._actions.send(worker.id, messages.Cancel(calls, running))
        if not running:
            batch.leave(places)
            return
        for call, place in zip(calls, places, strict=True):
            worker.deadlines.cancel(call, batch.plain(place))
        batch.drop(places)
        self._less(worker.crew, len(places))

    def stop(self) -> None:
        """See :meth:`.pool.Pool.stop`."""
        said = self._cancelled
        for worker in list(self._workers.values()):
            left: dict[Batch, list[int]] = {}
            for call, batch in worker.in_flight.calls():
                if batch.states[call - batch.first] != DROPPED:
                    left.setdefault(batch, []).append(call - batch.first)
            for batch, places in left.items():
                self._cancel_sent(worker, batch, places, running=True)
                self._tally.cancel(batch, len(places))
                ended: list[Ended] = [
                    (batch.offset + place, messages.CANCELLED, said, None, worker.process, None)
                    for place in places
                ]
                self._outcomes.append((batch.sink, ended))

    def close(self, cause: BaseException | None = None) -> None:
        """From now on, end all calls that no worker has: as cancelled, or because of ``cause``."""
        self.closing = True
        if cause is not None:
            self.broken_because = cause
        for crew in self._crews.values():
            self.close_crew(crew, cause)

    def close_crew(self, crew: Crew, cause: BaseException | None) -> None:
        """The same for one crew."""
        crew.closing = True
        if cause is not None:
            crew.broken_because = cause
        self._empty(crew)

    @property
    def _cancelled(self) -> str | None:
        """The value that goes with CANCELLED."""
        return None if self.closing else ALL

    def empty(self) -> None:
        """End the calls that no worker has."""
        for crew in self._crews.values():
            self._empty(crew)

    def _empty(self, crew: Crew) -> None:
        for batch, low, high in crew.backlog.clear() + self.admission.withdraw(crew):
            self.refuse(batch, range(low, high))
        for batch, place in crew.retries.clear() + crew.suspects.clear():
            self.refuse(batch, (place,))

    def wanted(self, calls: list[tuple[Batch, int]]) -> list[Call]:
        """Of returned calls that had not started, by batch and id, those that are still to run, by
        batch and place; the others are ended."""
        kept: list[Call] = []
        for batch, call in calls:
            place = call - batch.first
            state = batch.states[place]
            if state == DROPPED:
                self.ended(batch, place)
            elif state == UNWANTED or batch.crew.closing:
                self.refuse(batch, (place,))
            else:
                kept.append((batch, place))
        return kept

    def tell(self, sink: Sink) -> None:
        """Deliver nothing to ``sink``, after all outcomes so far have been delivered."""
        self._outcomes.append((sink, []))

    def pass_on(self, batch: Batch, packed: bool, values: list[Any]) -> None:
        """The call of ``batch``, a streaming one, has yielded. If it was cancelled, its sink hears
        nothing of that."""
        if batch.states[0] != DROPPED:
            self._outcomes.append((batch.sink, Yielded(batch.yielded, packed, values)))
            batch.yielded += len(values)

    # -- ends -------------------------------------------------------------------------------------

    def refuse(self, batch: Batch, places: Iterable[int]) -> None:
        """End calls that no worker has: with the error that broke their crew, or as cancelled."""
        status: int
        value: object
        if batch.crew.broken_because is not None:
            status, value = LOST, batch.crew.broken_because
        else:
            status, value = messages.CANCELLED, self._cancelled
        ended = [
            _outcome(batch, place, status, value, None)
            for place in places
            if batch.states[place] != ENDED
        ]
        self.deliver(batch, ended)

    def end(
        self, batch: Batch, place: int, status: int, value: Any, process: Process | None
    ) -> None:
        """End a call that no worker has any more."""
        self.deliver(batch, [_outcome(batch, place, status, value, process)])

    def give_up(
        self, batch: Batch, place: int, status: int, value: Any, process: Process | None
    ) -> None:
        """End a call, unless it was cancelled, that its worker may go on with: its sink hears
        nothing of that run."""
        if batch.states[place] != DROPPED:
            batch.drop((place,))
            self._less(batch.crew, 1)
            ended = [_outcome(batch, place, status, value, process)]
            self._outcomes.append((batch.sink, ended))
            self._tally.end(batch, ended)

    def repair(self, batch: Batch, place: int, cause: BaseException) -> None:
        """A caller was interrupted while it handled a call: end the call if no worker has it. Its
        sink, which may or may not have heard of its end, is told of one."""
        call = batch.first + place
        held = any(call in worker.in_flight for worker in self._workers.values())
        if batch.states[place] != ENDED and not held:
            batch.end(place, place + 1)
        before = self.unfinished
        for crew in self._crews.values():
            crew.unfinished = self.count(crew)
        self.unfinished = sum(crew.unfinished for crew in self._crews.values())
        ended = [_outcome(batch, place, LOST, cause, None)]
        self._outcomes.append((batch.sink, ended))
        if before > self.unfinished:
            self._tally.end(batch, ended)

    def deliver(self, batch: Batch, ended: list[Ended]) -> None:
        """End calls with these outcomes."""
        if ended:
            self._less(batch.crew, len(ended))
            self._outcomes.append((batch.sink, ended))
            self._tally.end(batch, ended)
            batch.end_with(ended)
            self._release_if_over(batch)

    def deliver_row(
        self,
        batch: Batch,
        place: int,
        values: list[Any],
        prelude: bytes | None,
        process: Process,
    ) -> None:
        """End consecutive calls, from ``place`` on, with values; see :class:`.batch.Values`."""
        self._less(batch.crew, len(values))
        self._outcomes.append((batch.sink, Values(batch.offset + place, values, prelude, process)))
        self._tally.finish(batch, len(values), process)
        self.ended(batch, place, len(values))

    def _less(self, crew: Crew, count: int) -> None:
        self.unfinished -= count
        crew.unfinished -= count

    def ended(self, batch: Batch, place: int, count: int = 1) -> None:
        """Note that calls are over, with no worker and nothing left to deliver; after the last of a
        batch, workers may forget its function."""
        batch.end(place, place + count)
        self._release_if_over(batch)

    def _release_if_over(self, batch: Batch) -> None:
        if not batch.remaining and not batch.function.lasting:
            self._release(batch.function)

    def _release(self, function: Function) -> None:
        """A batch with this passing function is over; after the last one, workers forget it."""
        number = function.number
        self._users[number] -= 1
        if self._users[number]:
            return
        del self._users[number]
        for worker in self._workers.values():
            if number in worker.known:
                worker.known.discard(number)
                self._actions.send(worker.id, messages.Forget(number))


def _outcome(batch: Batch, place: int, status: int, value: Any, process: Process | None) -> Ended:
    history = batch.histories.get(place) if batch.histories else None
    return batch.offset + place, status, value, None, process, history

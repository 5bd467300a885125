"""The pool: every decision about workers and calls, as a state machine without I/O.

Runs on: the I/O thread, which tells it what happened (each public method is one event) and then
carries out the actions it has collected.
Guarantees: every call that enters is delivered to its sink exactly once; a call is with one worker
at a time; a call that may have started is not sent again, unless its options allow it.

A worker is::

    STARTING ──ready──▶ READY ──has done its share──▶ RETIRING ──drained──▶ STOPPING ──lost──▶ gone
        │                                                ▲
        └─ready──▶ QUARANTINE ──its suspects are sent────┘            lost at any time ──────▶ gone

and the pool is RUNNING, then DRAINING (shut down: finish what there is), BROKEN (workers cannot
be had) or KILLED (asked to end at once), until :attr:`Pool.finished`.

What is decided where: which workers there are in :mod:`.staff`, who gets which call in
:mod:`.dispatch`, what runs again after an error in :mod:`.retries` and after its worker's death in
:mod:`.suspects`, what is late in :mod:`.deadlines`. The pool keeps the books and ends calls.
"""

from __future__ import annotations

import enum
import random
import signal
from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any

from ..errors import CallTimeout
from ..wire import frames
from .actions import Action, Actions
from .batch import LOST, Batch, Delivery, Ended, Loss, Values
from .deadlines import Step
from .dispatch import Dispatch
from .retries import Retries, delay
from .staff import Staff
from .suspects import MAX_LIVES, Suspects
from .waiting import Waiting
from .workers import Progress, Worker, WorkerState

#: Workers in a row that may die before they are ready.
MAX_BIRTH_DEATHS = 3


class Phase(enum.Enum):
    """Where the pool is in its life."""

    RUNNING = "running"
    DRAINING = "draining"
    BROKEN = "broken"
    KILLED = "killed"


class Pool:
    """The state machine. See the module's docstring."""

    def __init__(
        self,
        max_workers: int,
        slots: int,
        *,
        budget: int | None = None,
        memory: int | None = None,
        grace: float = 0.75,
        all_at_once: bool = False,
        random: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            max_workers: how many workers run calls at most.
            slots: how many calls each runs at once.
            budget: how many calls a worker runs before it is replaced; None for no limit.
            memory: bytes of RAM at which a worker is replaced; None for no limit.
            grace: seconds from a call's deadline to the end of its worker.
            all_at_once: start every worker with the first call instead of one per unfinished call.
            random: a number from 0 to 1, for the jitter of retries.
        """
        self.memory = memory
        self._random = random
        self.phase = Phase.RUNNING
        self._actions = Actions()
        self._waiting = Waiting()
        self._retries = Retries()
        self._suspects = Suspects()
        self._staff = Staff(max_workers, budget, grace, all_at_once, self._actions)
        self._dispatch = Dispatch(self._staff, self._waiting, self._suspects, slots, self._actions)
        self.workers = self._staff.workers
        # Invariant: pending + retries + suspects + the calls in all workers' `sent` whose outcome
        # is not delivered yet.
        self.unfinished = 0
        self._birth_deaths = 0
        self._cancel_unstarted = False
        self._users: dict[int, int] = {}  # passing functions: how many batches use them
        #: What no call can run any more for, if that is so.
        self.broken_because: BaseException | None = None
        self._outcomes: list[Delivery] = []

    # -- what the I/O thread asks -------------------------------------------------------------

    def take_actions(self) -> list[Action]:
        """The actions decided on since the last time, in order."""
        return self._actions.take()

    def take_outcomes(self) -> list[Delivery]:
        """Outcomes to deliver, and to whom."""
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    @property
    def pending(self) -> int:
        """How many calls could be sent to a worker now."""
        return self._waiting.count

    @property
    def retrying(self) -> int:
        """How many calls wait to be tried again."""
        return self._retries.count

    @property
    def suspects(self) -> int:
        """How many calls wait to be tried apart, because a worker died while they ran."""
        return self._suspects.count

    @property
    def finished(self) -> bool:
        """Whether the pool has been told to end and nothing is left of it."""
        return self.phase is not Phase.RUNNING and not self.workers and not self.unfinished

    def wait_seconds(self, now: float) -> float | None:
        """How long until :meth:`tick` is worth calling; None if only events matter."""
        looks = [w.deadlines.look_at for w in self.workers.values() if w.deadlines]
        if self._retries.count:
            looks.append(self._retries.next_due or 0)
        soonest = max(0.0, min(looks) - now) if looks else None
        stuck = self._dispatch.stuck_seconds(now)
        if soonest is None or stuck is None:
            return stuck if soonest is None else soonest
        return min(soonest, stuck)

    def check(self) -> None:
        """Assert the invariants; tests call it after each event."""
        held = 0
        for worker in self.workers.values():
            assert 0 <= worker.done <= worker.taken, "an answered call was taken"
            assert worker.running <= len(worker.sent), "a running call is unanswered"
            assert worker.waiting >= 0
            if worker.state in (WorkerState.STARTING, WorkerState.QUARANTINE):
                assert not worker.sent, "calls are sent to ready workers only"
            assert worker.quarantine or worker.state is not WorkerState.QUARANTINE
            held += sum(
                call - batch.first not in batch.dropped for call, batch in worker.sent.calls()
            )
        waiting = sum(
            place not in batch.dropped
            for batch, low, high in self._waiting.spans()
            for place in range(low, high)
        )
        assert waiting == self.pending, (waiting, self.pending)
        apart = self._retries.count + self._suspects.count
        assert held + self.pending + apart == self.unfinished, (held, apart, self.unfinished)
        if self.phase in (Phase.BROKEN, Phase.KILLED):
            assert not self.pending + apart, "nothing waits for workers that will not come"

    # -- events: what callers want ------------------------------------------------------------

    def submit(self, batch: Batch) -> None:
        """New calls. :meth:`dispatch` must follow, once for any number of them."""
        self._count(batch)
        if self.phase in (Phase.BROKEN, Phase.KILLED):
            # They passed the door before it closed.
            self._deliver_all(batch, range(batch.size))
            return
        self._waiting.add(batch)
        self._staff.need(self.unfinished)

    def _count(self, batch: Batch) -> None:
        self.unfinished += batch.size
        if not batch.function.lasting:
            number = batch.function.number
            self._users[number] = self._users.get(number, 0) + 1

    def express(self, batch: Batch, now: float) -> int | None:
        """As :meth:`submit` and :meth:`dispatch`, for a call that comes while there is no other, if
        it can be sent at once: the worker it went to, or None."""
        if self.phase is not Phase.RUNNING or self.unfinished or batch.size != 1:
            return None
        worker = self._dispatch.express(batch, now)
        if worker is not None:
            self._count(batch)
        return worker

    def cancel(self, batch: Batch, places: Iterable[int] | None, running: bool) -> None:
        """Calls of ``batch`` are not wanted any more: at ``places``, or all that are left.

        With ``running``, those that have started are to be stopped too. Their sink is told of
        nothing that ends after this, except that calls left to run on are delivered as ever.
        """
        wanted = set(range(batch.size) if places is None else places) - batch.dropped
        for worker in list(self.workers.values()):
            if worker.state is WorkerState.STARTING:
                continue
            sent = worker.sent
            calls = [batch.first + place for place in wanted if batch.first + place in sent]
            if not calls:
                continue
            wanted.difference_update(call - batch.first for call in calls)
            self._actions.send(worker.id, (frames.CANCEL, calls, running))
            if not running:
                batch.leave_alone([call - batch.first for call in calls])
            else:
                for call in calls:
                    worker.deadlines.remove(call)
                batch.drop([call - batch.first for call in calls])
                self.unfinished -= len(calls)
        apart = self._retries.cancel(batch, wanted) + self._suspects.cancel(batch, wanted)
        batch.drop(apart)
        for place in apart + self._waiting.cancel(batch, wanted.difference(apart)):
            self.unfinished -= 1
            self._ended(batch, place)
        self._settle()

    def stop(self) -> None:
        """Cancel the calls that workers have, started or not; unlike with :meth:`cancel`, their
        sinks are told."""
        for worker in list(self.workers.values()):
            left: dict[Batch, list[int]] = {}
            for call, batch in worker.sent.calls():
                if call - batch.first not in batch.dropped:
                    left.setdefault(batch, []).append(call - batch.first)
            for batch, places in left.items():
                self.cancel(batch, places, running=True)
                ended: list[Ended] = [
                    (batch.offset + place, frames.CANCELLED, None, None, worker.pid, None)
                    for place in places
                ]
                self._outcomes.append((batch.sink, ended))

    def shutdown(self, cancel_unstarted: bool) -> None:
        """Finish what there is, or only what has started, then end."""
        if self.phase is Phase.RUNNING:
            self.phase = Phase.DRAINING
            self._staff.short = True
        if cancel_unstarted and self.phase is Phase.DRAINING:
            self._cancel_unstarted = True
            self._drop_pending()
            for worker in self.workers.values():
                if worker.sent:
                    self._dispatch.recall(worker, len(worker.sent))
        self._settle()

    def kill(self, signal_number: int) -> None:
        """End at once: cancel what has not started, signal every worker."""
        if self.phase is not Phase.BROKEN:
            self.phase = Phase.KILLED
        self._drop_pending()
        for worker in self.workers.values():
            self._actions.kill(worker.id, signal_number)

    # -- events: what workers do --------------------------------------------------------------

    def started(self, number: int, pid: int | None, page: Progress) -> None:
        """A worker's process exists."""
        worker = self.workers[number]
        worker.pid = pid
        worker.page = page
        if self.phase in (Phase.BROKEN, Phase.KILLED):
            self._actions.kill(number, signal.SIGKILL)
        self._settle()

    def ready(self, number: int, now: float) -> None:
        """A worker said HELLO."""
        worker = self.workers[number]
        if worker.state is not WorkerState.STARTING:
            return  # it was told to end meanwhile
        worker.state = WorkerState.QUARANTINE if worker.quarantine else WorkerState.READY
        worker.sampled_at = worker.moved_at = now
        self._birth_deaths = 0
        self._settle()

    def results(
        self,
        number: int,
        results: Sequence[Sequence[Any]],
        rows: Sequence[tuple[int, list[Any]]],
        now: float,
    ) -> None:
        """Calls ended in a worker: ``(id, status, value, seconds)`` each, or in rows: the plain
        values of calls in a row, from an id on."""
        worker = self.workers[number]
        for first, values in rows:
            if not self._row(worker, first, values):
                calls = range(first, first + len(values))
                singly = zip(calls, repeat(frames.VALUE), values, repeat(None))
                results = [*results, *singly]
        sent = worker.sent
        pid = worker.pid
        worker.done += len(results)
        last: Batch | None = None
        ended: list[Ended] = []
        for call, status, value, seconds in results:
            batch = sent.pop(call)
            if batch is not last:
                if last is not None:
                    self._deliver(last, ended)
                last, ended = batch, []
            if worker.deadlines:
                worker.deadlines.remove(call)
            place = call - batch.first
            if batch.dropped and place in batch.dropped:
                self._ended(batch, place)
                continue
            if status >= frames.ERROR:
                worker.failed += status != frames.CANCELLED
                if self._try_again(batch, place, status, value, now):
                    continue
                if status == frames.RETRIABLE:
                    status = frames.ERROR
            troubles = batch.troubles.get(place) if batch.troubles else None
            ended.append((batch.offset + place, status, value, seconds, pid, troubles))
        if last is not None:
            self._deliver(last, ended)
        if worker.quarantine:
            self._suspects.came_through()
        worker.sample(now)
        self._settle()

    def _row(self, worker: Worker, first: int, values: list[Any]) -> bool:
        """Calls in a row ended with plain values; False if they must be taken one by one."""
        batch = worker.sent.get(first)
        assert batch is not None, "only what was sent is answered"
        if batch.dropped:
            return False
        worker.sent.pop_row(first, len(values))
        place = first - batch.first
        self._outcomes.append((batch.sink, Values(batch.offset + place, values)))
        self._ended(batch, place, len(values))
        worker.done += len(values)
        self.unfinished -= len(values)
        return True

    def _try_again(self, batch: Batch, place: int, status: int, value: Any, now: float) -> bool:
        """Keep a failed call for another attempt, if it may have one."""
        options = batch.options
        if not options.retries or self._closing or place in batch.unwanted:
            return False
        if status == frames.RETRIABLE:
            text = value[1].rstrip().rpartition("\n")[2]
        elif status == frames.TIMED_OUT and issubclass(CallTimeout, options.retry_on):
            text = f"CallTimeout: stopped after {value} s"
        else:
            return False
        troubles = batch.troubles_of(place)
        if troubles.retries >= options.retries:
            return False
        troubles.retries += 1
        troubles.texts.append(text)
        wait = delay(options.backoff, troubles.retries, self._random)
        self._retries.add(batch, place, now + wait)
        return True

    def hungry(self, number: int, now: float) -> None:
        """A worker's inbox is low."""
        worker = self.workers[number]
        worker.asked = False
        worker.sample(now)

    def recalled(self, number: int, calls: Sequence[int]) -> None:
        """A worker gave back calls that it had not started, the newest first."""
        worker = self.workers[number]
        worker.recalls -= 1
        if worker.held_at is not None:
            self._dispatch.release(worker, [])  # it can hear again
        calls = [call for call in reversed(calls) if call in worker.sent]  # not reclaimed by now
        if worker.budget is not None:
            worker.budget += len(calls)
        for call in calls:
            worker.deadlines.remove(call)
        returned = [(worker.sent.pop(call), call) for call in calls]
        self._waiting.put_back(self._wanted(returned))
        self._settle()

    def measured(self, number: int, resident: int) -> None:
        """A worker has so many bytes in RAM."""
        worker = self.workers.get(number)
        if worker is None or self.memory is None or resident <= self.memory:
            return
        # One that has not done anything yet would be followed by others just like it.
        if worker.state is WorkerState.READY and worker.done:
            self._staff.retire(worker)
            if worker.waiting > 0 and not worker.recalls:
                self._dispatch.recall(worker, worker.waiting)
            self._settle()

    def fail(self, cause: BaseException) -> None:
        """No call can run any more, because of ``cause``."""
        if self.phase in (Phase.BROKEN, Phase.KILLED):
            return
        self.phase = Phase.BROKEN
        self.broken_because = cause
        self._drop_pending()
        for worker in self.workers.values():
            running = worker.running
            for position, (call, batch) in enumerate(worker.sent.calls()):
                place = call - batch.first
                if place not in batch.dropped:
                    batch.drop((place,))
                    self.unfinished -= 1
                    pid = worker.pid if position < running else None
                    troubles = batch.troubles.get(place) if batch.troubles else None
                    ended: Ended = (batch.offset + place, LOST, cause, None, pid, troubles)
                    self._outcomes.append((batch.sink, [ended]))
            self._actions.kill(worker.id, signal.SIGTERM)

    def lost(self, number: int, lost: BaseException, now: float) -> None:
        """A worker's process is gone; ``lost`` is what its started calls fail with, unless they may
        run again.

        Everything it had written must have been passed to :meth:`results` before.
        """
        worker = self._staff.remove(number)
        current = worker.page.current if worker.page is not None else 0
        running = worker.running
        returned: list[tuple[Batch, int]] = []
        to_run_again: list[tuple[Batch, int]] = []
        for position, (call, batch) in enumerate(worker.sent.calls()):
            place = call - batch.first
            if position >= running:
                returned.append((batch, call))
            elif place in batch.dropped:
                self._ended(batch, place)
            elif call in worker.expired:
                self._expire(worker, batch, place, now)
            elif batch.options.on_worker_loss == "retry" and not (
                self._closing or place in batch.unwanted
            ):
                to_run_again.append((batch, place))
            else:
                self._lose(worker, batch, place, lost)
        if worker.expired:
            convicted = self._spare(worker, to_run_again, str(lost))
        elif to_run_again:
            convicted = self._suspects.accuse(to_run_again, running, current, str(lost))
        else:
            convicted = []
        for batch, place in convicted:
            self._lose(worker, batch, place, lost)
        returned = self._wanted(returned)
        if worker.quarantine:
            self._suspects.put_back(returned)
        else:
            self._waiting.put_back(returned)
        if worker.state is WorkerState.STARTING and self.phase in (Phase.RUNNING, Phase.DRAINING):
            self._birth_deaths += 1
            if self._birth_deaths >= MAX_BIRTH_DEATHS:
                self.fail(lost)
        self._settle()

    def _lose(self, worker: Worker, batch: Batch, place: int, lost: BaseException) -> None:
        """A call fails with its worker."""
        troubles = batch.troubles.get(place) if batch.troubles else None
        loss = Loss(lost, batch, place)
        self._deliver(batch, [(batch.offset + place, LOST, loss, None, worker.pid, troubles)])

    def _expire(self, worker: Worker, batch: Batch, place: int, now: float) -> None:
        """A call fails because its time is up, or is tried again."""
        timeout = batch.options.timeout
        if not self._try_again(batch, place, frames.TIMED_OUT, timeout, now):
            self._deliver(batch, [self._expired(worker, batch, place)])

    def _expired(self, worker: Worker, batch: Batch, place: int) -> Ended:
        timeout = batch.options.timeout
        troubles = batch.troubles.get(place) if batch.troubles else None
        return batch.offset + place, frames.TIMED_OUT, timeout, None, worker.pid, troubles

    def _spare(
        self, worker: Worker, calls: list[tuple[Batch, int]], text: str
    ) -> list[tuple[Batch, int]]:
        """Calls that ran beside one that their worker was killed for run again, as what they were:
        any others, or suspects; those to which that has happened too often are returned."""
        unlucky: list[tuple[Batch, int]] = []
        spared: list[tuple[Batch, int]] = []
        for batch, place in calls:
            troubles = batch.troubles_of(place)
            troubles.lives += 1
            if troubles.lives >= MAX_LIVES:
                unlucky.append((batch, place))
            else:
                troubles.texts.append(text)
                spared.append((batch, place))
        (self._suspects if worker.quarantine else self._waiting).put_back(spared)
        return unlucky

    def tick(self, now: float) -> None:
        """Time has passed: see to deadlines, retries, and workers that are stuck."""
        due = self._retries.take(now)
        if due:
            self._waiting.put_back(due)
            self._staff.short = True
        for worker in self.workers.values():
            if worker.deadlines and now >= worker.deadlines.look_at and worker.page is not None:
                for call, step in worker.deadlines.look(worker.page, now):
                    self._enforce(worker, call, step, now)
        self._relieve(now)

    def _relieve(self, now: float) -> None:
        self._waiting.put_back(self._wanted(self._dispatch.relieve(now)))

    def dispatch(self, now: float) -> None:
        """Send the calls that can be sent, and start the workers that are missing."""
        if self._staff.short or self._suspects.count:
            self._hire()
        self._dispatch.run(self.unfinished, now)
        if self.unfinished > 1 and not self._waiting.count:
            # A worker may have run out of calls just now.
            self._relieve(now)
        if self._staff.short:
            self._hire()  # for those that have just been sent all they may run
        self._settle()

    def _hire(self) -> None:
        if self.phase is Phase.RUNNING:
            self._staff.hire(self.unfinished, self._suspects.groups)
        elif self.phase is Phase.DRAINING:
            self._staff.hire_to_finish(self.pending, self._suspects.groups)

    def _settle(self) -> None:
        ending = self.phase is Phase.DRAINING and not self.unfinished
        self._staff.settle(ending, self._suspects.count)

    def _enforce(self, worker: Worker, call: int, step: Step, now: float) -> None:
        """Do something about a call that is late."""
        batch = worker.sent.get(call)
        assert batch is not None, "it is late here"
        place = call - batch.first
        if step is Step.INTERRUPT:
            self._actions.send(worker.id, (frames.EXPIRE, call))
        elif step is Step.KILL:
            if not worker.expired:
                self._staff.condemn(worker)
            worker.expired.add(call)
        else:
            # It is not tried again, and not over for its batch: this run of it goes on.
            worker.deadlines.remove(call)
            if place not in batch.dropped:
                batch.drop((place,))
                self.unfinished -= 1
                self._outcomes.append((batch.sink, [self._expired(worker, batch, place)]))

    # -- ending calls -------------------------------------------------------------------------

    @property
    def _closing(self) -> bool:
        """Whether calls that are not running end here and now."""
        return self._cancel_unstarted or self.phase in (Phase.BROKEN, Phase.KILLED)

    def _wanted(self, calls: list[tuple[Batch, int]]) -> list[tuple[Batch, int]]:
        """Of calls that did not start, by batch and id, those that are still to run, by batch and
        place; the others end here."""
        kept: list[tuple[Batch, int]] = []
        for batch, call in calls:
            place = call - batch.first
            if place in batch.dropped:
                self._ended(batch, place)
            elif place in batch.unwanted or self._closing:
                self._deliver_all(batch, (place,))
            else:
                kept.append((batch, place))
        return kept

    def _drop_pending(self) -> None:
        """End all calls that no worker has."""
        for batch, low, high in self._waiting.clear():
            self._deliver_all(batch, range(low, high))
        for batch, place in self._retries.clear() + self._suspects.clear():
            self._deliver_all(batch, (place,))

    def _deliver_all(self, batch: Batch, places: Iterable[int]) -> None:
        """End calls that no worker has: with what broke the pool, or as cancelled."""
        if self.broken_because is not None:
            status, value = LOST, self.broken_because
        else:
            status, value = frames.CANCELLED, None
        ended: list[Ended] = [
            (batch.offset + place, status, value, None, None, (batch.troubles or {}).get(place))
            for place in places
            if place not in batch.dropped
        ]
        self._deliver(batch, ended)

    def _deliver(self, batch: Batch, ended: list[Ended]) -> None:
        if ended:
            self.unfinished -= len(ended)
            self._outcomes.append((batch.sink, ended))
            for outcome in ended:
                self._ended(batch, outcome[0] - batch.offset)

    def _ended(self, batch: Batch, place: int, count: int = 1) -> None:
        """Calls of a batch are over; after its last, workers need not keep its function."""
        batch.end(place, place + count)
        if batch.remaining or batch.function.lasting:
            return
        number = batch.function.number
        self._users[number] -= 1
        if self._users[number]:
            return
        del self._users[number]
        for worker in self.workers.values():
            if number in worker.known:
                worker.known.discard(number)
                self._actions.send(worker.id, (frames.FORGET, number))

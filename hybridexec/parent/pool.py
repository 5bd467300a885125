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

How credit works: a worker is sent calls ahead of its free slots so that it never waits for the
parent, but only as many as it takes in a round trip or so (its window), and only as many beyond
its slots as it finishes in that time, because a call that has been sent ahead waits behind
whatever its worker is doing. If calls are left over, the pool asks to be told when an inbox runs
low; if a worker has nothing to do while another is stuck with calls that it has not taken, they
are recalled.
"""

from __future__ import annotations

import enum
import random
import signal
from collections.abc import Callable, Iterable, Sequence
from math import ceil
from typing import Any

from ..errors import CallTimeout
from ..wire import frames
from .actions import Action, Kill, Send, Start
from .batch import LOST, Batch, Ended, Sink
from .deadlines import Deadlines, Step
from .retries import Retries, delay
from .sending import calls_frame
from .suspects import MAX_LIVES, Suspects
from .waiting import Span, Waiting
from .workers import Progress, Worker, WorkerState

#: A worker that has taken no call for so many seconds is stuck, and others may have its calls.
STUCK_SECONDS = 0.005
#: Longest time, in seconds, between two looks at workers that seem stuck.
_MAX_TICK = 0.1
#: Calls in one frame: enough to spread its cost, few enough to be on the way early.
MAX_FRAME = 512
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
        self._max_workers = max_workers
        self._slots = slots
        self._budget = budget
        self._memory = memory
        self._grace = grace
        self._random = random
        self._all_at_once = all_at_once
        self.phase = Phase.RUNNING
        self.workers: dict[int, Worker] = {}
        self._next_worker = 0
        self._waiting = Waiting()
        self._retries = Retries()
        self._suspects = Suspects()
        # Invariant: pending + retries + suspects + the calls in all workers' `sent` whose outcome
        # is not delivered yet.
        self.unfinished = 0
        self._staff = 0  # how many workers there should be; grows with demand
        self._understaffed = False  # whether there may be fewer
        self._retiring = 0  # how many workers are RETIRING
        self._quarantined = 0  # how many are there for suspects
        self._birth_deaths = 0
        self._cancel_unstarted = False
        self._users: dict[int, int] = {}  # passing functions: how many batches use them
        #: What no call can run any more for, if that is so.
        self.broken_because: BaseException | None = None
        self._actions: list[Action] = []
        self._outcomes: list[tuple[Sink, list[Ended]]] = []

    # -- what the I/O thread asks -------------------------------------------------------------

    def take_actions(self) -> list[Action]:
        """The actions decided on since the last time, in order."""
        actions, self._actions = self._actions, []
        return actions

    def take_outcomes(self) -> list[tuple[Sink, list[Ended]]]:
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
        stuck = self._stuck_seconds(now)
        if soonest is None or stuck is None:
            return stuck if soonest is None else soonest
        return min(soonest, stuck)

    def _stuck_seconds(self, now: float) -> float | None:
        if self.pending or len(self.workers) < 2:
            return None
        stuck = [now - w.moved_at for w in self.workers.values() if w.may_give]
        if not stuck:
            return None
        # Others become free without a word when their calls start to wait, which they do soon
        # after they were sent: so look again soon at first, then less and less often.
        return min(max(STUCK_SECONDS, min(stuck) / 4), _MAX_TICK)

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
                call - batch.first not in batch.dropped for call, batch in worker.sent.items()
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
        if self.unfinished > self._staff:
            self._understaffed = True

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
        for worker in self.workers.values():
            if self._may_receive(worker) and self._budget is None and not worker.recalls:
                break
        else:
            return None
        self._count(batch)
        worker.begin_sample(now)
        worker.sent[batch.first] = batch
        self._send_calls(worker, [(batch, 0, 1)], now)
        return worker.id

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
            self._send(worker, (frames.CANCEL, calls, running))
            if not running:
                batch.unwanted = batch.unwanted.union(call - batch.first for call in calls)
            else:
                for call in calls:
                    worker.deadlines.remove(call)
                batch.drop(call - batch.first for call in calls)
                self.unfinished -= len(calls)
        apart = self._retries.cancel(batch, wanted) + self._suspects.cancel(batch, wanted)
        batch.drop(apart)
        waiting = len(apart) + self._waiting.cancel(batch, wanted.difference(apart))
        self.unfinished -= waiting
        self._ended(batch, waiting)
        self._settle()

    def shutdown(self, cancel_unstarted: bool) -> None:
        """Finish what there is, or only what has started, then end."""
        if self.phase is Phase.RUNNING:
            self.phase = Phase.DRAINING
            self._understaffed = True
        if cancel_unstarted and self.phase is Phase.DRAINING:
            self._cancel_unstarted = True
            self._drop_pending()
            for worker in self.workers.values():
                if worker.sent:
                    self._recall(worker, len(worker.sent))
        self._settle()

    def kill(self, signal_number: int) -> None:
        """End at once: cancel what has not started, signal every worker."""
        if self.phase is not Phase.BROKEN:
            self.phase = Phase.KILLED
        self._drop_pending()
        for worker in self.workers.values():
            self._actions.append(Kill(worker.id, signal_number))

    # -- events: what workers do --------------------------------------------------------------

    def started(self, number: int, pid: int | None, page: Progress) -> None:
        """A worker's process exists."""
        worker = self.workers[number]
        worker.pid = pid
        worker.page = page
        if self.phase in (Phase.BROKEN, Phase.KILLED):
            self._actions.append(Kill(number, signal.SIGKILL))
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

    def results(self, number: int, results: Sequence[Sequence[Any]], now: float) -> None:
        """Calls ended in a worker: ``(id, status, value, seconds)`` each."""
        worker = self.workers[number]
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
                self._ended(batch, 1)
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
        if worker.budget is not None:
            worker.budget += len(calls)
        for call in calls:
            worker.deadlines.remove(call)
        returned = [(worker.sent.pop(call), call) for call in reversed(calls)]
        self._waiting.put_back(self._wanted(returned))
        self._settle()

    def measured(self, number: int, resident: int) -> None:
        """A worker has so many bytes in RAM."""
        worker = self.workers.get(number)
        if worker is None or self._memory is None or resident <= self._memory:
            return
        # One that has not done anything yet would be followed by others just like it.
        if worker.state is WorkerState.READY and worker.done:
            self._retire(worker)
            if worker.waiting > 0 and not worker.recalls:
                self._recall(worker, worker.waiting)
            self._settle()

    def fail(self, cause: BaseException) -> None:
        """No call can run any more, because of ``cause``."""
        self._break(cause)

    def lost(self, number: int, lost: BaseException, now: float) -> None:
        """A worker's process is gone; ``lost`` is what its started calls fail with, unless they may
        run again.

        Everything it had written must have been passed to :meth:`results` before.
        """
        worker = self.workers.pop(number)
        self._quarantined -= worker.quarantine
        current = worker.page.current if worker.page is not None else 0
        self._understaffed = True
        self._retiring -= worker.state is WorkerState.RETIRING
        self._unlink(worker)
        running = worker.running
        returned: list[tuple[Batch, int]] = []
        to_run_again: list[tuple[Batch, int]] = []
        for position, (call, batch) in enumerate(worker.sent.items()):
            place = call - batch.first
            if position >= running:
                returned.append((batch, call))
            elif place in batch.dropped:
                self._ended(batch, 1)
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
                self._break(lost)
        self._settle()

    def _lose(self, worker: Worker, batch: Batch, place: int, lost: BaseException) -> None:
        """A call fails with its worker."""
        troubles = batch.troubles.get(place) if batch.troubles else None
        self._deliver(batch, [(batch.offset + place, LOST, lost, None, worker.pid, troubles)])

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
            self._understaffed = True
        for worker in self.workers.values():
            if worker.deadlines and now >= worker.deadlines.look_at and worker.page is not None:
                for call, step in worker.deadlines.look(worker.page, now):
                    self._enforce(worker, call, step, now)
        self._relieve(now)

    def _enforce(self, worker: Worker, call: int, step: Step, now: float) -> None:
        """Do something about a call that is late."""
        batch = worker.sent[call]
        place = call - batch.first
        if step is Step.INTERRUPT:
            self._send(worker, (frames.EXPIRE, call))
        elif step is Step.KILL:
            if not worker.expired:
                self._actions.append(Kill(worker.id, signal.SIGKILL))
                self._retiring -= worker.state is WorkerState.RETIRING
                worker.state = WorkerState.STOPPING
                self._understaffed = True
            worker.expired.add(call)
        else:
            # It is not tried again, and not over for its batch: this run of it goes on.
            worker.deadlines.remove(call)
            if place not in batch.dropped:
                batch.drop((place,))
                self.unfinished -= 1
                self._outcomes.append((batch.sink, [self._expired(worker, batch, place)]))

    def _relieve(self, now: float) -> None:
        """Recall calls from stuck workers for those with nothing to do."""
        if self.pending:
            return
        receivers = sum(self._may_receive(worker) for worker in self.workers.values())
        if not receivers:
            return
        for worker in self.workers.values():
            if not worker.may_give:
                continue
            worker.sample(now)
            if now - worker.moved_at >= STUCK_SECONDS and worker.waiting > 0:
                # One share stays: it may be unstuck before the others have finished theirs.
                self._recall(worker, ceil(worker.waiting * receivers / (receivers + 1)))

    # -- deciding -----------------------------------------------------------------------------

    def dispatch(self, now: float) -> None:
        """Send pending calls to the least loaded workers, as far as their credit goes."""
        if self._understaffed or self._suspects.count:
            self._hire()
        if self._suspects.count:
            self._dispatch_suspects(now)
        if not self.pending or (self.pending == 1 and self._dispatch_one(now)):
            return
        ready = [w for w in self.workers.values() if w.state is WorkerState.READY]
        starting = sum(
            w.state is WorkerState.STARTING and not w.quarantine for w in self.workers.values()
        )
        # Workers about to be ready get their share: blocking calls must land one on each.
        share = ceil(self.unfinished / max(1, len(ready) + starting)) if starting else None
        grants: dict[int, list[list[Span]]] = {}
        open_to = []
        for worker in ready:
            credit = min(self._room(worker, share), worker.window - worker.waiting)
            if credit > 0:
                open_to.append([len(worker.sent), worker.id, credit])
        while self.pending and open_to:
            open_to.sort()
            chosen = open_to[0]
            worker = self.workers[chosen[1]]
            # An even part of what is left, so that the last calls are spread evenly too.
            count = min(chosen[2], MAX_FRAME, ceil(self.pending / (2 * len(open_to))))
            worker.begin_sample(now)
            grants.setdefault(worker.id, []).append(self._grant(worker, count))
            chosen[0] += count
            chosen[2] -= count
            if chosen[2] <= 0:
                open_to.pop(0)
        for worker in ready:
            # Only if it is the window that keeps it from getting more: what else does is bound to
            # change with an event of its own, and the answer would come at once, again and again.
            ask = bool(self.pending) and not worker.asked and self._room(worker, share) > 0
            worker.asked = worker.asked or ask
            for spans in grants.get(worker.id, ()):
                self._send_calls(worker, spans, now)
            if ask:
                self._send(worker, (frames.ASK,))
        self._settle()

    def _dispatch_one(self, now: float) -> bool:
        """Send the one pending call to a worker that has none, if there is one: the commonest case
        of a program that waits for each call."""
        for worker in self.workers.values():
            if worker.state is WorkerState.READY and not worker.sent and self._room(worker) > 0:
                worker.begin_sample(now)
                self._send_calls(worker, self._grant(worker, 1), now)
                return True
        return False

    def _dispatch_suspects(self, now: float) -> None:
        """Send a group of suspects to each worker that is there for one."""
        for worker in list(self.workers.values()):
            if worker.state is WorkerState.QUARANTINE and self._suspects.count:
                group = self._suspects.take(min(self._slots, worker.budget or self._slots))
                for batch, place in group:
                    worker.sent[batch.first + place] = batch
                worker.begin_sample(now)
                self._retire(worker)
                spans = [(batch, place, place + 1) for batch, place in group]
                for start in range(0, len(spans), MAX_FRAME):
                    self._send_calls(worker, spans[start : start + MAX_FRAME], now)

    def _room(self, worker: Worker, share: int | None = None) -> int:
        """How many more calls a worker may have, its window aside."""
        if worker.recalls:
            return 0
        held = len(worker.sent)
        room = self._slots + worker.ahead - held
        if share is not None:
            room = min(room, share - held)
        if worker.budget is not None:
            room = min(room, worker.budget)
        older = worker.predecessor
        if older is not None:
            while older is not None:
                held += len(older.sent)
                older = older.predecessor
            room = min(room, self._slots - held)
        return room

    def _grant(self, worker: Worker, count: int) -> list[Span]:
        """Make up to ``count`` waiting calls the worker's."""
        spans = self._waiting.take(count)
        granted = 0
        for batch, low, high in spans:
            first = batch.first
            if high - low == 1:
                worker.sent[first + low] = batch
            else:
                worker.sent.update(dict.fromkeys(range(first + low, first + high), batch))
            granted += high - low
        if worker.budget is not None:
            worker.budget -= granted
            if worker.budget == 0:
                self._retire(worker)
        return spans

    def _retire(self, worker: Worker) -> None:
        """Let a worker finish what it has; its replacement gets ready while it drains."""
        worker.state = WorkerState.RETIRING
        self._retiring += 1
        self._hire()

    def _send_calls(self, worker: Worker, granted: list[Span], now: float) -> None:
        for batch, low, high in granted:
            timeout = batch.options.timeout
            if timeout is not None:
                for place in range(low, high):
                    worker.deadlines.add(batch.first + place, timeout, now)
        self._send(worker, *calls_frame(worker, granted))

    def _send(
        self, worker: Worker, head: tuple[Any, ...], segments: list[frames.Buffer] | None = None
    ) -> None:
        self._actions.append(Send(worker.id, head, segments or []))

    def _recall(self, worker: Worker, count: int) -> None:
        worker.recalls += 1
        self._send(worker, (frames.RECALL, count))

    def _may_receive(self, worker: Worker) -> bool:
        """Whether a worker would take a call at once."""
        return (
            worker.state is WorkerState.READY
            and worker.predecessor is None
            and worker.waiting <= 0
            and len(worker.sent) < self._slots
        )

    def _hire(self) -> None:
        """Start workers: one per unfinished call, up to the limit, and one for each that went."""
        self._understaffed = False
        if self.phase is Phase.RUNNING:
            demand = self._max_workers if self._all_at_once else self.unfinished
            if self.unfinished:
                self._staff = max(self._staff, min(self._max_workers, demand))
            staff = self._staff
        elif self.phase is Phase.DRAINING:
            staff = min(self._staff or self._max_workers, self.pending, self._max_workers)
        else:
            return
        active = 0
        idle = 0  # quarantine workers that will take a group
        retiring = []
        replaced = {w.predecessor for w in self.workers.values()}
        for worker in self.workers.values():
            if worker.quarantine:
                idle += worker.state in (WorkerState.STARTING, WorkerState.QUARANTINE)
            elif worker.state in (WorkerState.STARTING, WorkerState.READY):
                active += 1
            elif worker.state is WorkerState.RETIRING and worker not in replaced:
                retiring.append(worker)
        # They take the places of those that died, up to half of all: the others keep their pace.
        most = max(1, min(self._max_workers // 2, self._max_workers - active))
        for _ in range(min(self._suspects.groups - idle, most - self._quarantined)):
            self._start(None, quarantine=True)
        for _ in range(staff - active - self._quarantined):
            self._start(retiring.pop() if retiring else None)

    def _start(self, predecessor: Worker | None, quarantine: bool = False) -> None:
        self._next_worker += 1
        self._quarantined += quarantine
        deadlines = Deadlines(self._grace)
        worker = Worker(self._next_worker, self._budget, predecessor, deadlines, quarantine)
        self.workers[worker.id] = worker
        self._actions.append(Start(worker.id))

    def _settle(self) -> None:
        """Stop the workers that have nothing left to do, ever."""
        ending = self.phase is Phase.DRAINING and not self.unfinished
        if not ending and not self._retiring and not self._quarantined:
            return
        for worker in self.workers.values():
            if worker.sent or worker.recalls:
                continue
            if (
                worker.state is WorkerState.RETIRING
                or (ending and worker.state is WorkerState.READY)
                or (worker.state is WorkerState.QUARANTINE and not self._suspects.count)
            ):
                self._retiring -= worker.state is WorkerState.RETIRING
                worker.state = WorkerState.STOPPING
                self._send(worker, (frames.STOP,))
                self._unlink(worker)
            elif ending and worker.state is WorkerState.STARTING and worker.page is not None:
                # It would only start to stop.
                worker.state = WorkerState.STOPPING
                self._actions.append(Kill(worker.id, signal.SIGKILL))

    def _unlink(self, worker: Worker) -> None:
        """A worker holds no slots any more: its successor follows its predecessor."""
        for other in self.workers.values():
            if other.predecessor is worker:
                other.predecessor = worker.predecessor

    def _break(self, cause: BaseException) -> None:
        if self.phase in (Phase.BROKEN, Phase.KILLED):
            return
        self.phase = Phase.BROKEN
        self.broken_because = cause
        self._drop_pending()
        for worker in self.workers.values():
            running = worker.running
            for position, (call, batch) in enumerate(worker.sent.items()):
                place = call - batch.first
                if place not in batch.dropped:
                    batch.drop((place,))
                    self.unfinished -= 1
                    pid = worker.pid if position < running else None
                    troubles = batch.troubles.get(place) if batch.troubles else None
                    ended: Ended = (batch.offset + place, LOST, cause, None, pid, troubles)
                    self._outcomes.append((batch.sink, [ended]))
            self._actions.append(Kill(worker.id, signal.SIGTERM))

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
                self._ended(batch, 1)
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
            self._ended(batch, len(ended))

    def _ended(self, batch: Batch, count: int) -> None:
        """Calls of a batch are over; after its last, workers need not keep its function."""
        batch.remaining -= count
        if batch.remaining or batch.function.lasting or not count:
            return
        number = batch.function.number
        self._users[number] -= 1
        if self._users[number]:
            return
        del self._users[number]
        for worker in self.workers.values():
            if number in worker.known:
                worker.known.discard(number)
                self._send(worker, (frames.FORGET, number))

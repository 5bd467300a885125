"""The pool: every decision about workers and calls, as a state machine without I/O.

Thread: turn holder, which reports each event (a public method) and then carries out the actions
that the pool has collected.
Guarantees: each call that enters is delivered to its sink exactly once; a call is with one worker
at a time; a call that may have started is not sent again, unless its options allow it; a call runs
in a worker of its lane.

A worker is::

    STARTING ──ready──▶ READY ──has done its share──▶ RETIRING ──drained──▶ STOPPING ──lost──▶ gone
        │                                                ▲
        └─ready──▶ QUARANTINE ──its suspects are sent────┘            lost at any time ──────▶ gone

(A worker with nothing left to do, because the pool is ending or there are no more suspects, goes to
STOPPING directly; so does one that is killed for a call that nothing else stops. One that is
RETIRING because calls in its threads do not end is *forsaken*: it is killed as soon as it has no
others.)

The pool is RUNNING, then DRAINING (shut down: finish what there is), BROKEN (workers cannot be had)
or KILLED (asked to end at once), until :attr:`Pool.finished`.

Calls and workers are in crews, one for each lane (:mod:`.crew`). What is decided where: which calls
there are and how they end in :mod:`.ledger`, how many workers a crew has in :mod:`.scaling`, which
worker is sent which calls in :mod:`.dispatch`, which it gives back in :mod:`.recall`, what becomes
of its answers in :mod:`.results`, and what follows when a call fails, is late, or loses its worker
in :mod:`.recovery`.
"""

from __future__ import annotations

import enum
import itertools
import random
import signal
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ...process import Process
from ...wire import messages
from ...wire.messages import Row
from ..work.batch import Batch, Sink
from .actions import Actions
from .crew import Crew, Terms
from .ledger import Ledger
from .page import Page
from .recovery import Recovery
from .results import Results
from .worker import Worker, WorkerState


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
        slots: Mapping[str, int],
        *,
        budget: int | None = None,
        memory: int | None = None,
        grace: float = 0.75,
        all_at_once: bool = False,
        idle_timeout: float | None = None,
        patient: bool = False,
        random: Callable[[], float] = random.random,
    ) -> None:
        """
        Args:
            max_workers: how many workers of a lane run calls at most.
            slots: how many calls each runs at once, by lane.
            budget: how many calls a worker runs before it is replaced; None for no limit.
            memory: bytes of RAM at which a worker is replaced; None for no limit.
            grace: seconds from a call's deadline to the end of its worker.
            all_at_once: start every worker of a lane with its first call, instead of one per
                unfinished call.
            idle_timeout: seconds after which a worker without calls ends; None if it never does.
            patient: let workers get ready, which have a process, before they end: what they have
                made must be closed.
            random: a number from 0 to 1, for the jitter of retries.
        """
        self.max_workers = max_workers
        self.memory = memory
        self.phase = Phase.RUNNING
        #: What has been decided.
        self.actions = Actions()
        self._slots = slots
        self._terms = Terms(max_workers, budget, grace, all_at_once, idle_timeout, patient)
        self._numbers = itertools.count(1)
        #: The workers of all crews, by number, and the crews, by lane. To be read only.
        self.workers: dict[int, Worker] = {}
        self.crews: dict[str, Crew] = {}
        #: To be read only.
        self.ledger = Ledger(self.crews, self.workers, self.actions)
        self._recovery = Recovery(self.ledger, self.workers, self.actions, random)
        self._results = Results(self.ledger, self._recovery)

    # -- what the engine asks -----------------------------------------------------------------

    @property
    def pending(self) -> int:
        """How many calls wait for any worker."""
        return sum(crew.backlog.count for crew in self.crews.values())

    @property
    def limited(self) -> int:
        """How many wait because of limits; for any thread."""
        return sum(crew.limited for crew in list(self.crews.values()))

    @property
    def finished(self) -> bool:
        """Whether the pool has been told to end and nothing is left of it."""
        return self.phase is not Phase.RUNNING and not self.workers and not self.ledger.unfinished

    def wait_seconds(self, now: float) -> float | None:
        """Seconds until :meth:`tick` must be called; None if only events matter."""
        soonest: float | None = None
        for crew in self.crews.values():
            seconds = crew.wait_seconds(now)
            if seconds is not None and (soonest is None or seconds < soonest):
                soonest = seconds
        if self.ledger.admission:
            seconds = self.ledger.admission.due_seconds(now)
            if seconds is not None and (soonest is None or seconds < soonest):
                soonest = seconds
        return soonest

    def _crew(self, lane: str) -> Crew:
        crew = self.crews.get(lane)
        if crew is None:
            slots, terms = self._slots[lane], self._terms
            crew = Crew(
                lane, slots, terms, self._numbers, self.workers, self.actions, self.ledger.wanted
            )
            crew.closing, crew.broken_because = self.ledger.closing, self.ledger.broken_because
            self.crews[lane] = crew
        return crew

    def place_of(self, number: int) -> int:
        """Which place a worker has; for any thread."""
        worker = self.workers.get(number)
        return 0 if worker is None else worker.place

    def rest_seconds(self, now: float) -> float | None:
        """Seconds until :meth:`dispatch` is due because a worker will have been idle for so long;
        None if no worker will. Unlike with :meth:`wait_seconds`, inline calls may come before."""
        if self.phase is not Phase.RUNNING:
            return None
        seconds = (crew.scaling.rest_seconds(now) for crew in self.crews.values())
        return min((each for each in seconds if each is not None), default=None)

    # -- events: what callers want ------------------------------------------------------------

    def submit(self, batch: Batch) -> None:
        """There are new calls. :meth:`dispatch` must follow, once for any number of batches."""
        crew = self._crew(batch.options.lane)
        too_late = crew.closing or self.finished
        self.ledger.enter(batch, crew)
        if too_late:
            # They were submitted before callers could know.
            self.ledger.refuse(batch, range(batch.size))
            return
        if batch.options.limits is None:
            crew.add(batch)
        else:
            self.ledger.admission.add(batch)

    def want(self, workers: int, lane: str) -> None:
        """Start ``workers`` more workers of a lane, up to the limit, before there are calls for
        them."""
        self._crew(lane).scaling.want(workers)

    def resize(self, max_workers: int) -> None:
        """From now on, so many workers of a lane run calls at most: those that are too many finish
        what they run, and end."""
        self.max_workers = max_workers
        self._terms = self._terms._replace(max_workers=max_workers)
        for crew in self.crews.values():
            crew.scaling.resize(max_workers)
            crew.retire_surplus()
        self._settle()

    def receiver(self, lane: str) -> Worker | None:
        """The worker to which a caller may send an inline call of this lane; None if there are
        other calls, or no such worker."""
        crew = self.crews.get(lane)
        if crew is None or crew.closing or self.phase is not Phase.RUNNING:
            return None
        return None if self.ledger.unfinished else crew.dispatch.idle()

    def sent_inline(self, batch: Batch, worker: Worker, now: float) -> None:
        """An inline call, which has entered the ledger, was sent to that worker by its caller."""
        worker.begin_sample(now)
        worker.crew.arrived += 1
        worker.in_flight.add(batch, 0, 1)
        batch.next = 1
        batch.send(0, 1)
        timeout = batch.options.timeout
        if timeout is not None:
            worker.deadlines.add(batch.first, timeout, now)

    def cancel(self, batch: Batch, places: Iterable[int] | None, running: bool) -> None:
        """Cancel calls of ``batch``: those at ``places``, or all that have not ended.

        With ``running``, calls that have started are stopped, too; without, they run on and are
        delivered as ever. The sink hears nothing of the others any more.
        """
        self.ledger.cancel(batch, places, running)
        self._settle()

    def fetched(self, batch: Batch, count: int) -> None:
        """So many items of a streaming call, since its beginning, have been fetched: it may yield
        more."""
        call = batch.first
        for worker in self.workers.values():
            if call in worker.in_flight:
                self.actions.send(worker.id, messages.More(call, count))

    def stop(self) -> None:
        """Cancel the calls that workers have, started or not. Unlike with :meth:`cancel`, their
        sinks are told. Workers whose calls go on are about to be killed."""
        self._recovery.leaving = True
        self.ledger.stop()
        self._settle()

    def cancel_all(self, told: Sink) -> None:
        """Cancel all calls, started or not; when all sinks have been told, ``told`` is."""
        self.ledger.empty()
        self.ledger.stop()
        self.ledger.tell(told)
        self._settle()

    def shutdown(self, cancel_unstarted: bool) -> None:
        """Finish all calls, or only those that have started, then end."""
        if self.phase is Phase.RUNNING:
            self.phase = Phase.DRAINING
            for crew in self.crews.values():
                crew.scaling.short = True
        if cancel_unstarted and self.phase is Phase.DRAINING:
            self.ledger.close()
            for crew in self.crews.values():
                crew.recall.ask_all()
        self._settle()

    def kill(self, signal_number: int) -> None:
        """End at once: cancel what has not started, signal every worker."""
        if self.phase is not Phase.BROKEN:
            self.phase = Phase.KILLED
        self.ledger.close()
        for worker in self.workers.values():
            self.actions.kill(worker.id, signal_number)

    # -- events: what workers do --------------------------------------------------------------

    def started(self, number: int, process: Process, page: Page | None) -> None:
        """A worker exists. What follows if it has no page: see :mod:`.page`."""
        worker = self.workers[number]
        worker.exists = True
        worker.process = process
        if page is not None:
            worker.page = page
        self.actions.tally.happen("WorkerStarted", number, process, worker.crew.lane)
        unwanted = worker.state is WorkerState.STOPPING or worker.crew.broken_because is not None
        if unwanted or self.phase in (Phase.BROKEN, Phase.KILLED):
            self.actions.kill(number, signal.SIGKILL)
        self._settle()

    def ready(self, number: int, now: float) -> None:
        """A worker said Hello: it is ready for calls."""
        worker = self.workers[number]
        if worker.state is not WorkerState.STARTING:
            return  # it was told to end meanwhile
        worker.state = WorkerState.QUARANTINE if worker.quarantine else WorkerState.READY
        worker.sampled_at = worker.moved_at = now
        self.actions.tally.happen("WorkerReady", number, worker.process)
        worker.crew.retire_surplus()
        self._settle()

    def results(
        self,
        number: int,
        results: Sequence[Sequence[Any]],
        rows: Sequence[Row],
        now: float,
    ) -> None:
        """Calls ended in a worker: ``results`` one by one, ``rows`` many at once."""
        worker = self.workers[number]
        crew = worker.crew
        self.actions.tally.mark(now)
        if not worker.done:
            crew.scaling.believe()
        self._results.take(worker, results, rows, now)
        if worker.quarantine:
            crew.suspects.came_through()
        worker.sample(now)
        if not worker.in_flight.count:
            worker.rested_at = now
        if crew.scaling.leaving or self.phase is not Phase.RUNNING:
            self._settle()

    def yielded(self, number: int, call: int, packed: bool, values: list[Any]) -> None:
        """A streaming call, which a worker runs, has yielded these: payloads, if ``packed``."""
        batch = self.workers[number].in_flight.get(call)
        if batch is not None:
            self.ledger.pass_on(batch, packed, values)

    def low_watermark(self, number: int, now: float) -> None:
        """A worker's inbox is low."""
        worker = self.workers[number]
        worker.asked = False
        worker.sample(now)

    def recalled(self, number: int, calls: Sequence[int]) -> None:
        """A worker gave back calls that it had not started, the newest first."""
        worker = self.workers[number]
        worker.recalls -= 1
        if worker.held_at is not None:
            worker.crew.recall.release(worker, [])  # it reads again
        # Without those that were reclaimed by now.
        calls = [call for call in reversed(calls) if call in worker.in_flight]
        worker.crew.backlog.put_back(self.ledger.wanted(worker.take_back(calls)))
        self._settle()

    def measured(self, number: int, resident: int) -> None:
        """A worker has ``resident`` bytes in RAM."""
        worker = self.workers.get(number)
        if worker is None or self.memory is None or resident <= self.memory:
            return
        # The replacement of a worker that has done nothing yet would be no smaller.
        if worker.state is WorkerState.READY and worker.done:
            worker.crew.retire(worker, "max_memory_per_child")
            self._settle()

    def leave(self, numbers: Iterable[int], max_workers: int) -> None:
        """Their machine goes: have these workers finish what they run, give back the rest, and end;
        and :meth:`resize`. To be repeated: one that is only starting is none of them yet."""
        for number in numbers:
            worker = self.workers.get(number)
            if worker is not None and worker.state is WorkerState.READY:
                worker.crew.retire(worker, "leaving")
        self.resize(max_workers)  # now: no others are to be started in their place

    def fail(self, cause: BaseException) -> None:
        """No worker can be had, because of ``cause``: break, unless no worker is wanted."""
        if self.phase not in (Phase.BROKEN, Phase.KILLED):
            self.abort(cause)

    def incapable(self, number: int, cause: BaseException) -> None:
        """No worker of this one's lane can be had, because of ``cause``: break its crew; and the
        pool, if there is no other."""
        self._break(self.workers[number].crew, cause)

    def _break(self, crew: Crew, cause: BaseException) -> None:
        if all(other is crew or other.broken_because for other in self.crews.values()):
            self.fail(cause)
        elif not crew.closing:
            self.ledger.close_crew(crew, cause)
            self._dismiss(crew, cause)

    def _dismiss(self, crew: Crew, cause: BaseException) -> None:
        """Its calls end because of ``cause``, and its workers."""
        for worker in crew.workers.values():
            self._recovery.give_up(worker, cause)
            self.actions.kill(worker.id, signal.SIGTERM)

    def abort(self, cause: BaseException) -> None:
        """End every call with ``cause``."""
        self.phase = Phase.BROKEN
        self.ledger.close(cause)
        for crew in self.crews.values():
            self._dismiss(crew, cause)

    def lost(self, number: int, lost: BaseException, now: float) -> None:
        """A worker's process is gone, after all that it had written was passed to :meth:`results`.
        Its started calls fail with ``lost``, unless they may run again."""
        scaling = self.workers[number].crew.scaling
        worker = scaling.remove(number)
        self.actions.tally.worker_ended(worker, lost, self.phase is Phase.KILLED, now)
        self._recovery.lose(worker, lost, now)
        if worker.taken:
            scaling.believe()
        elif worker.state is not WorkerState.STOPPING:  # nor was it to end
            self._doubt(worker, lost, now)
        self._settle()

    def unready(self, number: int, why: BaseException) -> None:
        """A worker will never be ready, because of ``why``, and most likely no other of its lane
        will. Its crew breaks unless another worker can run calls, or is about to. :meth:`lost` must
        follow."""
        worker = self.workers[number]
        if worker.crew.scaling.depends_on(worker):
            self._break(worker.crew, why)

    def _doubt(self, worker: Worker, why: BaseException, now: float) -> None:
        """A worker's start has failed. After too many failures in a row, its crew breaks if no
        worker can run calls; if the start was for suspects, these fail."""
        crew, scaling = worker.crew, worker.crew.scaling
        scaling.starts.fail(worker.id, scaling.newest, now)
        if not scaling.starts.hopeless or not crew.unfinished:
            return
        if not scaling.able:
            self._break(crew, why)
        elif worker.quarantine:
            self._recovery.give_up_suspects(crew, why)

    def tick(self, now: float) -> None:
        """Time has passed: look at deadlines, retries and stuck workers."""
        for crew in self.crews.values():
            due = crew.retries.take(now)
            if due:
                crew.try_again(self.ledger.admission.put_back(due))
        self._recovery.look(now)
        for crew in self.crews.values():
            crew.relieve(now)
        self._settle()

    def dispatch(self, now: float) -> None:
        """Send the calls that can be sent, and start missing workers."""
        running, draining = self.phase is Phase.RUNNING, self.phase is Phase.DRAINING
        for crew in self.crews.values():
            crew.prepare(draining, now)
        if self.ledger.admission:
            # After that: starting workers count, and who goes here is sent before more start.
            self.ledger.admission.release(self.crews.values(), now)
        for crew in self.crews.values():
            crew.serve(running, draining, now)
        self._settle()

    def _settle(self) -> None:
        # Also in a pool that is BROKEN or KILLED: workers may survive the signal.
        ending = self.phase is not Phase.RUNNING and not self.ledger.unfinished
        for crew in self.crews.values():
            crew.settle(ending)

"""The pool: every decision about workers and calls, as a state machine without I/O.

Thread: turn holder, which reports each event (a public method) and then carries out the actions
that the pool has collected.
Guarantees: each call that enters is delivered to its sink exactly once; a call is with one worker
at a time; a call that may have started is not sent again, unless its options allow it.

A worker is::

    STARTING ──ready──▶ READY ──has done its share──▶ RETIRING ──drained──▶ STOPPING ──lost──▶ gone
        │                                                ▲
        └─ready──▶ QUARANTINE ──its suspects are sent────┘            lost at any time ──────▶ gone

(A worker with nothing left to do, because the pool is ending or there are no more suspects, goes to
STOPPING directly; so does one that is killed for a call that nothing else stops.)

The pool is RUNNING, then DRAINING (shut down: finish what there is), BROKEN (workers cannot be had)
or KILLED (asked to end at once), until :attr:`Pool.finished`.

What is decided where: which calls there are and how they end in :mod:`.ledger`, how many workers
there are in :mod:`.scaling`, which worker is sent which calls in :mod:`.dispatch`, which it gives
back in :mod:`.recall`, what becomes of its answers in :mod:`.results`, and what follows when a call
fails, is late, or loses its worker in :mod:`.recovery`.
"""

from __future__ import annotations

import enum
import random
import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from ...wire.messages import Row
from ..work.batch import Batch, Sink
from .actions import Actions
from .dispatch import Dispatch
from .ledger import Ledger
from .page import Page
from .recall import Recall
from .recovery import Recovery
from .results import Results
from .scaling import Scaling
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
        slots: int,
        *,
        budget: int | None = None,
        memory: int | None = None,
        grace: float = 0.75,
        all_at_once: bool = False,
        idle_timeout: float | None = None,
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
            idle_timeout: seconds after which a worker without calls ends; None if it never does.
            random: a number from 0 to 1, for the jitter of retries.
        """
        self.max_workers = max_workers
        self.memory = memory
        self.phase = Phase.RUNNING
        #: What has been decided.
        self.actions = Actions()
        self._scaling = Scaling(max_workers, budget, grace, all_at_once, self.actions, idle_timeout)
        self.workers = self._scaling.workers
        #: To be read only.
        self.ledger = Ledger(self.workers, self.actions)
        self._dispatch = Dispatch(
            self._scaling, self.ledger.backlog, self.ledger.suspects, slots, self.actions
        )
        self._recall = Recall(self.workers, self.ledger.backlog, slots, self.actions)
        self._recovery = Recovery(self.ledger, self._scaling, self.actions, random)
        self._results = Results(self.ledger, self._recovery)

    # -- what the engine asks -----------------------------------------------------------------

    @property
    def pending(self) -> int:
        """How many calls wait for any worker."""
        return self.ledger.backlog.count

    @property
    def finished(self) -> bool:
        """Whether the pool has been told to end and nothing is left of it."""
        return self.phase is not Phase.RUNNING and not self.workers and not self.ledger.unfinished

    def wait_seconds(self, now: float) -> float | None:
        """Seconds until :meth:`tick` must be called; None if only events matter."""
        looks = [w.deadlines.look_at for w in self.workers.values() if w.deadlines]
        due = self.ledger.retries.next_due
        if due is not None:
            looks.append(due)
        if now < self._scaling.starts.next_at and self._scaling.short and self.ledger.unfinished:
            looks.append(self._scaling.starts.next_at)
        soonest = max(0.0, min(looks) - now) if looks else None
        stuck = self._recall.stuck_seconds(now)
        if soonest is None or stuck is None:
            return stuck if soonest is None else soonest
        return min(soonest, stuck)

    def place_of(self, number: int) -> int:
        """Which place a worker has; for any thread."""
        worker = self.workers.get(number)
        return 0 if worker is None else worker.place

    def rest_seconds(self, now: float) -> float | None:
        """Seconds until :meth:`dispatch` is due because a worker will have been idle for so long;
        None if no worker will. Unlike with :meth:`wait_seconds`, inline calls may come before."""
        return self._scaling.rest_seconds(now) if self.phase is Phase.RUNNING else None

    # -- events: what callers want ------------------------------------------------------------

    def submit(self, batch: Batch) -> None:
        """There are new calls. :meth:`dispatch` must follow, once for any number of batches."""
        ledger = self.ledger
        too_late = ledger.closing or self.finished
        ledger.enter(batch)
        if too_late:
            # They were submitted before callers could know.
            ledger.refuse(batch, range(batch.size))
            return
        ledger.backlog.add(batch)
        self._scaling.need(ledger.unfinished)

    def want(self, workers: int) -> None:
        """Start ``workers`` more workers, up to the limit, before there are calls for them."""
        self._scaling.want(workers)

    def resize(self, max_workers: int) -> None:
        """From now on, so many workers run calls at most: those that are too many finish what they
        run, and end."""
        self.max_workers = max_workers
        self._scaling.resize(max_workers)
        self._retire_surplus()

    def _retire_surplus(self) -> None:
        for worker in self._scaling.surplus():
            self._retire(worker, "resized")

    def receiver(self) -> Worker | None:
        """The worker to which a caller may send an inline call; None if there are other calls, or
        no such worker."""
        if self.phase is not Phase.RUNNING or self.ledger.unfinished:
            return None
        return self._dispatch.idle()

    def sent_inline(self, batch: Batch, worker: Worker, now: float) -> None:
        """An inline call, which has entered the ledger, was sent to that worker by its caller."""
        worker.begin_sample(now)
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
            self._scaling.short = True
        if cancel_unstarted and self.phase is Phase.DRAINING:
            self.ledger.close()
            self._recall.ask_all()
        self._settle()

    def kill(self, signal_number: int) -> None:
        """End at once: cancel what has not started, signal every worker."""
        if self.phase is not Phase.BROKEN:
            self.phase = Phase.KILLED
        self.ledger.close()
        for worker in self.workers.values():
            self.actions.kill(worker.id, signal_number)

    # -- events: what workers do --------------------------------------------------------------

    def started(self, number: int, pid: int | None, page: Page | None) -> None:
        """A worker exists. What follows if it has no page: see :mod:`.page`."""
        worker = self.workers[number]
        worker.exists = True
        worker.pid = pid
        if page is not None:
            worker.page = page
        self.actions.tally.happen("WorkerStarted", number, pid)
        if self.phase in (Phase.BROKEN, Phase.KILLED) or worker.state is WorkerState.STOPPING:
            self.actions.kill(number, signal.SIGKILL)
        self._settle()

    def ready(self, number: int, now: float) -> None:
        """A worker said Hello: it is ready for calls."""
        worker = self.workers[number]
        if worker.state is not WorkerState.STARTING:
            return  # it was told to end meanwhile
        worker.state = WorkerState.QUARANTINE if worker.quarantine else WorkerState.READY
        worker.sampled_at = worker.moved_at = now
        self.actions.tally.happen("WorkerReady", number, worker.pid)
        self._retire_surplus()
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
        self.actions.tally.mark(now)
        if not worker.done:
            self._scaling.believe()
        self._results.take(worker, results, rows, now)
        if worker.quarantine:
            self.ledger.suspects.came_through()
        worker.sample(now)
        if not worker.in_flight.count:
            worker.rested_at = now
        if self._scaling.leaving or self.phase is not Phase.RUNNING:
            self._settle()

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
            self._recall.release(worker, [])  # it reads again
        # Without those that were reclaimed by now.
        calls = [call for call in reversed(calls) if call in worker.in_flight]
        self.ledger.backlog.put_back(self.ledger.wanted(worker.take_back(calls)))
        self._settle()

    def measured(self, number: int, resident: int) -> None:
        """A worker has ``resident`` bytes in RAM."""
        worker = self.workers.get(number)
        if worker is None or self.memory is None or resident <= self.memory:
            return
        # The replacement of a worker that has done nothing yet would be no smaller.
        if worker.state is WorkerState.READY and worker.done:
            self._retire(worker, "max_memory_per_child")

    def _retire(self, worker: Worker, cause: str) -> None:
        """Let a worker finish what it runs, give back the rest, and end."""
        self._scaling.retire(worker, cause)
        if worker.waiting > 0 and not worker.recalls:
            self._recall.ask(worker, worker.waiting)
        self._settle()

    def fail(self, cause: BaseException) -> None:
        """No worker can be had, because of ``cause``: break, unless no worker is wanted."""
        if self.phase not in (Phase.BROKEN, Phase.KILLED):
            self.abort(cause)

    def abort(self, cause: BaseException) -> None:
        """End every call with ``cause``."""
        self.phase = Phase.BROKEN
        self.ledger.close(cause)
        for worker in self.workers.values():
            self._recovery.give_up(worker, cause)
            self.actions.kill(worker.id, signal.SIGTERM)

    def lost(self, number: int, lost: BaseException, now: float) -> None:
        """A worker's process is gone, after all that it had written was passed to :meth:`results`.
        Its started calls fail with ``lost``, unless they may run again."""
        worker = self._scaling.remove(number)
        self.actions.tally.worker_ended(worker, lost, self.phase is Phase.KILLED, now)
        self._recovery.lose(worker, lost, now)
        if worker.taken:
            self._scaling.believe()
        elif worker.state is not WorkerState.STOPPING:  # nor was it to end
            self._doubt(worker, lost, now)
        self._settle()

    def unready(self, number: int, why: BaseException) -> None:
        """A worker will never be ready, because of ``why``, and most likely no other will. The pool
        breaks unless another worker can run calls, or is about to. :meth:`lost` must follow."""
        if self._scaling.depends_on(self.workers[number]):
            self.fail(why)

    def _doubt(self, worker: Worker, why: BaseException, now: float) -> None:
        """A worker's start has failed. After too many failures in a row, the pool breaks if no
        worker can run calls; if the start was for suspects, these fail."""
        self._scaling.starts.fail(worker.id, self._scaling.newest, now)
        if not self._scaling.starts.hopeless or not self.ledger.unfinished:
            return
        if not self._scaling.able:
            self.fail(why)
        elif worker.quarantine:
            self._recovery.give_up_suspects(why)

    def tick(self, now: float) -> None:
        """Time has passed: look at deadlines, retries and stuck workers."""
        due = self.ledger.retries.take(now)
        if due:
            self.ledger.backlog.put_back(due)
            self._scaling.short = True
        self._recovery.look(now)
        self._relieve(now)

    def _relieve(self, now: float) -> None:
        self.ledger.backlog.put_back(self.ledger.wanted(self._recall.relieve(now)))

    def dispatch(self, now: float) -> None:
        """Send the calls that can be sent, and start missing workers."""
        if self._scaling.short or self.ledger.suspects.count:
            self._hire(now)
        self._dispatch.run(self.ledger.unfinished, now)
        if self.ledger.unfinished > 1 and not self.ledger.backlog.count:
            # A worker may have run out of calls just now.
            self._relieve(now)
            self._dispatch.run(self.ledger.unfinished, now)  # what was reclaimed
        if self._scaling.short:
            self._hire(now)  # in place of those that have just been sent all they may run
        if self.phase is Phase.RUNNING:
            self._scaling.rest(now)  # last: whoever has just been sent a call is not idle
        self._settle()

    def _hire(self, now: float) -> None:
        if not self._scaling.may_hire(self.ledger.unfinished, now):
            return
        if self.phase is Phase.RUNNING:
            self._scaling.hire(self.ledger.unfinished, self.ledger.suspects.groups)
        elif self.phase is Phase.DRAINING:
            self._scaling.hire_to_finish(self.pending, self.ledger.suspects.groups)

    def _settle(self) -> None:
        # Also in a pool that is BROKEN or KILLED: workers may survive the signal.
        ending = self.phase is not Phase.RUNNING and not self.ledger.unfinished
        if ending or self._scaling.leaving:
            self._scaling.settle(ending, self.ledger.suspects.count)

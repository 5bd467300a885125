"""What follows when a call fails, is late, or loses its worker: it runs again, or it ends.

Thread: turn holder.
Guarantees: a call that may have started runs again only if its options allow it, and a bounded
number of times. A call that cannot be stopped at its deadline costs its worker; the calls beside it
are run again, if they may be, without becoming suspects. A cancelled call that goes on in a thread
after the grace period costs its worker, too, but no other call: it is killed when those have ended.

Calls wait for their next run in :mod:`.retries` after an error, in :mod:`.quarantine` after a
worker's death. Which calls are late, and what to do about it, is decided in :mod:`.deadlines`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...errors import CallTimeout, NodeLost, WorkerLost
from ...process import Process
from ...wire import messages
from ...wire.wording import call_text
from ..work.batch import DROPPED, ENDED, LOST, UNWANTED, Batch, Call, Loss
from .actions import Actions
from .crew import Crew
from .deadlines import Step
from .ledger import Ledger
from .quarantine import MAX_DEATHS
from .retries import delay
from .worker import Worker


class Recovery:
    """Handles the calls of a pool that failed, are late, or have lost their worker."""

    def __init__(
        self,
        ledger: Ledger,
        workers: dict[int, Worker],
        actions: Actions,
        random: Callable[[], float],
    ) -> None:
        self._ledger = ledger
        self._workers = workers
        self._actions = actions
        self._random = random
        #: Whether all workers are about to be killed, so that calls that go on are not reported.
        self.leaving = False

    def try_again(
        self, batch: Batch, place: int, status: int, value: Any, process: Process, now: float
    ) -> bool:
        """Put a failed call into the retries, if it may be retried; whether it may."""
        options = batch.options
        if not options.retries or batch.yielded:
            return False
        if batch.crew.closing or batch.states[place] == UNWANTED:
            return False
        if status == messages.RETRIABLE:
            text = value[1].rstrip().rpartition("\n")[2]
        elif status == messages.TIMED_OUT and issubclass(CallTimeout, options.retry_on):
            text = f"CallTimeout: stopped after {value} s"
        else:
            return False
        history = batch.history_of(place)
        if history.retries >= options.retries:
            return False
        history.retries += 1
        history.texts.append(text)
        seconds = None
        if status == messages.RETRIABLE:
            *_, error, message, seconds = value
        else:
            error, message = text.split(": ", 1)
        self._actions.tally.retry((batch, place), process, error, message)
        if seconds is None:
            seconds = delay(options.backoff, history.retries, self._random)
        batch.crew.retries.add(batch, place, now + seconds)
        return True

    # -- late calls -------------------------------------------------------------------------------

    def look(self, now: float) -> None:
        """Act on the calls that are late."""
        for worker in self._workers.values():
            if worker.deadlines and now >= worker.deadlines.look_at:
                abandoned = []
                for call, step in worker.deadlines.look(worker.page, now):
                    if step is Step.REPORT:
                        abandoned.append(call)
                    else:
                        self._enforce(worker, call, step)
                if abandoned and not self.leaving:
                    self._report(worker, abandoned)
                    # Without a status page, they may not have started.
                    if worker.crew.lane == "thread" and worker.page.starts():
                        worker.crew.scaling.forsake(worker)

    def _enforce(self, worker: Worker, call: int, step: Step) -> None:
        """Act on one late call."""
        batch = worker.in_flight.get(call)
        assert batch is not None, "it is late here"
        if step is Step.INTERRUPT:
            self._actions.send(worker.id, messages.Expire(call))
        elif step is Step.KILL:
            if not worker.expired:
                worker.crew.scaling.kill_overdue(worker)
            worker.expired.add(call)
        else:
            # It is not retried, and not over for its batch: this run goes on.
            place, timeout = call - batch.first, batch.options.timeout
            self._ledger.give_up(batch, place, messages.TIMED_OUT, timeout, worker.process)

    def _report(self, worker: Worker, calls: list[int]) -> None:
        """Report calls that were cancelled and go on."""
        names = []
        for call in calls:
            batch = worker.in_flight.get(call)
            assert batch is not None, "it runs here"
            names.append(call_text(batch.function.name, worker.deadlines.abandoned[call]))
        fields = len(names), worker.process, tuple(names), worker.crew.lane
        self._actions.tally.happen("CallsAbandoned", *fields)

    # -- calls that lose their worker -------------------------------------------------------------

    def lose(self, worker: Worker, lost: BaseException, now: float) -> None:
        """A worker's process is gone: end or requeue its unanswered calls. Those that had started
        fail with ``lost``, unless they may run again."""
        ledger, crew = self._ledger, worker.crew
        running = worker.running
        returned: list[tuple[Batch, int]] = []
        to_run_again: list[Call] = []
        for position, (call, batch) in enumerate(worker.in_flight.calls()):
            place = call - batch.first
            if position >= running:
                returned.append((batch, call))
            elif batch.states[place] == DROPPED:
                ledger.ended(batch, place)
            elif call in worker.expired:
                timeout, process = batch.options.timeout, worker.process
                if not self.try_again(batch, place, messages.TIMED_OUT, timeout, process, now):
                    ledger.end(batch, place, messages.TIMED_OUT, timeout, process)
            elif batch.options.on_worker_loss == "retry" and not (
                crew.closing or batch.yielded or batch.states[place] == UNWANTED
            ):
                to_run_again.append((batch, place))
            else:
                self._fail(worker, (batch, place), lost)
        if worker.expired or isinstance(lost, NodeLost):
            given_up = self._spare(worker, to_run_again, str(lost))
        elif to_run_again:
            current = worker.page.current
            given_up = crew.suspects.implicate(to_run_again, running, current, str(lost))
        else:
            given_up = []
        for culprit in given_up:
            self._fail(worker, culprit, lost)
        error = type(lost).__name__, str(lost)
        for batch, place in to_run_again:
            if batch.states[place] != ENDED:
                self._actions.tally.retry((batch, place), worker.process, *error)
        kept = ledger.wanted(returned)
        (crew.suspects if worker.quarantine else crew.backlog).put_back(kept)

    def give_up(self, worker: Worker, cause: BaseException) -> None:
        """End the calls of a worker that is about to be killed, because of ``cause``."""
        running = worker.running
        for position, (call, batch) in enumerate(worker.in_flight.calls()):
            process = worker.process if position < running else None
            self._ledger.give_up(batch, call - batch.first, LOST, cause, process)

    def give_up_suspects(self, crew: Crew, why: BaseException) -> None:
        """Fail the suspects that wait in a crew: no worker can be started for them, because of
        ``why``."""
        lost = WorkerLost(f"the worker that ran this call died, and it cannot run again: {why}")
        for batch, place in crew.suspects.clear():
            self._ledger.end(batch, place, LOST, lost, None)

    def _fail(self, worker: Worker, call: Call, lost: BaseException) -> None:
        """End a call as lost with its worker."""
        self._ledger.end(*call, LOST, Loss(lost, *call), worker.process)

    def _spare(self, worker: Worker, calls: list[Call], text: str) -> list[Call]:
        """Requeue calls that have not cost them their worker: it was killed because of another
        call, or its machine is gone. Suspects stay suspects. Returned are those to which this has
        happened too often."""
        unlucky: list[Call] = []
        spared: list[Call] = []
        for batch, place in calls:
            history = batch.history_of(place)
            history.deaths += 1
            if history.deaths >= MAX_DEATHS:
                unlucky.append((batch, place))
            else:
                history.texts.append(text)
                spared.append((batch, place))
        crew = worker.crew
        (crew.suspects if worker.quarantine else crew.backlog).put_back(spared)
        return unlucky

"""A pool with simulated workers, every action of which is judged.

Each step is one method, so that tests decide in which order things happen.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from hybridexec.errors import ExecutorBroken, NodeLost, WorkerLost
from hybridexec.events import names_of
from hybridexec.options import LANES, CallOptions
from hybridexec.parent.pool import invariants
from hybridexec.parent.pool.actions import Send, Start
from hybridexec.parent.pool.call_frames import call_frame
from hybridexec.parent.pool.emitter import Emitter
from hybridexec.parent.pool.pool import Pool
from hybridexec.parent.pool.retries import MAX_BACKOFF
from hybridexec.parent.work.batch import Batch, Yielded
from hybridexec.parent.work.function import Function
from hybridexec.process import Process
from hybridexec.wire import fragments, messages

from .account import Account
from .fakes import Sink
from .judge import Judge
from .simulated_worker import SimulatedWorker


class Simulation(Judge):
    """Does what the engine does, without threads, pipes and time of their own."""

    def __init__(self, max_workers: int = 2, slots: int = 2, **options: Any) -> None:
        pool = Pool(max_workers, dict.fromkeys(LANES, slots), **options)
        super().__init__(pool, options.get("grace", 0.75))
        self.max_workers = max_workers
        self.slots = slots
        #: Is told of everything.
        self.account = Account()
        self.pool.actions.tally.emitter = Emitter(self.pool.workers)
        self._taken = 0  # by workers that have ended
        self._packer = fragments.Packer()

    # -- what callers do ----------------------------------------------------------------------

    def submit(
        self,
        size: int = 1,
        function: Function | None = None,
        sink: Sink | None = None,
        weight: int = 0,
        keys: Sequence[object] = (),
        **options: Any,
    ) -> Batch:
        batch = self._make_batch(size, function, sink, **options)
        batch.weight = weight
        limits = batch.options.limits
        if limits is not None and limits.key is not None:
            batch.keys = [limits.find((keys[n % len(keys)],), {}) for n in range(size)]
        self._event(self.pool.submit, batch)
        return batch

    def send_inline(self, **options: Any) -> tuple[Batch, int | None]:
        """Submit a call to be sent at once, if it is alone; the worker that it goes to."""
        batch = self._make_batch(1, None, None, **options)
        worker = self.pool.receiver(batch.options.lane)
        if worker is None:
            self._event(self.pool.submit, batch)
            return batch, None
        self.pool.ledger.enter(batch, worker.crew)
        self._note_send(Send(worker.id, *call_frame(worker, batch)))
        self._event(self.pool.sent_inline, batch, worker, self.now)
        return batch, worker.id

    def _make_batch(
        self, size: int, function: Function | None, sink: Sink | None, **options: Any
    ) -> Batch:
        function = function or Function(b"function", lasting=True)
        sink = sink or self.sink
        items = [(sink.size + place,) for place in range(size)]
        batch = Batch(function, items, sink, CallOptions(**options), sink.size)
        sink.calls.extend(range(batch.first, batch.first + size))
        self.batches.append(batch)
        self.batch_of.update(dict.fromkeys(range(batch.first, batch.first + size), batch))
        return batch

    def cancel(self, batch: Batch, places: Iterable[int] | None, running: bool) -> None:
        for place in range(len(batch.items)) if places is None else places:
            call = batch.first + place
            if not self._delivered(call):
                self.unwanted.add(call)
                if running or call not in self.at:
                    self.silent.add(call)
        self._event(self.pool.cancel, batch, places, running)

    def cancel_refused(self, size: int, running: bool) -> None:
        """As :meth:`cancel`, for calls whose submission was refused."""
        function = Function(b"function", lasting=True)
        batch = Batch(function, [()] * size, self.sink, CallOptions(), 0)
        self._event(self.pool.cancel, batch, None, running)

    def resize(self, max_workers: int) -> None:
        """There are to be so many workers."""
        self.max_workers = max_workers
        self._event(self.pool.resize, max_workers)

    def shutdown(self, cancel_unstarted: bool = False) -> None:
        self.closing = self.closing or cancel_unstarted
        self._event(self.pool.shutdown, cancel_unstarted)

    def kill(self) -> None:
        self.closing = True
        self._event(self.pool.kill, signal.SIGKILL)

    # -- what workers do ----------------------------------------------------------------------

    def start(self, *numbers: int) -> None:
        """The processes of these workers come to be."""
        for number in numbers:
            worker = self.workers[number]
            worker.exists = True
            self._event(self.pool.started, number, Process(worker.pid), worker.page)

    def ready(self, *numbers: int) -> None:
        """These workers say HELLO, and their processes exist."""
        for number in numbers:
            if not self.workers[number].exists:
                self.start(number)
            self.workers[number].greeted = True
            self._event(self.pool.ready, number, self.now)

    def read(self, number: int) -> None:
        """A worker reads all its frames."""
        while self.workers[number].pipe:
            self.workers[number].read()

    def take(self, number: int, count: int = 1) -> None:
        """A worker reads its frames and starts calls."""
        self.read(number)
        for _ in range(count):
            self.may_have_started.add(self.workers[number].take())

    def answer(self, number: int, *calls: int, status: int = messages.VALUE) -> None:
        """A worker ends calls (by default all it runs), and the parent hears of it."""
        worker = self.workers[number]
        for call in calls or list(worker.running):
            worker.answer(call, status)
        self.hear(number)

    def _in_rows(self, results: list[Any]) -> tuple[list[Any], list[Any]]:
        """Results as they travel: plain ones of calls in a row, without more to say, in rows."""
        singly: list[Any] = []
        rows: list[messages.Row] = []
        for call, status, value, seconds in results:
            if status != messages.VALUE or self._options(call).timeout is not None:
                singly.append((call, status, value, seconds))
                continue
            if not rows or call != rows[-1][0] + len(rows[-1][1]):
                # Plain or packed, in turns.
                rows.append((call, [], self._packer.prelude if call % 2 else None))
            _, values, prelude = rows[-1]
            values.append(value if prelude is None else self._packer.pack(value))
        return singly, rows

    def hear(self, number: int) -> None:
        """The parent reads all that a worker has written."""
        out = self.workers[number].out
        while out:
            kind, content = out.popleft()
            if kind == "results":
                while out and out[0][0] == "results":
                    content = content + out.popleft()[1]
                for call, *_ in content:
                    del self.at[call]
                    self.suspected.discard(call)
                self._event(self.pool.results, number, *self._in_rows(content), self.now)
                for call, *_ in content:
                    self._note_end_of_run(call, retried=True)
            elif kind == "recalled":
                for call in content:
                    if self.at.get(call) == number:  # it was not reclaimed meanwhile
                        del self.at[call]
                self._event(self.pool.recalled, number, content)
            else:
                self._event(self.pool.low_watermark, number, self.now)

    def die(self, number: int, why: type[WorkerLost] = WorkerLost) -> BaseException:
        """A worker's process ends, and the parent notices."""
        self.hear(number)
        worker = self.workers[number]
        lost: BaseException = why(f"worker {number} died", worker.pid, -9, 0)
        if worker.failure is not None:
            lost = worker.failure
            self._event(self.pool.incapable, number, lost)
        elif not worker.page.taken:
            lost = ExecutorBroken("workers die")
        held = [call for call, holder in self.at.items() if holder == number]
        started = [call for call in held if call in self.may_have_started]
        # It may have been killed for a call that did end at the last moment.
        overdue = set(self.pool.workers[number].expired)
        blameless = bool(overdue) or issubclass(why, NodeLost)
        for call in held:
            del self.at[call]
        for call in started:
            self.deaths[call] += 1
            self.alone[call] += len(started) == 1 and not blameless
        del self.workers[number]
        self._taken += worker.page.taken
        self._event(self.pool.lost, number, lost, self.now)
        for call in started:
            if self._note_end_of_run(call, retried=call in overdue):
                if call in overdue:
                    self.suspected.discard(call)
                elif not blameless:
                    self.suspected.add(call)
        return lost

    def measure(self, number: int, resident: int) -> None:
        """Somebody has looked how much memory a worker holds."""
        self._event(self.pool.measured, number, resident)

    def fail_to_get_ready(self, number: int) -> BaseException:
        """A worker says FAILED, as when its initializer raised; it ends by itself."""
        worker = self.workers[number]
        worker.doomed = True
        worker.failure = ExecutorBroken("the initializer failed")
        return worker.failure

    # -- what the I/O thread does -------------------------------------------------------------

    def turn(self, seconds: float = 0.0) -> None:
        """Time passes; the pool decides."""
        self.now += seconds
        for worker in self.workers.values():
            if worker.hog is None:
                worker.page.heartbeat = self.now
        self._event(self.pool.tick, self.now)
        for worker in self.workers.values():
            self._judge_late(worker)
        self.dispatch()

    def dispatch(self) -> None:
        """The pool decides, without a look at the clock."""
        self._event(self.pool.dispatch, self.now)

    def run(self, until: Callable[[], bool]) -> None:
        """Everything goes well from here: processes start, calls end, killed workers die."""
        # A worker that runs one call in its life needs a few steps for that.
        for _ in range(100 + 10 * len(self.batch_of)):
            if until():
                return
            for number, worker in list(self.workers.items()):
                if worker.doomed or worker.stopped:
                    self.die(number)
                elif not worker.greeted:
                    self.ready(number)
                else:
                    worker.yield_hub()
                    self.read(number)
                    for call in list(worker.running):
                        worker.answer(call)
                    while worker.may_take(self.slots):
                        self.take(number)
                    self.hear(number)
            # In one turn: a worker that gets no chance to take what it was sent seems stuck.
            self.turn(max(0.01, self.pool.ledger.admission.due_seconds(self.now) or 0.0))
            if any(crew.retries.count for crew in self.pool.crews.values()):
                self.turn(MAX_BACKOFF)
        raise AssertionError(f"stuck: {self.describe()}")

    def finish(self) -> None:
        """Run all calls, shut down, and check that nothing is left and nobody was forgotten."""
        self.run(lambda: not self.pool.ledger.unfinished and not self.at)
        for worker in self.workers.values():
            assert worker.functions <= self._lasting(), "passing functions are forgotten"
        self.shutdown()
        self.run(lambda: self.pool.finished)
        for call in self.batch_of:
            assert self._delivered(call) != (call in self.silent), "each call ends in one way"
        assert not self.account.alive
        assert self.account.started == self._taken
        assert self.account.retried == self.earlier.total()

    def _event(self, event: Callable[..., None], *arguments: Any) -> None:
        event(*arguments)
        for action in self.pool.actions.take():
            if isinstance(action, Send):
                self._note_send(action)
            elif isinstance(action, Start):
                assert action.worker not in self.workers
                self.workers[action.worker] = SimulatedWorker(
                    action.worker, action.lane, lambda: self.now
                )
            else:
                self._judge_kill(action)
                self.kills.append(action)
                # The engine has no process to signal before it was started.
                if action.worker in self.workers and self.workers[action.worker].exists:
                    self.workers[action.worker].doomed = True
        for sink, ended in self.pool.ledger.take_outcomes():
            assert not isinstance(ended, Yielded), "no call yields here"
            self._note_outcomes(sink, ended)
        invariants.check(self.pool)
        told = self.pool.actions.tally.take_events(self.now, names_of())
        if told:
            self.account(told)
        assert self.account.unfinished == self.pool.ledger.unfinished, "each end is told once"
        tally = self.pool.actions.tally
        assert tally.submitted - tally.ended == self.pool.ledger.unfinished, "and counted once"

    def describe(self) -> str:
        return f"{self.pool.phase}, pending {self.pool.pending}, " + ", ".join(
            f"{w.id}: {w.state.value} sent {len(w.in_flight)} running {w.running}"
            for w in self.pool.workers.values()
        )

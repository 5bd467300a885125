"""What a pool has done so far, and whether that was right."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from hybridexec.errors import CallTimeout
from hybridexec.limits import Limits
from hybridexec.options import CallOptions
from hybridexec.parent.pool.actions import Kill, Send
from hybridexec.parent.pool.crew import Crew
from hybridexec.parent.pool.dispatch import MAX_FRAME
from hybridexec.parent.pool.pool import Phase, Pool
from hybridexec.parent.pool.quarantine import MAX_ALONE, MAX_DEATHS, MAX_DEATHS_IN_A_ROW
from hybridexec.parent.pool.worker import MAX_AHEAD, MIN_WINDOW
from hybridexec.parent.work.batch import LOST, Batch, Ended, Values
from hybridexec.wire import messages
from hybridexec.wire.messages import ToWorker

from .fakes import Sink, one_by_one
from .simulated_worker import SimulatedWorker


class Judge:
    """Notes what a pool and its simulated workers do, and asserts that each of that may happen."""

    def __init__(self, pool: Pool, grace: float) -> None:
        self.pool = pool
        self.grace = grace
        self.now = 100.0
        self.workers: dict[int, SimulatedWorker] = {}
        self.sink = Sink()
        self.batches: list[Batch] = []
        self.batch_of: dict[int, Batch] = {}  # by call
        self.in_flight: list[Send] = []
        self.kills: list[Kill] = []
        # Cancelled calls that run, and when the pool could see that: the first time, and the first
        # time after the grace.
        self.seen: dict[int, list[float]] = {}
        # Invariant: the worker that a call was sent to and that has not answered, lost or returned
        # it, as far as the parent can know.
        self.at: dict[int, int] = {}
        self.may_have_started: set[int] = set()
        self.unwanted: set[int] = set()  # calls that were cancelled
        self.silent: set[int] = set()  # those of them of which the sink must hear nothing (more)
        # Calls that were tried again, and how many of their runs are behind them; in how many of
        # these their worker died, and in how many of those nothing ran beside them.
        self.earlier: Counter[int] = Counter()
        self.retried: Counter[int] = Counter()
        self.deaths: Counter[int] = Counter()
        self.alone: Counter[int] = Counter()
        self.suspected: set[int] = set()  # calls that may only run apart from others
        self.closing = False  # what does not run ends
        # Runs of calls that were let start, with how often they had been tried again; and when, by
        # what limits them.
        self.let_start: set[tuple[int, int]] = set()
        self.starts: dict[Limits, list[tuple[float, object]]] = {}

    def heads(self, kind: type[ToWorker], number: int | None = None) -> list[tuple[Any, ...]]:
        """The messages of a kind that were sent, to one worker or to any."""
        return [
            sent.message.head
            for sent in self.in_flight
            if type(sent.message) is kind and number in (None, sent.worker)
        ]

    def calls_at(self, number: int) -> list[int]:
        """The indexes of the calls a worker has, in the order they were sent."""
        return [self._index(call) for call, holder in self.at.items() if holder == number]

    def _index(self, call: int) -> int:
        batch = self.batch_of[call]
        return batch.offset + call - batch.first

    def _note_end_of_run(self, call: int, retried: bool) -> bool:
        """A run of a call has ended; whether it may run again."""
        if self._delivered(call) or call in self.silent:
            return False
        self.may_have_started.discard(call)
        self.earlier[call] += 1
        self.retried[call] += retried
        return True

    def _options(self, call: int) -> CallOptions:
        return self.batch_of[call].options

    def _delivered(self, call: int) -> bool:
        sink = self.batch_of[call].sink
        assert isinstance(sink, Sink)
        return self._index(call) in sink.got

    def _lasting(self) -> set[int]:
        return {b.function.number for b in self.batches if b.function.lasting}

    def _judge_late(self, worker: SimulatedWorker) -> None:
        """The pool has just looked at the calls that should have ended."""
        for call, started in worker.page.started.items():
            timeout = self._options(call).timeout
            if timeout is not None and not worker.was_kept:
                in_time = self.now < started + timeout + self.grace
                assert in_time or worker.doomed, "a deadline holds, whoever waits for the call"
            if call in self.silent:
                times = self.seen.setdefault(call, [self.now])
                if self.now >= times[-1] + self.grace:
                    times.append(self.now)
                abandoned = self.pool.workers[worker.number].deadlines.abandoned
                assert len(times) < 3 or call in abandoned, "what goes on is counted"

    def _note_send(self, send: Send) -> None:
        self.in_flight.append(send)
        worker = self.workers.get(send.worker)
        assert worker is not None, "frames go to workers that exist"
        worker.pipe.append(send.message.head)
        kind, *rest = send.message.head
        if kind == messages.Calls.kind:
            self._note_calls(worker, *rest)
        elif kind == messages.Expire.kind:
            assert self.at[rest[0]] == worker.number, "what is to stop is there"
            assert self._options(rest[0]).timeout is not None
        elif kind == messages.Reclaim.kind:
            for call in rest[1]:
                assert self.at.pop(call) == worker.number, "what is reclaimed was there"
                assert call not in worker.running, "what has started is not reclaimed"
        elif kind == messages.Forget.kind:
            assert rest[0] in worker.functions, "only what was introduced is forgotten"
            worker.functions.discard(rest[0])
            for call, holder in self.at.items():
                assert holder != worker.number or self._function(call) != rest[0], "still in use"
        elif kind == messages.Stop.kind:
            assert worker.number not in self.at.values(), "a worker with calls is not stopped"
            worker.told_to_stop = True

    def _judge_kill(self, kill: Kill) -> None:
        """A worker is killed."""
        worker = self.pool.workers[kill.worker]
        if worker.forsaken and not worker.expired and self._runs(worker.crew):
            for call, holder in self.at.items():
                wanted = holder == kill.worker and call not in self.silent
                assert not wanted or self._delivered(call), "only what nobody waits for dies there"

    def _note_calls(self, worker: SimulatedWorker, functions: list[Any], spans: list[Any]) -> None:
        assert worker.greeted, "calls go to workers that said HELLO"
        assert not worker.told_to_stop
        assert not self.pool.workers[worker.number].forsaken
        for number, _, _ in functions:
            assert number not in worker.functions, "a function is introduced once"
            worker.functions.add(number)
        assert 0 < sum(len(items) for _, _, _, items, *_ in spans) <= MAX_FRAME
        for function, _, first, items, *_ in spans:
            assert type(function) is bytes or function in worker.functions, "known when used"
            for place, item in enumerate(items):
                call = first + place
                assert item == (self._index(call),), "each call has its own arguments"
                assert call not in self.at, "a call is with one worker at a time"
                assert call not in self.may_have_started, "what may have run is not sent again"
                assert call not in self.unwanted, "what was cancelled is not sent"
                assert not self._delivered(call)
                assert worker.lane == self._options(call).lane, "a call runs in its lane"
                quarantine = self.pool.workers[worker.number].quarantine
                assert quarantine == (call in self.suspected), "suspects, and only they, run apart"
                self.at[call] = worker.number
                if self._options(call).limits is not None:
                    self._judge_limits(call, self._options(call).limits)
        heaviest = max(self.batch_of[first].weight for _, _, first, *_ in spans)
        known = self.pool.workers[worker.number]
        if heaviest and not known.quarantine:
            most = max(MIN_WINDOW, MAX_AHEAD // heaviest)
            assert known.waiting <= most, "few heavy calls wait in a worker"

    def _key(self, call: int) -> object:
        batch = self.batch_of[call]
        return None if batch.keys is None else batch.keys[call - batch.first]

    def _judge_limits(self, call: int, limits: Limits) -> None:
        """Whether a call with limits may be sent now."""
        key = self._key(call)
        like = [other for other in self.at if self._options(other).limits is limits]
        at_once = sum(self._key(other) is key for other in like)
        assert limits.per_key is None or at_once <= limits.per_key
        if (call, self.retried[call]) in self.let_start:
            return  # it was taken back, or lost its worker
        self.let_start.add((call, self.retried[call]))
        starts = self.starts.setdefault(limits, [])
        starts.append((self.now, key))
        self._judge_rate([at for at, _ in starts], limits, limits.rate)
        self._judge_rate([at for at, of in starts if of is key], limits, limits.rate_per_key)

    def _judge_rate(self, times: list[float], limits: Limits, rate: float | None) -> None:
        if rate is None:
            return
        assert limits.burst is not None, "no simulation uses others"
        for count, at in enumerate(reversed(times), 1):
            most = limits.burst + rate * (times[-1] - at) / limits.per
            assert count <= most + 1e-6, "no more start than may"

    def _function(self, call: int) -> int:
        return self.batch_of[call].function.number

    def _note_outcomes(self, sink: Any, ended: Sequence[Ended] | Values) -> None:
        in_row = isinstance(ended, Values)
        for index, status, value, _, pid, history in one_by_one(ended):
            call = sink.calls[index]
            assert call not in self.silent, "the sink of a cancelled call hears nothing"
            texts = history.texts if history is not None else []
            assert in_row or len(texts) == self.earlier[call], "each earlier run is told of"
            assert self.retried[call] <= self._options(call).retries
            if status == messages.VALUE:
                assert value == call, "an outcome goes to the call it belongs to"
            elif status == LOST and not self._is_broken(call):
                started = call in self.may_have_started or self.deaths[call]
                assert started, "only what may have run is lost"
                hopeless = self.batch_of[call].crew.scaling.starts.hopeless
                assert hopeless or self._had_its_chances(call), "what may run again does"
            elif status == messages.CANCELLED and pid is None:
                assert call not in self.may_have_started, "what runs is not given up"
            elif status in (messages.RETRIABLE, messages.TIMED_OUT):
                assert status == messages.TIMED_OUT, "the pool keeps that to itself"
                assert self._options(call).timeout is not None
                # One that is given up while another keeps its hub cannot be tried again.
                assert call in self.at or self._had_its_retries(call), "it is tried again"
        sink.deliver(ended)

    def _had_its_chances(self, call: int) -> bool:
        return (
            self._options(call).on_worker_loss == "fail"
            or call in self.unwanted
            or self.closing
            or self.alone[call] >= MAX_ALONE
            or self.deaths[call] >= MAX_DEATHS
            or sum(self.deaths.values()) >= MAX_DEATHS_IN_A_ROW
        )

    def _had_its_retries(self, call: int) -> bool:
        options = self._options(call)
        return (
            self.retried[call] == options.retries
            or not issubclass(CallTimeout, options.retry_on)
            or call in self.unwanted
            or self.closing
            or self._is_broken(call)
        )

    def _is_broken(self, call: int) -> bool:
        """Whether no calls run any more, or none of its lane."""
        return not self._runs(self.batch_of[call].crew)

    def _runs(self, crew: Crew) -> bool:
        """Whether calls of a crew run."""
        ended = self.pool.phase in (Phase.BROKEN, Phase.KILLED)
        return not ended and crew.broken_because is None

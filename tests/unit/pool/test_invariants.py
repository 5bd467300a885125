"""The pool under any order of events: a hypothesis state machine over simulated workers.

The simulation judges each of the pool's actions (see judge.py); the rules here only make things
happen, in every order that can happen.
"""

from __future__ import annotations

import sys
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from hybridexec.limits import Limits
from hybridexec.options import LANES, Lane
from hybridexec.parent.pool.retries import MAX_BACKOFF
from hybridexec.parent.pool.worker import MAX_AHEAD
from hybridexec.parent.work.function import Function
from hybridexec.wire import messages

from ..simulated_worker import SimulatedWorker
from ..simulation import Simulation


def of_key(key: object) -> object:
    return key


choices = st.integers(0, 2**16)


class PoolMachine(RuleBasedStateMachine):
    """Callers, workers and time, each with a will of its own."""

    simulation: Simulation

    @initialize(
        max_workers=st.integers(1, 4),
        slots=st.integers(1, 5),
        budget=st.none() | st.integers(1, 8),
        memory=st.none() | st.just(1000),
        grace=st.sampled_from([0.01, 0.75]),
        all_at_once=st.booleans(),
        idle_timeout=st.none() | st.just(0.3),
        patient=st.booleans(),
        warm=st.booleans(),
    )
    def make(
        self,
        max_workers: int,
        slots: int,
        budget: int | None,
        memory: int | None,
        grace: float,
        all_at_once: bool,
        idle_timeout: float | None,
        patient: bool,
        warm: bool,
    ) -> None:
        self.simulation = Simulation(
            max_workers,
            slots,
            budget=budget,
            memory=memory,
            grace=grace,
            all_at_once=all_at_once,
            idle_timeout=idle_timeout,
            patient=patient,
        )
        self.largest = max_workers
        if warm:
            self.simulation.submit(20)
            self.simulation.turn()
            self.simulation.ready(*self.simulation.workers)
            self.simulation.turn()
        self.limits = [
            Limits(rate=100, burst=3),
            Limits(key=of_key, per_key=2),
            Limits(rate=400, burst=1, key=of_key, per_key=3, rate_per_key=200),
        ]
        self.functions = [Function(b"a", lasting=True), Function(b"b", lasting=False)]

    # -- callers ------------------------------------------------------------------------------

    @rule(
        size=st.integers(1, 50),
        choice=st.integers(0, 2),
        options=st.fixed_dictionaries(
            {},
            optional={
                "timeout": st.sampled_from([0.005, 0.1]),
                "retries": st.integers(1, 3),
                "retry_on": st.sampled_from([(Exception,), (ValueError,)]),
                "backoff": st.sampled_from([0.0, 0.01, 1e300]),
                "on_worker_loss": st.just("retry"),
                "lane": st.sampled_from(LANES[1:]),
            },
        ),
        weight=st.sampled_from([0, 0, MAX_AHEAD // 9, 2 * MAX_AHEAD]),
        limits=st.integers(0, 9),
        keys=st.lists(st.integers(0, 3), min_size=1, max_size=5),
        turn=st.booleans(),
    )
    def submit(
        self,
        size: int,
        choice: int,
        options: dict[str, Any],
        weight: int,
        limits: int,
        keys: list[int],
        turn: bool,
    ) -> None:
        if limits < len(self.limits):
            options = {**options, "limits": self.limits[limits]}
        function = self.functions[choice] if choice < 2 else Function(b"c", lasting=False)
        self.simulation.submit(size, function, weight=weight, keys=keys, **options)
        if turn:
            self.simulation.turn()

    @precondition(lambda self: not self.simulation.pool.ledger.unfinished)
    @rule(timeout=st.none() | st.just(0.1), lane=st.sampled_from(LANES[:2]))
    def submit_alone(self, timeout: float | None, lane: Lane) -> None:
        self.simulation.send_inline(timeout=timeout, lane=lane)

    @precondition(lambda self: self.simulation.batches)
    @rule(
        choice=choices,
        places=st.none() | st.sets(st.integers(0, 49), max_size=8),
        running=st.booleans(),
    )
    def cancel(self, choice: int, places: set[int] | None, running: bool) -> None:
        batches = self.simulation.batches
        batch = batches[-1 - choice % min(len(batches), 3)]
        if places is not None:
            places = {place for place in places if place < len(batch.items)}
        self.simulation.cancel(batch, places, running)

    @rule(size=st.integers(1, 5), running=st.booleans())
    def cancel_what_was_refused(self, size: int, running: bool) -> None:
        self.simulation.cancel_refused(size, running)

    @precondition(lambda self: len(self.simulation.in_flight) > 10)
    @rule(cancel_unstarted=st.booleans(), choice=choices)
    def shutdown(self, cancel_unstarted: bool, choice: int) -> None:
        if choice % 4 == 0:
            self.simulation.shutdown(cancel_unstarted)

    @precondition(lambda self: len(self.simulation.in_flight) > 20)
    @rule(choice=choices)
    def kill(self, choice: int) -> None:
        if choice % 8 == 0:
            self.simulation.kill()

    @precondition(lambda self: len(self.simulation.in_flight) > 5)
    @rule(max_workers=st.integers(1, 5), choice=choices)
    def resize(self, max_workers: int, choice: int) -> None:
        if choice % 4 == 0:
            self.simulation.resize(max_workers)
            self.largest = max(self.largest, max_workers)

    # -- workers ------------------------------------------------------------------------------

    @precondition(lambda self: self.simulation.workers)
    @rule(data=st.data())
    def a_worker_steps(self, data: st.DataObject) -> None:
        simulation = self.simulation
        worker = data.draw(st.sampled_from(list(simulation.workers.values())), label="worker")
        possible = {
            self.starts: not worker.exists,
            self.gets_ready: worker.exists and not worker.greeted and not worker.doomed,
            self.reads: bool(worker.pipe),
            self.takes: self.may_take(worker),
            self.answers: bool(worker.running),
            self.is_heard: bool(worker.out),
            self.is_kept_busy: bool(worker.running) and worker.hog is None,
            self.is_free: worker.hog is not None,
        }
        steps = [step for step, is_possible in possible.items() if is_possible]
        if steps:
            data.draw(st.sampled_from(steps), label="step")(worker, data)

    def starts(self, worker: SimulatedWorker, data: st.DataObject) -> None:
        self.simulation.start(worker.number)

    def gets_ready(self, worker: SimulatedWorker, data: st.DataObject) -> None:
        if data.draw(st.integers(0, 9)) < 9:
            self.simulation.ready(worker.number)
            self.simulation.turn()
        else:
            self.simulation.fail_to_get_ready(worker.number)

    def reads(self, worker: SimulatedWorker, data: st.DataObject) -> None:
        worker.read()

    def takes(self, worker: SimulatedWorker, data: st.DataObject) -> None:
        for _ in range(data.draw(st.integers(1, 5))):
            if self.may_take(worker):
                self.simulation.may_have_started.add(worker.take())

    def may_take(self, worker: SimulatedWorker) -> bool:
        return worker.hog is None and worker.may_take(self.simulation.slots)

    def answers(self, worker: SimulatedWorker, data: st.DataObject) -> None:
        calls = list(worker.running) if worker.hog is None else [worker.hog]
        for call in data.draw(st.sets(st.sampled_from(calls), min_size=1)):
            options = self.simulation.batch_of[call].options
            statuses = [messages.VALUE, messages.RETRIABLE if options.retries else messages.ERROR]
            if options.timeout is not None:
                statuses.append(messages.TIMED_OUT)
            worker.answer(call, data.draw(st.sampled_from(statuses)))

    def is_kept_busy(self, worker: SimulatedWorker, data: st.DataObject) -> None:
        worker.keep_hub(data.draw(st.sampled_from(list(worker.running))), data.draw(st.booleans()))

    def is_free(self, worker: SimulatedWorker, data: st.DataObject) -> None:
        worker.yield_hub()

    def is_heard(self, worker: SimulatedWorker, data: st.DataObject) -> None:
        self.simulation.hear(worker.number)
        if data.draw(st.booleans()):
            self.simulation.turn()

    @precondition(lambda self: any(w.greeted for w in self.simulation.workers.values()))
    @rule(data=st.data(), count=st.integers(1, 30), seconds=st.sampled_from([0.0, 0.001, 0.01]))
    def a_worker_is_busy(self, data: st.DataObject, count: int, seconds: float) -> None:
        """Many steps in one, so that runs get far."""
        simulation = self.simulation
        greeted = [w for w in simulation.workers.values() if w.greeted]
        worker = data.draw(st.sampled_from(greeted), label="worker")
        simulation.read(worker.number)
        worker.yield_hub()
        for _ in range(count):
            if worker.may_take(simulation.slots):
                simulation.take(worker.number)
            elif worker.running:
                worker.answer(next(iter(worker.running)))
        simulation.hear(worker.number)
        simulation.turn(seconds)

    @precondition(lambda self: any(w.exists for w in self.simulation.workers.values()))
    @rule(data=st.data())
    def a_worker_dies(self, data: st.DataObject) -> None:
        existing = [w for w in self.simulation.workers.values() if w.exists]
        worker = data.draw(st.sampled_from(existing), label="worker")
        if worker.greeted or worker.doomed or not data.draw(st.integers(0, 3)):
            self.simulation.die(worker.number)

    @precondition(lambda self: self.simulation.workers)
    @rule(data=st.data(), resident=st.sampled_from([500, 2000]))
    def a_worker_is_measured(self, data: st.DataObject, resident: int) -> None:
        number = data.draw(st.sampled_from(list(self.simulation.workers)), label="worker")
        self.simulation.measure(number, resident)

    # -- time ---------------------------------------------------------------------------------

    @rule(seconds=st.sampled_from([0.0, 0.001, 0.006, 0.2, 0.4, 1.0]))
    def time_passes(self, seconds: float) -> None:
        self.simulation.turn(seconds)

    @invariant()
    def keeps_to_its_size(self) -> None:
        most = self.simulation.max_workers
        for crew in self.simulation.pool.crews.values():
            workers = crew.workers.values()
            apart = sum(w.quarantine for w in workers)
            alive = [w for w in workers if w.state.value in ("starting", "ready")]
            active = sum(not w.quarantine for w in alive)
            # What was starting when there were to be fewer has not ended yet.
            ready = sum(not w.quarantine and w.state.value == "ready" for w in alive)
            assert ready <= most
            assert active <= self.largest
            # While all are alive, one more is for suspects.
            assert active + apart <= self.largest + (apart == 1)

    @invariant()
    def starts_what_may_start(self) -> None:
        """What limits let start, and has a slot, is sent with the next turn; if it is only a matter
        of time, that is known."""
        pool, now = self.simulation.pool, self.simulation.now
        if pool.limited and pool.ledger.admission.due_seconds(now):
            assert pool.wait_seconds(now) is not None

    @invariant()
    def looks_up_in_time(self) -> None:
        """Whatever waits for time to pass is seen to when it has."""
        pool, now = self.simulation.pool, self.simulation.now
        if any(crew.retries.count for crew in pool.crews.values()):
            seconds = pool.wait_seconds(now)
            assert seconds is not None
            assert 0 <= seconds <= MAX_BACKOFF

    def teardown(self) -> None:
        if hasattr(self, "simulation") and sys.exc_info()[0] is None:
            self.simulation.finish()


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(
    max_examples=100,
    stateful_step_count=60,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)

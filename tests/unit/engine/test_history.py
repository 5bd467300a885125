"""The history of an executor: as many samples for a long run as for a short one."""

from __future__ import annotations

import itertools
import threading
import tracemalloc
from types import SimpleNamespace
from typing import Any

import pytest

from hybridexec.errors import WorkerLost
from hybridexec.parent.engine import sampler
from hybridexec.parent.engine.history import History
from hybridexec.parent.engine.sampler import Sampler
from hybridexec.parent.engine.snapshot import Snapshot
from hybridexec.parent.pool.tally import Tally
from hybridexec.parent.work.batch import LOST, Batch
from hybridexec.process import Process
from hybridexec.wire import messages

from ..fakes import FUNCTION, OPTIONS, Sink
from ..simulation import Simulation


def snapshot(simulation: Simulation) -> Snapshot:
    supervisor: Any = SimpleNamespace(connections={})
    queue: Any = SimpleNamespace(submitted=[])
    return Snapshot(simulation.pool, supervisor, queue)


def test_a_long_run_is_told_in_as_many_samples_as_a_short_one() -> None:
    simulation = Simulation()
    history = History(snapshot(simulation), 1.0)
    now, taken = 0.0, 0
    while now < 100_000:
        history.sample(now)
        now += history.every
        taken += 1
    samples = history.samples()
    assert 300 <= len(samples) <= 600
    assert taken < 5000, "the longer it runs, the fewer are taken"
    times = [sample.at for sample in samples]
    assert times[0] == 0.0
    assert times[-1] > 99_000
    steps = {later - earlier for earlier, later in itertools.pairwise(times)}
    assert len(steps) <= 2, "they are evenly spaced"


def test_a_sample_tells_how_calls_and_workers_are() -> None:
    simulation = Simulation(max_workers=1, slots=2)
    simulation.submit(5)
    simulation.turn()
    simulation.ready(1)
    simulation.turn()
    simulation.take(1, 2)
    history = History(snapshot(simulation), 1.0)
    history.sample(simulation.now)
    (sample,) = history.samples()
    assert (sample.submitted, sample.finished) == (5, 0)
    (worker,) = sample.workers
    assert (worker.worker, worker.running) == (1, 2)
    assert sample.pending + worker.queued == 3


def test_its_memory_is_bounded() -> None:
    simulation = Simulation(max_workers=64, slots=2)
    simulation.submit(1000)
    simulation.turn()
    for worker in range(1, 65):
        simulation.ready(worker)
    history = History(snapshot(simulation), 1.0)
    history.sample(0.0)
    tracemalloc.start()
    for now in range(1, 700):
        history.sample(float(now))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8_000_000


def test_the_slowest_calls_are_remembered_after_their_end() -> None:
    simulation = Simulation(max_workers=1, slots=30)
    simulation.submit(30)
    simulation.turn()
    simulation.ready(1)
    simulation.turn()
    simulation.take(1, 4)
    history = History(snapshot(simulation), 1.0)
    history.sample(simulation.now + 5)
    simulation.answer(1)
    history.sample(simulation.now + 60)
    slowest = history.slowest()
    assert len(slowest) == 4
    assert all(call.seconds == pytest.approx(5, abs=1) for call in slowest)


def test_samples_are_taken_when_they_are_due(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(sampler.native, "monotonic", lambda: now)
    ours = Sampler(snapshot(Simulation()), threading.RLock())
    assert ours.seconds(100.125, unfinished=1) == 0.125
    ours.look(100.2)
    ours.look(100.25)
    ours.look(100.3)
    ours.look(120.0)
    assert ours.seconds(120.0, unfinished=1) == 0.5, "a fortieth of the time so far"
    ours.look(200.0)
    assert ours.seconds(200.0, unfinished=1) == 1.0
    assert times(ours) == [100.25, 120.0, 200.0]
    now = 201.75
    assert times(ours) == [100.25, 120.0, 200.0, 201.75]
    now = 202.0
    assert times(ours) == [100.25, 120.0, 200.0, 202.0], "who reads adds none"


def test_the_end_of_calls_is_sampled_too() -> None:
    simulation = Simulation(max_workers=1, slots=1)
    ours = Sampler(snapshot(simulation), threading.RLock())
    assert ours.seconds(ours.began_at, unfinished=0) is None
    simulation.submit(1)
    ours.look(ours.began_at + 1)
    assert ours.seconds(ours.began_at + 1, unfinished=0) is not None
    simulation.turn()
    simulation.ready(1)
    simulation.turn()
    simulation.take(1)
    simulation.answer(1)
    ours.look(ours.began_at + 2)
    assert ours.seconds(ours.began_at + 2, unfinished=0) is None


@pytest.mark.parametrize("sampled", [True, False])
def test_after_the_end_time_stands_still(monkeypatch: pytest.MonkeyPatch, sampled: bool) -> None:
    now = 100.0
    monkeypatch.setattr(sampler.native, "monotonic", lambda: now)
    ours = Sampler(snapshot(Simulation()), threading.RLock())
    if sampled:
        ours.look(110.0)
    now = 120.0
    ours.end()
    now = 1000.0
    assert times(ours)[-1] == 120.0


def times(ours: Sampler) -> list[float]:
    return [sample.at for sample in ours.history().samples()]


def test_failures_are_grouped_by_type_and_place() -> None:

    tally = Tally()
    batch = Batch(FUNCTION, [()] * 5, Sink(), OPTIONS, 0)

    def trace(line: int) -> str:
        return f'Traceback:\n  File "/a/b/code.py", line {line}, in run\n    boom\nOSError: no\n'

    batch.crew = SimpleNamespace(counts=tally.lanes["greenlet"])
    for place, line in enumerate((3, 3, 4)):
        value = (b"", trace(line), "", "builtins.OSError", f"no {place}")
        tally.mark(50.0 + place)
        tally.end(batch, [(place, messages.ERROR, value, None, Process(7), None)])
    tally.end(batch, [(3, messages.TIMED_OUT, 0.5, None, Process(7), None)])
    tally.end(batch, [(4, LOST, WorkerLost("gone"), None, None, None)])
    told = [
        (group.error, group.place, group.count, group.text) for group in tally.failures.groups()
    ]
    assert told == [
        ("builtins.OSError", "code.py:3 in run", 2, "no 1"),
        ("builtins.OSError", "code.py:4 in run", 1, "no 2"),
        ("CallTimeout", "", 1, "stopped after 0.5 s"),
        ("WorkerLost", "", 1, "gone"),
    ]
    first = tally.failures.groups()[0]
    assert (first.first_at, first.last_at, first.process, first.trace) == (
        50.0,
        51.0,
        Process(7),
        trace(3),
    )


def test_groups_of_failures_are_bounded() -> None:
    tally = Tally()
    for number in range(1000):
        tally.failures.note("f", f"Error{number}", "text" * 1000, "x" * 100_000, None, 1.0)
    groups = tally.failures.groups()
    assert [group.error for group in groups] == [f"Error{number}" for number in range(900, 1000)]
    assert all(len(group.text) <= 500 and len(group.trace) <= 10_000 for group in groups)


def test_a_sample_that_takes_long_is_taken_less_often(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 100.0
    monkeypatch.setattr(sampler.native, "monotonic", lambda: now)
    ours = Sampler(snapshot(Simulation()), threading.RLock())

    def take(seconds: float) -> None:
        def sample(at: float) -> None:
            nonlocal now
            now += seconds

        monkeypatch.setattr(ours._history(), "sample", sample)

    take(0.005)
    ours.look(100.25)
    assert ours.seconds(100.25, unfinished=1) == pytest.approx(0.5)
    take(3.0)  # the process was held up
    ours.look(101.0)
    assert ours.seconds(101.0, unfinished=1) == 1.0

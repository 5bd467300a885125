"""The sums. (That they add up in every story, each simulation checks.)"""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from hybridexec.parent.pool.tally import Tally
from hybridexec.parent.work.batch import Batch

from ..fakes import FUNCTION, OPTIONS, Sink
from .situations import running


def finish(tally: Tally, now: float, count: int) -> None:
    tally.mark(now)
    batch = Batch(FUNCTION, [()], Sink(), OPTIONS, 0)
    batch.crew = SimpleNamespace(counts=tally.lanes["greenlet"])
    tally.finish(batch, count, None)


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    tally = Tally()
    assert tally.per_second(5.0) == 0.0
    for second in range(100):
        finish(tally, 1000.0 + second, 50)
    assert tally.per_second(1099.5) == pytest.approx(50, rel=0.1)
    assert tally.per_second(1200.0) == 0.0


def test_the_rate_of_a_new_executor_counts_from_its_first_call() -> None:
    tally = Tally()
    finish(tally, 1000.0, 30)
    finish(tally, 1001.0, 30)
    finish(tally, 1002.0, 30)
    assert tally.per_second(1003.0) == pytest.approx(30)


def test_a_rate_forgets_what_was_before_a_pause() -> None:
    tally = Tally()
    finish(tally, 1000.0, 10**6)
    finish(tally, 1060.0, 100)
    assert tally.per_second(1061.0) == pytest.approx(10)


def test_a_lost_worker_is_a_restart_with_its_cause() -> None:
    simulation = running()
    tally = simulation.pool.actions.tally
    (worker,) = simulation.pool.workers.values()
    simulation.die(worker.id)
    assert tally.restarts == 1
    assert sum(tally.causes.values()) == 1
    assert [(process, bool(cause)) for _, process, cause in tally.last_restarts] == [
        (worker.process, True)
    ]


def test_workers_that_were_to_end_are_no_restarts() -> None:
    simulation = running()
    simulation.shutdown()
    simulation.finish()
    assert not simulation.pool.workers
    assert simulation.pool.actions.tally.restarts == 0

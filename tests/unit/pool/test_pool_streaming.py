"""Calls that yield: what comes of them is passed on, and they are not run again after that."""

from __future__ import annotations

from typing import Any

import pytest

from hybridexec.parent.pool.actions import Send
from hybridexec.parent.work.batch import LOST, Batch, Yielded
from hybridexec.wire import messages

from ..simulation import Simulation
from .situations import running


def begun(**options: Any) -> tuple[Simulation, Batch]:
    """Worker 1 runs a call that yields."""
    simulation = running()
    batch = simulation.submit(1, streamed=True, **options)
    simulation.turn()
    simulation.take(1)
    return simulation, batch


def yields(simulation: Simulation, batch: Batch, *items: Any) -> list[Any]:
    """The call yields; what of that its sink gets."""
    simulation.pool.yielded(1, batch.first, False, list(items))
    got: list[Any] = []
    for sink, what in simulation.pool.ledger.take_outcomes():
        assert sink is batch.sink
        assert isinstance(what, Yielded)
        got += what.values
        assert what.first + len(what.values) == batch.yielded
    return got


def test_items_are_passed_on_until_the_call_is_cancelled() -> None:
    simulation, batch = begun()
    assert yields(simulation, batch, 1, 2) == [1, 2]
    simulation.cancel(batch, None, running=True)
    assert yields(simulation, batch, 3) == []
    simulation.answer(1, status=messages.CANCELLED)
    assert yields(simulation, batch, 4) == [], "it has ended"
    simulation.finish()


def test_who_runs_it_is_told_what_was_fetched() -> None:
    simulation, batch = begun()
    simulation.pool.fetched(batch, 7)
    (action,) = simulation.pool.actions.take()
    assert isinstance(action, Send)
    assert action.worker == 1
    assert action.message.head == messages.More(batch.first, 7).head
    simulation.answer(1)
    simulation.pool.fetched(batch, 8)
    assert simulation.pool.actions.take() == []
    simulation.finish()


@pytest.mark.parametrize("has_yielded", [False, True])
def test_one_that_fails_is_retried_if_it_has_not_yielded(has_yielded: bool) -> None:
    simulation, batch = begun(retries=1)
    if has_yielded:
        yields(simulation, batch, 1)
    error = (b"", "ValueError: no", "", "ValueError", "no", None)
    simulation.workers[1].running.pop(batch.first)
    simulation.pool.results(1, [(batch.first, messages.RETRIABLE, error, None)], [], simulation.now)
    assert batch.crew.retries.count == (not has_yielded)
    outcomes = simulation.pool.ledger.take_outcomes()
    assert len(outcomes) == has_yielded


@pytest.mark.parametrize("has_yielded", [False, True])
def test_one_that_loses_its_worker_runs_again_if_it_has_not_yielded(has_yielded: bool) -> None:
    simulation, batch = begun(on_worker_loss="retry")
    if has_yielded:
        yields(simulation, batch, 1)
    lost = ValueError("the worker is gone")
    simulation.pool.lost(1, lost, simulation.now)
    assert batch.crew.suspects.count == (not has_yielded)
    for _, outcomes in simulation.pool.ledger.take_outcomes():
        assert not isinstance(outcomes, Yielded)
        assert [outcome[1] for outcome in outcomes] == [LOST]
    assert bool(batch.remaining) is not has_yielded

"""Each outcome reaches its own call's sink, and names the worker that ran the call."""

from __future__ import annotations

from hybridexec.process import Process
from hybridexec.wire import messages

from ..fakes import Sink
from .situations import running


def test_outcomes_go_to_their_own_sinks_at_their_own_places() -> None:
    simulation = running(slots=3)
    sinks = [Sink(), Sink()]
    for size in (3, 1, 5):
        for sink in sinks:
            simulation.submit(size, sink=sink)
    simulation.finish()
    for sink in sinks:
        assert {index: outcome[2] for index, outcome in sink.got.items()} == dict(
            enumerate(sink.calls)
        )


def test_each_outcome_names_the_worker_that_ran_the_call() -> None:
    simulation = running()
    simulation.submit()
    simulation.turn()
    simulation.take(1)
    simulation.answer(1, status=messages.ERROR)
    assert simulation.sink.got[1][4] == Process(simulation.workers[1].pid)
    assert simulation.pool.workers[1].failed == 1
    assert simulation.pool.workers[1].done == 2


def test_results_written_before_the_death_count() -> None:
    simulation = running(slots=2)
    simulation.submit(2)
    simulation.turn()
    simulation.take(1, 2)
    for call in list(simulation.workers[1].running):
        simulation.workers[1].answer(call)
    simulation.die(1)
    assert simulation.sink.statuses() == [messages.VALUE] * 3

"""What listeners are told of calls and workers. (That it adds up, each simulation checks.)"""

from __future__ import annotations

import logging
from typing import Any

import pytest

from hybridexec.errors import ExecutorBroken
from hybridexec.events import (
    CallsCancelled,
    CallsFailed,
    CallsFinished,
    CallsLost,
    CallsRetried,
    CallsStarted,
    CallsSubmitted,
    CallsTimedOut,
    Event,
    ExecutorBroke,
    NodeJoined,
    NodeLeft,
    NodeRefused,
    WorkerEnded,
    WorkerEvent,
    WorkerReady,
    WorkerRecycled,
    WorkerStarted,
    WorkerUnblocked,
    made,
    names_of,
)
from hybridexec.parent.engine import warnings
from hybridexec.parent.pool.emitter import Emitter
from hybridexec.parent.work.batch import LOST, Batch
from hybridexec.process import Process
from hybridexec.wire import messages

from ..fakes import FUNCTION, OPTIONS, Sink
from ..simulation import Simulation
from .situations import late, running


def told(simulation: Simulation, kind: type[Event]) -> list[Any]:
    return simulation.account.those(kind)


def test_what_is_taken_together_is_one_event_for_each_way_calls_went() -> None:
    emitter = Emitter({})
    batch = Batch(FUNCTION, [(n,) for n in range(4)], Sink(), OPTIONS, 0)
    failure = (b"", "trace of the first", "", "builtins.OSError", "no")
    emitter.ended(batch, [(0, messages.ERROR, failure, None, Process(7), None)])
    emitter.finished(batch, 2, Process(7))
    again = (b"", "trace of the second", "", "builtins.OSError", "no")
    emitter.ended(batch, [(3, messages.ERROR, again, None, Process(7), None)])
    emitter.submitted(batch)
    assert emitter.take(5.0) == [
        CallsSubmitted(5.0, 4, "..."),
        CallsFinished(5.0, 2, "...", 7),
        CallsFailed(5.0, 2, "...", 7, "builtins.OSError", "no", "trace of the first"),
    ]
    assert emitter.take(6.0) == []


@pytest.mark.parametrize(
    ("status", "value", "event"),
    [
        (messages.VALUE, 1, CallsFinished(0.0, 1, "...", 7)),
        (messages.PICKLED, b"", CallsFinished(0.0, 1, "...", 7)),
        (messages.TIMED_OUT, 0.5, CallsTimedOut(0.0, 1, "...", 7)),
        (messages.CANCELLED, None, CallsCancelled(0.0, 1, "...")),
        (LOST, ExecutorBroken("why"), CallsLost(0.0, 1, "...", 7, "ExecutorBroken", "why")),
    ],
)
def test_each_end_is_told_as_what_it_is(status: int, value: object, event: Event) -> None:
    emitter = Emitter({})
    emitter.ended(
        Batch(FUNCTION, [()], Sink(), OPTIONS, 0), [(0, status, value, None, Process(7), None)]
    )
    assert emitter.take(0.0) == [event]


def test_processes_of_two_nodes_that_have_one_pid_are_told_apart() -> None:
    emitter = Emitter({})
    batch = Batch(FUNCTION, [(n,) for n in range(5)], Sink(), OPTIONS, 0)
    emitter.finished(batch, 2, Process(7, "a"))
    emitter.finished(batch, 3, Process(7, "b"))
    assert emitter.take(0.0) == [
        CallsFinished(0.0, 2, "...", 7, node="a"),
        CallsFinished(0.0, 3, "...", 7, node="b"),
    ]


def test_what_the_log_says_names_nodes() -> None:
    blocked = made(WorkerUnblocked, 0.0, 3, Process(7, "b"), 2.0)
    assert isinstance(blocked, WorkerUnblocked)
    assert blocked.message.startswith("the hub of worker process 7 on node b runs again")
    near = made(WorkerUnblocked, 0.0, 3, Process(7), 2.0)
    assert near == WorkerUnblocked(0.0, 3, 7, 2.0)
    assert made(ExecutorBroke, 1.0, "why") == ExecutorBroke(1.0, "why")


@pytest.mark.parametrize(
    ("event", "level"),
    [
        (NodeJoined(0.0, "b", "tcp://b:1", 4), logging.INFO),
        (NodeLeft(0.0, "b", "tcp://b:1", False, "it was closed"), logging.INFO),
        (NodeLeft(0.0, "b", "tcp://b:1", True, "nothing was heard"), logging.WARNING),
        (NodeRefused(0.0, "b", "tcp://b:1", "another Python"), logging.WARNING),
    ],
)
def test_nodes_that_come_and_go_are_logged(
    event: Any, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "hybridexec")
    warnings.log(event)
    (record,) = caplog.records
    assert (record.levelno, record.getMessage()) == (level, event.message)
    assert "node b" in event.message


def test_only_what_starts_from_now_on_is_told() -> None:
    simulation = running()
    simulation.pool.actions.tally.emitter = Emitter(simulation.pool.workers)
    simulation.submit()
    simulation.turn()
    simulation.take(1)
    simulation.turn()
    assert [event.count for event in told(simulation, CallsStarted)][-1] == 1


def test_a_start_that_is_undone_is_told_once() -> None:
    simulation = running()
    worker, page = simulation.pool.workers[1], simulation.workers[1].page
    emitter = Emitter(simulation.pool.workers)
    for _ in range(2):
        page.taken += 1
        emitter.started([worker])
        page.taken -= 1
        emitter.started([worker])
    assert emitter.take(0.0) == [CallsStarted(0.0, 1, worker.pid)]


def test_the_life_of_a_worker() -> None:
    simulation = running()
    simulation.finish()
    events = told(simulation, WorkerEvent)
    assert [(type(event), event.worker, event.pid) for event in events] == [
        (kind, 1, 1001) for kind in (WorkerStarted, WorkerReady, WorkerEnded)
    ]
    assert not events[-1].lost


def test_workers_that_are_killed_with_the_executor_are_not_lost() -> None:
    simulation = running()
    simulation.kill()
    simulation.die(1)
    assert [(event.lost, event.cause) for event in told(simulation, WorkerEnded)] == [(False, "")]


def test_a_worker_that_dies_is_lost_and_so_are_its_calls() -> None:
    simulation = running(slots=2)
    simulation.submit(2)
    simulation.turn()
    simulation.take(1, 2)
    simulation.die(1)
    (ended,) = told(simulation, WorkerEnded)
    assert ended.lost
    assert ended.cause == "killed by SIGKILL"
    assert [(e.count, e.error, e.pid) for e in told(simulation, CallsLost)] == [
        (2, "WorkerLost", 1001)
    ]
    assert not told(simulation, CallsRetried)


def test_a_start_that_fails_ends_a_worker_that_had_no_process() -> None:
    simulation = Simulation(1)
    simulation.submit()
    simulation.turn()
    del simulation.workers[1]
    simulation._event(simulation.pool.lost, 1, ExecutorBroken("no memory"), simulation.now)
    assert told(simulation, WorkerEnded) == [
        WorkerEnded(simulation.now, 1, None, True, "no memory")
    ]


def test_a_call_that_outlives_its_deadline_costs_its_worker() -> None:
    simulation = late(traced=True, size=1)
    simulation.turn(10.0)
    simulation.turn(10.0)
    assert simulation.workers[1].doomed
    simulation.die(1)
    (ended,) = told(simulation, WorkerEnded)
    assert ended.cause == "killed for a call that did not end at its deadline"
    assert [event.count for event in told(simulation, CallsTimedOut)] == [1]


def test_why_a_worker_is_recycled() -> None:
    simulation = running(memory=1000)
    simulation.measure(1, 2000)
    assert [event.cause for event in told(simulation, WorkerRecycled)] == ["max_memory_per_child"]
    simulation = Simulation(1, budget=1)
    simulation.submit()
    simulation.turn()
    simulation.ready(1)
    simulation.turn()
    assert [event.cause for event in told(simulation, WorkerRecycled)] == ["max_tasks_per_child"]
    simulation = running()
    simulation.submit(on_worker_loss="retry")
    simulation.turn()
    simulation.take(1)
    simulation.die(1)
    assert [(e.count, e.error) for e in told(simulation, CallsRetried)] == [(1, "WorkerLost")]
    simulation.turn()
    simulation.ready(*simulation.workers)
    simulation.turn()
    assert [event.cause for event in told(simulation, WorkerRecycled)] == ["quarantine"]


def test_a_retry_says_what_it_is_for() -> None:
    simulation = running()
    simulation.submit(retries=1, timeout=1.0, retry_on=(Exception,))
    simulation.submit(retries=1)
    simulation.turn()
    for status in (messages.TIMED_OUT, messages.RETRIABLE):
        simulation.take(1)
        simulation.answer(1, status=status)
    overdue, failed = told(simulation, CallsRetried)
    assert overdue.error == "CallTimeout"
    assert overdue.text.startswith("stopped after")
    assert (failed.error, failed.text) == ("Error", "it failed")


def test_a_call_whose_caller_was_interrupted_is_told_of_once() -> None:
    simulation = running()
    batch, _ = simulation.send_inline()
    simulation.pool.workers[1].in_flight.pop(batch.first)  # half of its end was noted
    for _ in range(2):
        simulation.pool.ledger.repair(batch, 0, ExecutorBroken("interrupted"))
    assert simulation.pool.actions.tally.take_events(0.0, names_of()) == [
        CallsLost(0.0, 1, "...", None, "ExecutorBroken", "interrupted")
    ]


def test_nothing_is_kept_while_nobody_listens() -> None:
    simulation = running()
    simulation.pool.actions.tally.emitter = None
    assert simulation.pool.actions.tally.take_events(0.0, names_of()) == []

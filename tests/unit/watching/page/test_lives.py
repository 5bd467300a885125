"""Workers' lives are read from what happened to them."""

from __future__ import annotations

from typing import Any

from hybridexec.process import Process
from hybridexec.watching.page.lives import lives


def test_a_life_goes_from_start_to_end() -> None:
    (life,) = lives(
        [
            (1.0, "WorkerStarted", 1, Process(71), "greenlet"),
            (1.5, "WorkerReady", 1, Process(71)),
            (2.0, "CallsAbandoned", 3, Process(71), ("f(1)",)),
            (9.0, "WorkerEnded", 1, Process(71), True, "killed by SIGKILL"),
        ],
        20.0,
    )
    assert (life.worker, life.pid, life.line) == (1, 71, 0)
    assert (life.start, life.ready, life.end, life.ended) == (1.0, 1.5, 9.0, True)
    assert (life.lost, life.cause) == (True, "killed by SIGKILL")


def test_a_worker_that_was_to_end_has_a_cause_too() -> None:
    recycled, ended = lives(
        [
            (1.0, "WorkerStarted", 1, Process(71), "greenlet"),
            (2.0, "WorkerStarted", 2, Process(72), "greenlet"),
            (3.0, "WorkerRecycled", 1, Process(71), "max_tasks_per_child"),
            (4.0, "WorkerEnded", 1, Process(71), False, ""),
            (5.0, "WorkerEnded", 2, Process(72), False, ""),
        ],
        9.0,
    )
    assert (recycled.lost, recycled.cause) == (False, "max_tasks_per_child")
    assert (ended.lost, ended.cause) == (False, "was not needed any more")


def test_who_comes_later_takes_the_first_line_that_is_free() -> None:
    log: list[tuple[Any, ...]] = [
        (1.0, "WorkerStarted", worker, Process(worker), "greenlet") for worker in (1, 2, 3)
    ]
    log += [(2.0, "WorkerEnded", worker, Process(worker), True, "exit code 1") for worker in (3, 1)]
    log += [(3.0, "WorkerStarted", worker, Process(worker), "greenlet") for worker in (4, 5, 6)]
    assert [life.line for life in lives(log, 4.0)] == [0, 1, 2, 0, 2, 3]


def test_a_life_that_goes_on_is_told_of_until_now() -> None:
    (life,) = lives([(1.0, "WorkerStarted", 1, Process(71), "greenlet")], 8.0)
    assert (life.end, life.ended, life.ready) == (8.0, False, None)


def test_the_times_are_known_when_a_hub_was_blocked() -> None:
    (life,) = lives(
        [
            (1.0, "WorkerStarted", 1, Process(71), "greenlet"),
            (5.0, "WorkerBlocked", 1, Process(71), 2.0, "spin(1)", "stack", "why", "", 9),
            (6.0, "WorkerUnblocked", 1, Process(71), 3.0),
            (8.0, "WorkerBlocked", 1, Process(71), 1.0, "spin(2)", "stack", "why", "", 9),
        ],
        10.0,
    )
    assert life.blocked == [(3.0, 6.0, "spin(1)"), (7.0, 10.0, "spin(2)")]


def test_a_worker_of_which_the_beginning_is_forgotten_has_an_end() -> None:
    lost, failed = lives(
        [
            (5.0, "WorkerEnded", 8, Process(78), True, "exit code 3"),
            (6.0, "WorkerEnded", 9, Process(None), True, "no memory"),
            (6.0, "WorkerStartFailed", 9, Process(None), "no memory"),
        ],
        10.0,
    )
    assert (lost.start, lost.end, lost.cause) == (5.0, 5.0, "exit code 3")
    assert (failed.pid, failed.cause) == (None, "no memory")

"""Who is told what, and by whom."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from hybridexec.events import (
    CallsEvent,
    CallsFinished,
    CallsRetried,
    CallsSubmitted,
    Event,
    WorkerReady,
    names_of,
)
from hybridexec.parent.engine.listeners import Listeners, tell_all
from hybridexec.parent.pool.pool import Pool
from hybridexec.parent.work.batch import Batch
from hybridexec.parent.work.function import Function

from ..fakes import FUNCTION, OPTIONS, Sink


def make(here: bool = True) -> tuple[Pool, Listeners]:
    pool = Pool(1, {"greenlet": 1})
    return pool, Listeners(pool, threading.RLock(), lambda: here)


def submit(pool: Pool) -> None:
    pool.submit(Batch(FUNCTION, [()], Sink(), OPTIONS, 0))


def test_each_listener_is_told_what_it_wants() -> None:
    pool, listeners = make()
    got: dict[str, list[Event]] = {"all": [], "calls": [], "ready": []}
    listeners.listen(got["all"].extend, names_of())
    listeners.listen(got["calls"].extend, names_of(CallsEvent))
    listeners.listen(got["ready"].extend, names_of((WorkerReady, CallsFinished)))
    submit(pool)
    tell_all(listeners.take(1.0))
    submitted = [CallsSubmitted(1.0, 1, "...")]
    assert got == {"all": submitted, "calls": submitted, "ready": []}


def test_a_functions_own_listener_is_told_of_retries_only() -> None:
    pool, listeners = make()
    own: list[Event] = []
    function = Function(b"", True, "name")
    function.listener = own.extend
    batch = Batch(function, [()], Sink(), OPTIONS, 0)
    pool.submit(batch)
    assert not listeners.take(1.0)
    pool.actions.tally.retry((batch, 0), 7, "builtins.OSError", "no")
    tell_all(listeners.take(2.0))
    tell_all(listeners.take(3.0))
    assert own == [CallsRetried(2.0, 1, "name", 7, "builtins.OSError", "no")]


def test_nobody_is_called_for_nothing() -> None:
    pool, listeners = make()
    listeners.listen(lambda told: pytest.fail("for nothing"), names_of(WorkerReady))
    submit(pool)
    assert not listeners.take(1.0)
    assert not listeners.take(2.0)


def test_events_wait_for_the_thread_that_tells_them() -> None:
    pool, elsewhere = make(here=False)
    got: list[Event] = []
    elsewhere.listen(got.extend, names_of())
    submit(pool)
    assert not elsewhere.take(1.0)
    assert pool.actions.tally.take_events(2.0, names_of()) == [CallsSubmitted(2.0, 1, "...")]


def test_the_pool_tells_nothing_once_the_last_listener_has_gone() -> None:
    pool, listeners = make()
    ends = [listeners.listen(print, names_of()) for _ in range(2)]
    assert pool.actions.tally.emitter is not None
    ends[0]()
    ends[0]()  # again is no harm
    assert pool.actions.tally.emitter is not None
    ends[1]()
    assert pool.actions.tally.emitter is None


def test_events_are_not_loaded_for_an_executor_without_listeners() -> None:
    program = (
        "import sys, hybridexec.parent.engine.engine, hybridexec.parent.client.submission\n"
        "print(*[name for name in sys.modules if name.endswith(('.events', '.emitter'))])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True
    )
    assert not done.stdout.split()

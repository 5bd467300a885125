"""Calls that are made batches of: each future gets its own outcome, and is kept no longer."""

from __future__ import annotations

import gc
import weakref
from collections import deque
from itertools import chain
from typing import Any

import pytest

from hybridexec.options import CallOptions
from hybridexec.parent.engine import coalescing
from hybridexec.parent.engine.coalescing import batch_of, take_batch
from hybridexec.parent.pool import invariants
from hybridexec.parent.pool.actions import Start
from hybridexec.parent.pool.pool import Pool
from hybridexec.parent.work.batch import ENDED, Batch, Values
from hybridexec.parent.work.future import CallFuture
from hybridexec.process import Process
from hybridexec.wire import messages, payload

from ..fakes import FUNCTION, OPTIONS, FakeEngine, other_function
from ..simulated_worker import Page


def make(*arguments: Any, **changes: Any) -> list[CallFuture[Any]]:
    made = {"function": FUNCTION, "options": OPTIONS} | changes
    engine: Any = FakeEngine()
    return [
        CallFuture(engine, made["function"], (argument,), made["options"]) for argument in arguments
    ]


def warm_pool() -> Pool:
    """A pool with a worker that is ready."""
    pool = Pool(1, {"greenlet": 2})
    pool.submit(Batch(FUNCTION, [(0,)], FakeEngine(), OPTIONS, 0))
    pool.dispatch(1.0)
    (start,) = [action for action in pool.actions.take() if isinstance(action, Start)]
    pool.started(start.worker, Process(7), Page())
    pool.ready(start.worker, 1.0)
    return pool


def test_what_large_arguments_weigh_is_known_of_a_batch() -> None:
    def weight(*sizes: int) -> int:
        futures = make(*sizes)
        for future, size in zip(futures, sizes, strict=True):
            if size:
                future.item = payload.dumps(((bytes(size),), {}))
        return batch_of(futures).weight // 1000

    assert weight(0) == weight(0, 0) == 0
    assert weight(40_000) == weight(40_000, 80_000, 0) == 40


def test_calls_alike_that_come_one_after_another_share_a_batch() -> None:
    options = CallOptions(timeout=3)
    groups = [
        make(1, 2, 3),
        make(4, function=other_function()),
        make(5, 6, options=options),
    ]
    submitted: Any = deque(chain.from_iterable(groups))
    for group, items in zip(groups, [[(1,), (2,), (3,)], [(4,)], [(5,), (6,)]], strict=True):
        batch = take_batch(submitted)
        assert batch.items == items
        assert [(future.batch, future.place) for future in group] == [
            (batch, place) for place in range(len(group))
        ]
        assert batch.function is group[0].function
        assert batch.options is group[0].options
    assert not submitted


def test_a_batch_that_was_submitted_as_such_stays_one() -> None:
    ours = Batch(FUNCTION, [(1,)], FakeEngine(), OPTIONS, 0)
    submitted: Any = deque([*make(1), ours, *make(2)])
    assert [take_batch(submitted) is ours for _ in range(3)] == [False, True, False]


def test_no_batch_is_larger_than_what_is_done_at_once() -> None:
    submitted: Any = deque(make(*range(3000)))
    sizes = []
    while submitted:
        sizes.append(take_batch(submitted).size)
    assert sum(sizes) == 3000
    assert max(sizes) == 1024


def test_each_future_gets_its_own_outcome() -> None:
    futures = make(*range(6))
    sink = batch_of(futures).sink
    sink.deliver(Values(1, ["b", "c"]))
    sink.deliver(
        [(5, messages.VALUE, "f", None, 7, None), (0, messages.TIMED_OUT, 3, None, 7, None)]
    )
    assert [future.done() for future in futures] == [True, True, True, False, False, True]
    assert [futures[n].result() for n in (1, 2, 5)] == ["b", "c", "f"]
    assert isinstance(futures[0].exception(), TimeoutError)


def test_who_waits_for_one_of_many_is_told() -> None:
    futures = make(*range(3))
    sink = batch_of(futures).sink
    told: list[Any] = []
    for future in futures[:2]:
        future.add_done_callback(lambda future: told.append(future.result()))
    sink.deliver(Values(0, ["a", "b", "c"]))
    assert told == ["a", "b"]
    assert futures[2].result() == "c"


def test_a_callback_that_ends_the_program_keeps_no_other_from_its_outcome(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def leave(_: object) -> None:
        raise SystemExit

    futures = make(*range(3))
    sink = batch_of(futures).sink
    futures[0].add_done_callback(leave)
    futures[1].add_done_callback(leave)
    sink.deliver(Values(0, ["a", "b", "c"]))
    assert [future.result() for future in futures] == ["a", "b", "c"]
    assert len(caplog.records) == 2


def test_an_ended_call_keeps_nothing_alive_though_its_neighbours_run_on() -> None:
    class Value:
        pass

    arguments = [Value() for _ in range(4)]
    futures = make(*arguments)
    batch = batch_of(futures)
    value = Value()
    gone = [weakref.ref(value), *map(weakref.ref, [*arguments[:2], *futures[:2]])]
    batch.sink.deliver(Values(0, [value]))
    batch.sink.deliver([(1, messages.VALUE, None, None, 7, None)])
    del value, arguments[:2], futures[:2]
    gc.disable()
    try:
        assert [reference() for reference in gone] == [None] * 5
    finally:
        gc.enable()
    assert not futures[0].done()


def test_one_call_of_many_can_be_cancelled() -> None:
    pool = warm_pool()
    futures = make(*range(4))
    batch = batch_of(futures)
    pool.submit(batch)
    assert futures[2].cancel()
    coalescing.cancel(pool, futures[2])
    invariants.check(pool)
    assert batch.states[2] == ENDED
    assert batch.items[2] is None
    assert pool.ledger.unfinished == 4  # with the one that the worker was started for
    coalescing.cancel(pool, futures[2])
    assert pool.ledger.unfinished == 4


def test_a_call_that_has_ended_is_not_cancelled_though_nobody_was_told_yet() -> None:
    pool = warm_pool()
    futures = make(*range(2))
    batch = batch_of(futures)
    pool.submit(batch)
    pool.dispatch(1.0)
    (number,) = pool.workers
    pool.workers[number].page.taken = 3
    pool.results(number, [], [(batch.first, ["a", "b"], None)], 1.0)
    assert futures[1].cancel()
    coalescing.cancel(pool, futures[1])
    for sink, ended in pool.ledger.take_outcomes():
        sink.deliver(ended)
    assert futures[0].result() == "a"
    assert futures[1].cancelled()


def test_a_finalizer_of_an_argument_may_touch_futures() -> None:
    class Argument:
        def __del__(self) -> None:
            other.cancel()

    (other,) = make("other")
    futures = make(1, 2)
    futures[0].arguments = Argument()
    batch_of(futures).sink.deliver(Values(0, ["a", "b"]))
    assert other.cancelled()
    assert futures[1].result() == "b"


def test_a_future_that_was_cancelled_meanwhile_keeps_no_other_from_its_outcome() -> None:
    futures = make(*range(3))
    sink = batch_of(futures).sink
    assert isinstance(sink, coalescing.Futures)
    sink.drop(1)
    sink.deliver([(n, messages.CANCELLED, None, None, 7, None) for n in range(3)])
    assert [future.cancelled() for future in futures] == [True, False, True]

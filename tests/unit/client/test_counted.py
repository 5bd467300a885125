"""Streams and futures that count, over an engine that runs nothing by itself."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from itertools import islice
from typing import Any

import pytest

from hybridexec.errors import WorkerLost
from hybridexec.parent.client.counted import CountedFutures, CountedStream, Source
from hybridexec.parent.client.inputs import Iterated
from hybridexec.parent.work.batch import LOST, PACKED, Ended
from hybridexec.parent.work.future import CallFuture
from hybridexec.wire import messages

from ..fakes import FUNCTION, OPTIONS, FakeEngine
from .stream_outcomes import outcomes_of, values


class Watcher:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.source: Source | None = None

    def begin(self, source: Source) -> None:
        self.told.append("begin")
        self.source = source

    def end(self) -> None:
        self.told.append("end")

    def tie(self, results: object) -> None:
        self.told.append("tie")


def make(
    items: Iterable[Any], *, bound: int | None = None, ordered: bool = False, refused: bool = False
) -> tuple[FakeEngine, CountedStream, Watcher]:
    engine: Any = FakeEngine()
    watcher = Watcher()
    function = None if refused else FUNCTION
    error = TypeError("no") if refused else None
    stream = CountedStream(
        watcher, engine, function, error, Iterated(iter(items)), True, OPTIONS, bound, ordered
    )
    return engine, stream, watcher


def end(engine: FakeEngine, status: int, value: object = None) -> None:
    """End the first open call."""
    batch, place = engine.open.pop(0)
    outcome: Ended = (batch.offset + place, status, value, None, 7, None)
    batch.remaining -= 1
    batch.sink.deliver([outcome])


# -- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("ordered", [True, False])
def test_ends_are_counted_before_anybody_fetches_them(ordered: bool) -> None:
    engine, stream, _ = make(range(10), ordered=ordered)
    stream.fill()
    engine.finish_row(4)
    engine.finish(5)
    counts = stream.counts()
    assert (counts.done, counts.failed, counts.total, counts.over) == (5, 0, 10, False)
    engine.finish_all()
    assert stream.counts().over
    assert sorted(values(outcomes_of(stream))) == list(range(10))
    assert stream.counts().done == 10


@pytest.mark.parametrize(
    ("status", "failed"),
    [
        (messages.VALUE, 0),
        (messages.PICKLED, 0),
        (PACKED, 0),
        (messages.ERROR, 1),
        (messages.TIMED_OUT, 1),
        (LOST, 1),
    ],
)
def test_what_counts_as_failed(status: int, failed: int) -> None:
    engine, stream, _ = make(range(3))
    stream.fill()
    end(engine, status, WorkerLost("gone"))
    counts = stream.counts()
    assert (counts.done, counts.failed) == (1, failed)


def test_cancelled_calls_are_neither_done_nor_failed() -> None:
    engine, stream, _ = make(range(2))
    stream.fill()
    end(engine, messages.CANCELLED)
    engine.finish()
    counts = stream.counts()
    assert (counts.done, counts.failed, counts.cancelled, counts.over) == (1, 0, 1, True)


def test_calls_that_cannot_be_sent_have_failed() -> None:
    _, stream, _ = make(range(3), refused=True)
    stream.fill()
    counts = stream.counts()
    assert (counts.done, counts.failed, counts.over) == (3, 3, True)


def test_the_total_is_known_when_all_items_were_read() -> None:
    engine, stream, _ = make(iter(range(5)), bound=4)
    outcomes = outcomes_of(stream)
    stream.fill()
    assert stream.counts()[:2] == (None, 4)
    engine.finish_all()
    assert len(list(islice(outcomes, 4))) == 4
    stream.fill()
    engine.finish_all()
    assert len(list(outcomes)) == 1
    assert stream.counts()[:2] == (5, 5)


def test_while_items_are_read_the_total_is_not_known() -> None:
    seen: list[Any] = []

    def items() -> Iterator[int]:
        for number in range(3):
            seen.append(stream.counts())
            yield number
        seen.append(stream.counts())

    _, stream, _ = make(items())
    stream.fill()
    assert [counts.over for counts in seen] == [False] * 4
    assert [counts.total for counts in seen] == [None] * 4
    assert stream.counts().total == 3


def test_calls_that_run_are_counted() -> None:
    engine, stream, _ = make(range(10))
    engine.submit(CallFuture(engine, FUNCTION, (0,), OPTIONS))
    stream.fill()
    for number in (0, 2, 4):
        engine.run(number)
    assert stream.counts().running == 2


@pytest.mark.parametrize("bound", [None, 4])
def test_further_runs_are_counted_and_stay_so(bound: int | None) -> None:
    engine, stream, _ = make(range(200), bound=bound)
    outcomes = outcomes_of(stream)
    stream.fill()
    runs = 0
    while engine.open:
        for batch in {id(batch): batch for batch, _ in engine.open}.values():
            batch.retried += 1
            runs += 1
        assert stream.counts().retried == runs
        engine.finish_all()
        next(outcomes)
        assert stream.counts().retried == runs
        list(zip(range(len(stream._arrived)), outcomes, strict=False))
    stream.close()
    assert stream.counts().retried == runs


def test_what_comes_after_the_end_is_not_counted() -> None:
    engine, stream, watcher = make(range(10))
    stream.fill()
    engine.finish()
    stream.close()
    assert watcher.told == ["begin", "end"]
    engine.finish_all()
    counts = stream.counts()
    assert (counts.done, counts.over) == (1, False)


def test_the_watcher_begins_once_after_the_first_call_was_made() -> None:
    told: list[list[str]] = []

    def items() -> Iterator[int]:
        for number in range(3):
            told.append(list(watcher.told))
            yield number

    engine, stream, watcher = make(items())
    assert not watcher.told
    stream.fill()
    assert told == [[], ["begin"], ["begin"]]
    assert watcher.told == ["begin"]
    assert watcher.source is stream
    assert engine.open


def test_the_watcher_begins_if_there_is_no_item() -> None:
    _, stream, watcher = make([])
    stream.fill()
    assert watcher.told == ["begin"]


# -- futures --------------------------------------------------------------------------------------


def plain_futures(count: int) -> list[Future[int]]:
    return [Future() for _ in range(count)]


def counting(futures: Iterable[Future[Any]], watcher: Watcher | None = None) -> CountedFutures:
    counted = CountedFutures(Watcher() if watcher is None else watcher)
    for future in futures:
        counted.add(future)
    counted.complete()
    return counted


def test_futures_are_counted_as_they_end() -> None:
    ok, bad, off, open_, running = futures = plain_futures(5)
    counted = counting(futures)
    assert counted.counts() == (5, 5, 0, 0, 0, 0, 0)
    ok.set_result(1)
    bad.set_exception(ValueError())
    off.cancel()
    running.set_running_or_notify_cancel()
    assert counted.counts() == (5, 5, 2, 1, 1, 0, 1)
    open_.set_result(1)
    running.set_result(1)
    assert counted.counts() == (5, 5, 4, 1, 1, 0, 0)
    assert counted.counts().over


def test_futures_that_have_ended_before_are_counted() -> None:
    ended, open_ = plain_futures(2)
    ended.set_result(1)
    assert counting([ended, open_]).counts().done == 1


def test_our_own_futures_are_counted() -> None:
    engine: Any = FakeEngine()
    other: CallFuture[int] = CallFuture(engine, FUNCTION, (0,), OPTIONS)
    futures: list[CallFuture[int]] = [CallFuture(engine, FUNCTION, (n,), OPTIONS) for n in range(4)]
    for future in (other, *futures):
        engine.submit(future)
    counted = counting(futures)
    for number in (0, 1, 2):
        engine.run(number)
    batch, place = engine.open[1]
    batch.history_of(place).texts += ["OSError: once", "OSError: twice"]
    assert counted.counts() == (4, 4, 0, 0, 0, 0, 2)
    engine.finish(1)
    assert counted.counts() == (4, 4, 1, 0, 0, 2, 1)
    engine.finish_all()
    assert counted.counts() == (4, 4, 4, 0, 0, 2, 0)


def test_those_that_were_counted_are_kept_no_longer() -> None:
    (future,) = futures = plain_futures(1)
    counted = counting(futures)
    seen = weakref.ref(future)
    future.set_result(1)
    counted.counts()
    del future, futures
    gc.collect()
    assert seen() is None


def test_what_a_waiter_sees_before_callbacks_run_is_counted_at_the_end() -> None:
    (future,) = futures = plain_futures(1)
    watcher = Watcher()
    counted = counting(futures, watcher)
    future._done_callbacks.clear()  # as if they had not been called yet
    results = counted.watched(lambda: iter([future.set_result(1)]))
    assert list(results) == [None]
    assert counted.counts().over
    counted._note(future)  # now they are
    assert counted.counts().done == 1
    assert watcher.told == ["begin", "tie", "end"]


def test_a_map_that_cannot_begin_ends_the_watching() -> None:
    def run() -> Iterator[int]:
        raise RuntimeError("shut down")

    watcher = Watcher()
    with pytest.raises(RuntimeError):
        CountedFutures(watcher).watched(run)
    assert watcher.told == ["end"]


def test_the_total_of_futures_is_known_when_all_were_made() -> None:
    watcher = Watcher()
    counted = CountedFutures(watcher)
    submit = counted.each(lambda item: plain_futures(1)[0])
    items = counted.until_read(iter(range(2)))
    for _ in range(2):
        submit(next(items))
        assert counted.counts().total is None
        assert watcher.told == ["begin"]
    assert next(items, "end") == "end"
    assert counted.counts().total == 2

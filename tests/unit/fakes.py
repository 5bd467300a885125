"""What stands in for the rest in tests of one module: an engine and a sink that keep what they are
given, functions, and a batch whose end can be seen."""

from __future__ import annotations

import gc
import logging
import weakref
from collections.abc import Iterable, Sequence
from typing import Any, Protocol

import pytest

from hybridexec.options import CallOptions
from hybridexec.parent.engine.coalescing import batch_of
from hybridexec.parent.work.batch import PACKED, Batch, Ended, Values
from hybridexec.parent.work.callbacks import Callbacks
from hybridexec.parent.work.function import Function
from hybridexec.parent.work.future import CallFuture
from hybridexec.process import Process
from hybridexec.wire import fragments, messages, payload


def one_by_one(ended: Sequence[Ended] | Values) -> Sequence[Ended]:
    """Outcomes, those in a row too."""
    if isinstance(ended, Values):
        return [
            (place, messages.VALUE, fragments.load(*value), *rest)
            if status == PACKED
            else (place, status, value, *rest)
            for place, status, value, *rest in ended.singly()
        ]
    return ended


class Sink:
    """Keeps outcomes; refuses a second one for the same call."""

    def __init__(self) -> None:
        self.calls: list[int] = []  # by index
        self.got: dict[int, Ended] = {}

    @property
    def size(self) -> int:
        return len(self.calls)

    def deliver(self, ended: Sequence[Ended] | Values) -> None:
        for outcome in one_by_one(ended):
            assert outcome[0] not in self.got, "an outcome is delivered once"
            self.got[outcome[0]] = outcome

    def statuses(self) -> list[int]:
        """How the calls ended that have, by index."""
        return [self.got[index][1] for index in sorted(self.got)]


def _first_argument(batch: Batch, item: Any) -> Any:
    if batch.prelude is not None and type(item) is bytes:
        value = fragments.load(batch.prelude, item)
        return value if batch.bare else value[0]
    if type(item) is tuple:
        return item[0]
    return item if batch.bare and batch.prelude is None else payload.loads(item)[0][0]


class FakeEngine:
    """Runs nothing until it is told to."""

    def __init__(self) -> None:
        self.blocking_waits = True
        self.inert = False
        self.callbacks = Callbacks(lambda: True)
        self.batches: list[Batch] = []
        self.cancelled: list[Any] = []
        #: What workers were told of items that were fetched.
        self.fetched: list[int] = []
        self.running: set[int] = set()
        #: The calls submitted and not ended, in order: batch and place.
        self.open: list[tuple[Batch, int]] = []

    def submit(self, calls: Batch | CallFuture[Any]) -> None:
        batch = calls if isinstance(calls, Batch) else batch_of([calls])
        self.batches.append(batch)
        self.open += [(batch, place) for place in range(len(batch.items))]

    def cancel(self, batch: Batch, places: Iterable[int] | None, running: bool) -> None:
        self.cancelled.append((batch, places, running))

    def check_open(self) -> None:
        pass

    def tell_fetched(self, batch: Batch, count: int) -> None:
        self.fetched.append(count)

    def cancel_call(self, call: CallFuture[Any]) -> None:
        self.cancelled.append(call)

    def lead(self, call: CallFuture[Any], timeout: float | None) -> None:
        pass

    def follow(self, call: CallFuture[Any]) -> None:
        pass

    def is_running(self, call: int) -> bool:
        return call in self.running

    def running_calls(self) -> list[tuple[Batch, int]]:
        return [(batch, place) for batch, place in self.open if batch.first + place in self.running]

    def run(self, number: int) -> None:
        """The open call of this number is being run."""
        batch, place = self.open[number]
        self.running.add(batch.first + place)

    def finish(self, number: int = 0) -> None:
        """End the open call of this number; its value is its first argument."""
        batch, place = self.open.pop(number)
        item = _first_argument(batch, batch.items[place])
        batch.remaining -= 1
        batch.sink.deliver([(batch.offset + place, messages.VALUE, item, 0.5, Process(7), None)])

    def finish_row(self, size: int) -> None:
        """End the first open call and those of its batch that follow it, up to ``size`` in all, as
        a row."""
        batch, place = self.open[0]
        row = [(batch, number) for number in range(place, min(place + max(1, size), batch.size))]
        size = next((n for n, call in enumerate(row) if self.open[n : n + 1] != [call]), len(row))
        del self.open[:size]
        batch.remaining -= size
        batch.sink.deliver(Values(batch.offset + place, batch.items[place : place + size]))

    def finish_all(self) -> None:
        while self.open:
            self.finish()


FUNCTION = Function(b"function", lasting=True)
OPTIONS = CallOptions()


def other_function() -> Function:
    return Function(b"other", lasting=True)


class Watched(Batch):
    """A batch whose end can be seen."""

    __slots__ = ("__weakref__",)


def watched() -> Watched:
    return Watched(Function(b"function", lasting=True), [(1,), (2,)], Sink(), CallOptions(), 0)


class Keeper(Protocol):
    """What keeps calls that no worker has."""

    def forget(self, count: int) -> None:
        """So many of them do not wait there any more."""


def cancel(keeper: Keeper, batch: Batch, *places: int) -> None:
    """Cancel calls that ``keeper`` has, as the ledger does."""
    for place in places:
        batch.end(place, place + 1)
    keeper.forget(len(places))


def is_gone(seen: weakref.ref[Batch]) -> bool:
    gc.collect()
    return seen() is None


class Root(logging.RootLogger):
    """The root of loggers for one test."""

    def addHandler(self, handler: logging.Handler) -> None:
        if not type(handler).__module__.startswith("_pytest"):
            super().addHandler(handler)


def own_logging(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have loggers for one test alone, as in a process where nobody has set up logging."""
    root = Root(logging.WARNING)
    monkeypatch.setattr(logging, "root", root)
    monkeypatch.setattr(logging.Logger, "root", root)
    monkeypatch.setattr(logging.Logger, "manager", logging.Manager(root))

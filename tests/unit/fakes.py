"""An engine that keeps what it is given, for tests of what stands before the engine."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hybridexec.options import CallOptions
from hybridexec.parent.batch import Batch
from hybridexec.parent.functions import Function
from hybridexec.wire import frames, payload


class FakeEngine:
    """Runs nothing until it is told to."""

    def __init__(self) -> None:
        self.blocking_waits = True
        self.inert = False
        self.batches: list[Batch] = []
        self.cancelled: list[tuple[Batch, Any, bool]] = []
        self.running: set[int] = set()
        #: The calls submitted and not ended, in order: batch and place.
        self.open: list[tuple[Batch, int]] = []

    def submit(self, batch: Batch) -> None:
        self.batches.append(batch)
        self.open += [(batch, place) for place in range(len(batch.items))]

    def cancel(self, batch: Batch, places: Iterable[int] | None, running: bool) -> None:
        self.cancelled.append((batch, places, running))

    def lead(self, call: int, timeout: float | None) -> None:
        pass

    def is_running(self, call: int) -> bool:
        return call in self.running

    def finish(self, number: int = 0) -> None:
        """End the open call of this number; its value is its first argument."""
        batch, place = self.open.pop(number)
        item = batch.items[place]
        arguments = item if type(item) is tuple else payload.loads(item)[0]
        batch.remaining -= 1
        batch.sink.deliver([(batch.offset + place, frames.VALUE, arguments[0], 0.5, 7, None)])

    def finish_all(self) -> None:
        while self.open:
            self.finish()


FUNCTION = Function(b"function", lasting=True)
OPTIONS = CallOptions()

"""What others want of the I/O thread: in which order it sees that."""

from __future__ import annotations

import os
from typing import Any

import pytest

from hybridexec.parent.batch import Batch
from hybridexec.parent.queue import Queue

from .fakes import FUNCTION, OPTIONS, FakeEngine


class FakePool:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def submit(self, batch: Batch) -> None:
        self.seen.append(batch)


def make_batch() -> Batch:
    return Batch(FUNCTION, [(0,)], FakeEngine(), OPTIONS, 0)


def test_calls_come_before_events() -> None:
    queue, pool, batch = Queue(), FakePool(), make_batch()
    queue.post(pool.seen.append, "event")
    queue.submit(batch)
    queue.handle(pool)
    assert pool.seen == [batch, "event"]


def test_no_event_overtakes_the_call_it_is_about() -> None:
    queue, pool, batch = Queue(), FakePool(), make_batch()

    def meanwhile() -> None:
        # As another thread may, while the I/O thread handles an event.
        queue.submit(batch)
        queue.post(pool.seen.append, "its cancellation")

    queue.post(meanwhile)
    while queue.submitted or queue.events:
        queue.handle(pool)
    assert pool.seen == [batch, "its cancellation"]


def test_an_inert_queue_takes_no_events() -> None:
    queue = Queue()
    queue.submit(make_batch())
    queue.post(print)
    queue.become_inert()
    queue.post(print)
    assert not queue.submitted
    assert not queue.events


def test_whoever_is_interrupted_while_waking_the_thread_leaves_that_to_the_next(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    queue = Queue()
    queue.asleep = True
    monkeypatch.setattr(os, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        queue.submit(make_batch())
    assert queue.asleep

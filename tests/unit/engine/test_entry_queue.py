"""What others want of the I/O thread: in which order it sees that."""

from __future__ import annotations

import os
import threading
from typing import Any

import pytest

from hybridexec import native
from hybridexec.parent.engine import entry_queue as queue_module
from hybridexec.parent.engine.entry_queue import EntryQueue
from hybridexec.parent.work.batch import Batch
from hybridexec.parent.work.future import CallFuture

from ..fakes import FUNCTION, OPTIONS, FakeEngine


class FakePool:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.seen: list[Any] = []

    def submit(self, batch: Batch) -> None:
        self.seen.append(batch)


def make_batch() -> Batch:
    return Batch(FUNCTION, [(0,)], FakeEngine(), OPTIONS, 0)


def test_calls_come_before_events() -> None:
    queue, pool, batch = EntryQueue(), FakePool(), make_batch()
    queue.post(pool.seen.append, "event")
    queue.submit(batch)
    queue.handle(pool)
    assert pool.seen == [batch, "event"]


def test_no_event_overtakes_the_call_it_is_about() -> None:
    queue, pool, batch = EntryQueue(), FakePool(), make_batch()

    def meanwhile() -> None:
        # As another thread may, while the I/O thread handles an event.
        queue.submit(batch)
        queue.post(pool.seen.append, "its cancellation")

    queue.post(meanwhile)
    while queue.submitted or queue.events:
        queue.handle(pool)
    assert pool.seen == [batch, "its cancellation"]


def test_after_the_end_calls_are_missed() -> None:
    queue, pool, batch, late = EntryQueue(), FakePool(), make_batch(), make_batch()
    queue.submit(batch)
    assert not queue.ends()
    assert not queue.has_missed(batch)
    queue.handle(pool)
    assert queue.ends()
    assert not queue.has_missed(batch)
    queue.submit(late)
    assert queue.has_missed(late)


def make_call() -> CallFuture[Any]:
    engine: Any = FakeEngine()
    return CallFuture(engine, FUNCTION, (0,), OPTIONS)


@pytest.mark.parametrize("make", [make_batch, make_call])
def test_submitters_that_keep_pace_neither_hold_the_turn_nor_keep_events_waiting(
    make: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue_module, "_MAX_CALLS", 10)
    queue, events = EntryQueue(), []

    class BusyPool(FakePool):
        def submit(self, batch: Batch) -> None:
            super().submit(batch)
            for _ in range(batch.size):
                queue.submit(make())

    pool: Any = BusyPool()
    for _ in range(25):
        queue.submit(make())
    queue.post(events.append, "a worker's process exists")
    turns = 0
    while not events:
        turns += 1
        queue.handle(pool)
        assert sum(batch.size for batch in pool.seen) < 60 * turns
    assert sum(batch.size for batch in pool.seen) >= 25, "those that came before it come first"
    assert turns <= 4


def test_events_that_keep_coming_do_not_hold_the_turn() -> None:
    queue, pool = EntryQueue(), FakePool()

    def again() -> None:
        pool.seen.append("event")
        queue.post(again)

    queue.post(again)
    queue.handle(pool)
    assert pool.seen == ["event"]


def test_a_wake_up_is_never_written_to_what_has_taken_the_pipes_place(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    queue = EntryQueue()
    queue.open(native.Poller())
    queue.asleep = True
    old = queue.fd, queue._wake_fd
    reused: list[int] = []
    write = os.write

    def close_and_open() -> None:
        queue.close()
        while not set(old) & set(reused):
            reused.extend(os.pipe())

    def slow_write(fd: int, data: bytes) -> int:
        monkeypatch.setattr(os, "write", write)
        thread.start()
        thread.join(0.2)  # as long as it takes: it has to wait until this is written
        assert thread.is_alive()
        return write(fd, data)

    thread = threading.Thread(target=close_and_open)
    monkeypatch.setattr(os, "write", slow_write)
    queue.post(print)
    thread.join(30)
    queue.asleep = True
    queue.post(print)
    for fd in reused[::2]:
        os.set_blocking(fd, False)
        with pytest.raises(BlockingIOError):
            os.read(fd, 1)
    for fd in reused:
        os.close(fd)


def test_an_inert_queue_takes_no_events() -> None:
    queue = EntryQueue()
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

    queue = EntryQueue()
    queue.asleep = True
    monkeypatch.setattr(os, "write", interrupt)
    with pytest.raises(KeyboardInterrupt):
        queue.submit(make_batch())
    assert queue.asleep

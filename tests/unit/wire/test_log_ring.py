"""The ring of log records: order, room, its end, and what a dead worker leaves."""

from __future__ import annotations

import os

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridexec.wire.log_ring import LogRing, records
from hybridexec.wire.page import StatusPage, create_fd

ROOM = 256


def sides(room: int = ROOM) -> tuple[LogRing, LogRing]:
    memory = memoryview(bytearray(64 + room))
    return LogRing(memory), LogRing(memory)


def test_records_arrive_in_order_once() -> None:
    worker, parent = sides()
    worker.put(b"one")
    worker.put(b"")
    assert list(records(parent.take(worker.written))) == [b"one", b""]
    assert parent.take(worker.written) == b""
    worker.put(b"three")
    assert list(records(parent.take())) == [b"three"]


def test_only_what_was_told_is_taken() -> None:
    worker, parent = sides()
    worker.put(b"one")
    told = worker.written
    worker.put(b"two")
    assert list(records(parent.take(told))) == [b"one"]
    assert list(records(parent.take(told))) == []
    assert list(records(parent.take())) == [b"two"], "what a dead worker has left"


def test_what_does_not_fit_is_dropped_and_counted() -> None:
    worker, parent = sides()
    for _ in range(5):
        worker.put(b"x" * 56)
    assert parent.dropped == 1
    assert len(list(records(parent.take()))) == 4
    worker.put(b"y" * 1000)
    assert parent.dropped == 2
    worker.put(b"z" * 200)
    assert list(records(parent.take())) == [b"z" * 200], "across the end of the memory"


def test_who_seldom_logs_stays_at_the_start_of_the_memory() -> None:
    worker, parent = sides(1 << 20)
    told = 0
    for count in range(2000):
        worker.put(bytes([count % 251]) * 100)
        assert list(records(parent.take(told))) == []
        told = worker.written
        assert list(records(parent.take(told))) == [bytes([count % 251]) * 100]
    memory: memoryview = worker._data
    assert not any(memory[80 * 1024 :])


@settings(max_examples=200)
@given(
    st.lists(st.one_of(st.binary(max_size=120), st.just("tell"), st.just("take")), max_size=80),
)
def test_nothing_is_lost_or_torn(steps: list[bytes | str]) -> None:
    worker, parent = sides()
    put, taken, told = [], [], 0
    for step in steps:
        if step == "tell":
            told = worker.written
        elif step == "take":
            taken += records(parent.take(told))
        else:
            assert isinstance(step, bytes)
            dropped = worker.dropped
            worker.put(step)
            if worker.dropped == dropped:
                put.append(step)
    taken += records(parent.take())
    assert taken == put


def test_the_ring_is_between_the_page_and_the_fault_log() -> None:
    fd = create_fd(3, with_ring=True)
    worker = StatusPage(fd, 3, with_ring=True)
    parent = StatusPage(fd, 3, with_ring=True)
    try:
        assert worker.ring is not None
        assert parent.ring is not None
        worker.ring.put(b"a record")
        os.write(fd, b"a fault")
        assert parent.log == "a fault"
        parent.clear_log()
        worker.rewind_log()
        os.write(fd, b"another")
        worker.close()
        assert parent.log == "another"
        assert list(records(parent.ring.take())) == [b"a record"]
        assert parent.running() == {}
    finally:
        parent.close()
        os.close(fd)
    with pytest.raises(ValueError, match="released"):
        parent.ring.take()

"""The status page: one side writes, the other reads, and both may go at any time."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from hybridexec.wire.page import (
    CURRENT,
    HEARTBEAT,
    TAKEN,
    StatusPage,
    clear_log,
    create_fd,
    read_log,
    slot_index,
)

SLOTS = 5


@pytest.fixture
def sides() -> Iterator[tuple[StatusPage, StatusPage]]:
    """The worker's view and the parent's of one page."""
    fd = create_fd(SLOTS)
    worker, parent = StatusPage(fd, SLOTS), StatusPage(fd, SLOTS)
    os.close(fd)
    yield worker, parent
    for page in (worker, parent):
        page.close()


Sides = tuple[StatusPage, StatusPage]


def test_a_new_page_says_that_nothing_happened(sides: Sides) -> None:
    _, parent = sides
    assert parent.taken == 0
    assert parent.heartbeat == 0
    assert parent.current == 0
    assert parent.running() == {}


def test_the_parent_sees_what_the_worker_writes(sides: Sides) -> None:
    worker, parent = sides
    worker.words[TAKEN] += 1
    worker.times[HEARTBEAT] = 123.25
    worker.words[CURRENT] = -(2**62)
    assert parent.taken == 1
    assert parent.heartbeat == 123.25
    assert parent.current == -(2**62)


def test_running_calls_are_read_from_the_slots(sides: Sides) -> None:
    worker, parent = sides
    large_id = (123456 << 32) + 7
    for slot, (call, since) in {0: (large_id, 10.5), SLOTS - 1: (2, 20.25)}.items():
        worker.words[slot_index(slot)] = call
        worker.times[slot_index(slot) + 1] = since
    assert parent.running() == {large_id: 10.5, 2: 20.25}
    worker.words[slot_index(0)] = 0
    assert parent.running() == {2: 20.25}


def test_slots_and_header_do_not_overlap(sides: Sides) -> None:
    worker, _ = sides
    used = {HEARTBEAT, TAKEN, CURRENT}
    for slot in range(SLOTS):
        pair = {slot_index(slot), slot_index(slot) + 1}
        assert not pair & used
        used |= pair
    assert max(used) == len(worker.words) - 1


def test_the_page_outlives_the_worker(sides: Sides) -> None:
    worker, parent = sides
    worker.words[TAKEN] = 3
    worker.close()
    assert parent.taken == 3


def test_a_closed_page_raises_value_error_and_nothing_worse() -> None:
    fd = create_fd(1)
    page = StatusPage(fd, 1)
    os.close(fd)
    page.close()
    with pytest.raises(ValueError, match="released"):
        _ = page.taken
    with pytest.raises(ValueError, match="released"):
        page.running()


def test_a_page_is_not_inherited_by_programs_that_are_started() -> None:
    fd = create_fd(1)
    try:
        assert not os.get_inheritable(fd)
    finally:
        os.close(fd)


def test_without_memfd_a_page_is_an_anonymous_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr(os, "memfd_create", raising=False)
    fd = create_fd(3)
    try:
        assert os.fstat(fd).st_nlink == 0, "it has no name in any directory"
        assert not os.get_inheritable(fd)
        page = StatusPage(fd, 3)
        assert page.running() == {}
        page.close()
    finally:
        os.close(fd)


def test_a_page_has_room_for_a_million_slots() -> None:
    fd = create_fd(1_000_000)
    try:
        page = StatusPage(fd, 1_000_000)
        page.words[slot_index(999_999)] = 5
        assert page.running() == {5: 0}
        page.close()
    finally:
        os.close(fd)


def test_the_fault_log_stands_behind_the_page() -> None:
    fd = create_fd(SLOTS)
    theirs = os.dup(fd)
    page = StatusPage(fd, SLOTS)
    try:
        page.words[slot_index(SLOTS - 1) + 1] = -1
        os.write(theirs, b"first, ")
        os.write(theirs, b"second")
        assert read_log(fd, SLOTS) == "first, second"
        assert page.words[slot_index(SLOTS - 1) + 1] == -1
        clear_log(fd, SLOTS)
        assert read_log(fd, SLOTS) == ""
        os.write(theirs, b"third")
        assert read_log(fd, SLOTS) == "third", "whoever has the descriptor writes at the start"
        assert page.words[slot_index(SLOTS - 1) + 1] == -1
    finally:
        page.close()
        os.close(theirs)
        os.close(fd)

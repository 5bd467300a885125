"""The status page: one side writes, the other reads, and both may go at any time."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable, Iterator

import pytest

from hybridexec.parent.launch.memory import map_memory as without_descriptor
from hybridexec.wire.histogram import WORDS, add
from hybridexec.wire.page import (
    BUSY,
    CPU,
    CURRENT,
    HEARTBEAT,
    HELD,
    MAX_LOG,
    RESIDENT,
    TAKEN,
    StatusPage,
    create_fd,
    map_memory,
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


def test_calls_that_run_one_after_another_are_noted_by_how_many_were_taken(sides: Sides) -> None:
    worker, parent = sides
    first = 3 << 32
    worker.words[TAKEN] = 10
    worker.words[slot_index(1)] = 11 - first  # what is taken next is the first
    worker.words[slot_index(4)] = 1 << 32
    worker.times[slot_index(1) + 1] = 5.0
    for place in range(3):
        worker.words[TAKEN] += 1
        assert parent.running() == {first + place: 5.0, 1 << 32: 0.0}


def test_the_parent_sees_what_the_worker_writes(sides: Sides) -> None:
    worker, parent = sides
    worker.words[TAKEN] += 1
    worker.times[HEARTBEAT] = 123.25
    worker.words[CURRENT] = -(2**62)
    assert parent.taken == 1
    assert parent.heartbeat == 123.25
    assert parent.current == -(2**62)


def test_those_that_began_first_are_found_among_all(sides: Sides) -> None:
    worker, parent = sides
    assert parent.earliest(3) == []
    for slot, (call, since) in enumerate([(7, 5.0), (8, 2.0), (9, 2.0), (6, 9.0), (5, 2.0)]):
        worker.times[slot_index(slot) + 1] = since
        worker.words[slot_index(slot)] = call
    assert sorted(parent.earliest(10)) == [(2.0, 5), (2.0, 8), (2.0, 9), (5.0, 7), (9.0, 6)]
    assert sorted(parent.earliest(4)) == [(2.0, 5), (2.0, 8), (2.0, 9), (5.0, 7)]
    assert sorted(parent.earliest(2)) == [(2.0, 8), (2.0, 9)]
    worker.words[slot_index(1)] = 0
    assert parent.earliest(1) == [(2.0, 9)]


def test_running_calls_are_read_from_the_slots(sides: Sides) -> None:
    worker, parent = sides
    large_id = (123456 << 32) + 7
    for slot, (call, since) in {0: (large_id, 10.5), SLOTS - 1: (2, 20.25)}.items():
        worker.words[slot_index(slot)] = call
        worker.times[slot_index(slot) + 1] = since
    assert parent.running() == {large_id: 10.5, 2: 20.25}
    assert sorted(parent.starts()) == [10.5, 20.25]
    worker.words[slot_index(0)] = 0
    assert parent.running() == {2: 20.25}


def test_the_histograms_do_not_overlap_with_anything(sides: Sides) -> None:
    worker, parent = sides
    add(worker.words, worker.times, worker.runs_at, 1e-9, 1)
    add(worker.words, worker.times, worker.runs_at, 1e9, 2)
    add(worker.words, worker.times, worker.waits_at, 1e-9, 3)
    add(worker.words, worker.times, worker.waits_at, 1e9, 4)
    assert (parent.run_seconds.count, parent.wait_seconds.count) == (3, 7)
    assert parent.running() == {}
    assert parent.log == ""


def test_slots_and_header_do_not_overlap(sides: Sides) -> None:
    worker, _ = sides
    used = {HEARTBEAT, TAKEN, CURRENT, HELD, BUSY, CPU, RESIDENT}
    for slot in range(SLOTS):
        pair = {slot_index(slot), slot_index(slot) + 1}
        assert not pair & used
        used |= pair
    assert max(used) == worker.runs_at - 1
    assert worker.waits_at - worker.runs_at == WORDS == len(worker.words) - worker.waits_at


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


@pytest.mark.parametrize("mapper", [map_memory, without_descriptor])
def test_the_fault_log_stands_behind_the_page(mapper: Callable[[int, int], memoryview]) -> None:
    fd = create_fd(SLOTS)
    page = StatusPage(fd, SLOTS, mapper)
    last = slot_index(SLOTS - 1) + 1
    try:
        page.words[last] = -1
        assert page.log == ""
        os.write(fd, b"first, ")
        os.write(fd, b"second")
        assert page.log == "first, second"
        page.clear_log()
        assert page.log == ""
        os.write(fd, b"third")
        assert page.log == "third"
        assert page.words[last] == -1
    finally:
        page.close()
        os.close(fd)


def test_the_fault_log_has_room_again_when_the_worker_says_so() -> None:
    fd = create_fd(SLOTS)
    page = StatusPage(fd, SLOTS)
    try:
        os.write(fd, b"x" * MAX_LOG + b"unseen")
        assert page.log == "x" * MAX_LOG
        page.clear_log()
        os.write(fd, b"unseen")
        assert page.log == ""
        page.rewind_log()
        os.write(fd, b"seen")
        assert page.log == "seen"
    finally:
        page.close()
        os.close(fd)
    page.rewind_log()  # a call has closed it: no error


@pytest.mark.skipif(sys.platform != "linux", reason="needs /proc")
def test_the_parent_maps_a_page_without_a_descriptor() -> None:
    fd = create_fd(SLOTS)
    file = os.fstat(fd).st_ino
    page = StatusPage(fd, SLOTS, without_descriptor)
    try:
        assert _descriptors(file) == [fd]
        assert _maps(file) == 1
        running = page.words[:]
        page.close()
        assert _maps(file) == 1, "somebody is reading it"
        running.release()
        assert _maps(file) == 0
    finally:
        os.close(fd)


def _maps(file: int) -> int:
    """How often a file is mapped. Pages of other tests may still be, until they are collected."""
    with open("/proc/self/maps", encoding="utf-8") as maps:
        return sum("hybridexec-status" in line and line.split()[4] == str(file) for line in maps)


def _descriptors(file: int) -> list[int]:
    found = []
    for fd in map(int, os.listdir("/proc/self/fd")):
        with contextlib.suppress(OSError):  # that of the list itself
            if os.fstat(fd).st_ino == file:
                found.append(fd)
    return found


def test_what_cannot_be_mapped_raises_an_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        without_descriptor(-2, 4096)

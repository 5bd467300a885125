"""Memory files that are written again, and forks."""

from __future__ import annotations

import os

import numpy as np
import pytest

from hybridexec.wire import shared
from hybridexec.wire.parts import SHARED_FROM
from hybridexec.wire.payload import dumps, loads

from .memory_files import SIZE, Sides, arrays, files, number_of

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "memfd_create"), reason="needs memfd"),
    pytest.mark.usefixtures("nothing_left"),
]


# -- files that are written again -----------------------------------------------------------------


def test_a_file_is_written_again_once_it_was_read(sides: Sides) -> None:
    payload = dumps(np.full(4 * SIZE, 1, np.uint8))
    number = number_of(payload)
    sides.write(payload)
    del payload
    second = dumps(np.full(SIZE, 2, np.uint8))
    assert number_of(second) != number, "it has not been read"
    (received,) = sides.read()
    third = dumps(np.full(8 * SIZE, 3, np.uint8))
    assert number_of(third) == number
    assert (loads(received) == 1).all()
    sides.write(second, third)
    del second, third
    fourth = dumps(np.full(SIZE, 4, np.uint8))
    assert number_of(fourth) != number, "now that must be read first"
    assert [loads(p)[-1] for p in sides.read()] == [2, 3]


def test_a_file_is_not_written_while_its_payload_lives(sides: Sides) -> None:
    payload = dumps(np.zeros(SIZE))
    sides.send(payload)
    other = dumps(np.ones(SIZE))
    assert number_of(other) != number_of(payload)
    assert not loads(payload).any()


def test_a_file_that_went_to_two_readers_is_not_written_again(sides: Sides) -> None:
    """The mark would not tell whether both have read it: the first may be slow, or stuck."""
    payload = dumps(np.zeros(SIZE))
    sides.send(payload)
    sides.send(payload)
    del payload
    assert files() == []


def test_a_file_that_is_mapped_is_not_written_again(
    sides: Sides, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shared.MAPPED_FROM > shared._LARGEST_SPARE
    monkeypatch.setattr(shared, "MAPPED_FROM", SHARED_FROM)
    payload = dumps(np.zeros(SIZE))
    number = number_of(payload)
    (received,) = sides.send(payload)
    back = loads(received)
    del payload, received
    other = dumps(np.ones(SIZE))
    assert number_of(other) != number
    assert not back.any()


@pytest.mark.usefixtures("sides")
def test_few_files_are_spared_and_no_huge_ones() -> None:
    held = [dumps(np.zeros(SIZE)) for _ in range(3 * shared._MAX_SPARES)]
    del held
    assert len(files()) == shared._MAX_SPARES
    held = [dumps(bytes(shared._LARGEST_SPARE - 10_000)) for _ in range(4)]
    del held
    assert len(files()) == shared.SPARE_BYTES // shared._LARGEST_SPARE
    shared._spares.clear()
    dumps(bytes(shared._LARGEST_SPARE))
    assert files() == []


def test_with_the_last_channel_the_spare_files_go() -> None:
    first, second = Sides(), Sides()
    first.send(dumps(np.zeros(SIZE)))
    first.close()
    assert len(files()) == 1, "there still is a channel"
    held = dumps(np.zeros(SIZE))
    second.close()
    assert len(files()) == 1
    del held
    assert files() == []
    assert shared._reserve == []


# -- parts that are copied when they are unpickled ------------------------------------------------

LARGE = shared._PUT_OFF_FROM


def test_a_file_is_written_again_once_what_was_left_in_it_is_gone(later: Sides) -> None:
    value = bytes(range(256)) * (LARGE // 256)
    for dropped in (True, False):
        shared._spares.clear()
        later.write(dumps(value), dumps(bytes(1000)))
        ((_, number),) = files()
        received = later.read()
        assert {n for _, n in files()} == {number}, "it is still to be copied"
        later.write(dumps(bytes(LARGE)))
        assert len({n for _, n in files()}) == 2, "and so not written"
        later.read()
        assert dropped or [loads(payload) for payload in received] == [value, bytes(1000)]
        del received
        later.write(dumps(bytes(LARGE)))
        assert number in {n for _, n in files()}
        assert len({n for _, n in files()}) == 2, "a new one was not needed"
        later.read()


def test_few_files_are_left_to_be_copied_and_no_small_parts(later: Sides) -> None:
    received = [later.send(dumps(bytes([n]) * LARGE)) for n in range(2 * shared._MOST_UNREAD)]
    received += [later.send(dumps(bytes([9]) * (LARGE - 1)))]
    assert len(shared._unread) == shared._MOST_UNREAD
    assert [loads(payload)[0] for (payload,) in received] == [*range(2 * shared._MOST_UNREAD), 9]
    del received
    assert not shared._unread


def test_parts_that_are_copied_later_may_be_changed_if_others_may(later: Sides) -> None:
    values = [*arrays(LARGE, SIZE), bytearray(LARGE)]
    received = [loads(payload) for payload in later.send(*map(dumps, values))]
    for back, value in zip(received, values, strict=True):
        assert type(back) is type(value)
        assert np.array_equal(back, value)
        back[0] ^= 255


# -- forks ----------------------------------------------------------------------------------------


def test_a_forked_child_lets_go_of_the_parents_files(sides: Sides) -> None:
    spare = dumps(np.zeros(SIZE))
    held = dumps(np.full(SIZE, 5))
    del spare
    assert len(files()) == 2
    pid = os.fork()
    if not pid:
        inherited = len(files())
        own = dumps(np.ones(SIZE))  # with what may be the same descriptor as one of the parent's
        del held
        good = not inherited and len(files()) == 1 and loads(own).sum() == SIZE
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (loads(sides.send(held)[0]) == 5).all()


@pytest.mark.usefixtures("map_all")
def test_a_forked_child_can_unpickle_what_had_come(sides: Sides) -> None:
    (received,) = sides.send(dumps(np.full(SIZE, 5)))
    pid = os.fork()
    if not pid:
        back = loads(received)
        good = bool((back == 5).all())
        back[:] = 6
        os._exit(0 if good else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert (loads(received) == 5).all()


@pytest.mark.usefixtures("map_all")
def test_an_array_is_not_shared_with_a_forked_child(sides: Sides) -> None:
    array = loads(sides.send(dumps(np.full(SIZE, 5)))[0])
    pid = os.fork()
    if not pid:
        array[:] = 6
        os._exit(0)
    os.waitpid(pid, 0)
    assert (array == 5).all()


def test_what_is_still_to_be_copied_at_a_fork_stays_as_it_is(later: Sides) -> None:
    (received,) = later.send(dumps(bytes([5]) * LARGE))
    begin, go = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(go)
        os.read(begin, 1)
        os._exit(0 if loads(received) == bytes([5]) * LARGE else 1)
    assert loads(received) == bytes([5]) * LARGE
    del received
    later.send(dumps(bytes([6]) * LARGE))
    os.close(begin)
    os.close(go)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

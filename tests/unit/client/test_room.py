"""Room for submitted calls: turns, and places that nobody keeps."""

from __future__ import annotations

import threading

import pytest

from hybridexec.parent.client.room import Room


class Turn:
    def __init__(self) -> None:
        self.there = 0

    def release(self) -> None:
        self.there += 1


def test_places_are_taken_until_there_are_none() -> None:
    room = Room(2)
    assert [room.take() for _ in range(3)] == [True, True, False]
    room.leave()
    assert [room.take() for _ in range(2)] == [True, False]


def test_who_waits_has_his_turn_and_nobody_is_overtaken() -> None:
    room, turns = Room(1), [Turn() for _ in range(3)]
    assert room.take()
    assert [room.queue(turn) for turn in turns] == [False] * 3
    room.leave()
    assert not room.take()
    room.leave()
    assert [turn.there for turn in turns] == [1, 1, 0]
    room.leave()
    room.leave()
    assert room.take()
    assert [turn.there for turn in turns] == [1, 1, 1]


def test_who_withdraws_keeps_no_place() -> None:
    room, first, second = Room(1), Turn(), Turn()
    assert room.queue(first)
    assert not room.queue(second)
    room.withdraw(second)
    room.withdraw(first)
    assert second.there == 0
    assert room.take()


def test_who_withdraws_too_late_passes_his_place_on() -> None:
    room, turns = Room(1), [Turn(), Turn()]
    room.take()
    for turn in turns:
        room.queue(turn)
    room.leave()
    assert turns[0].there
    room.withdraw(turns[0])
    assert turns[1].there


def test_threads_block_until_it_is_their_turn() -> None:
    room = Room(1)
    room.wait()
    done = threading.Event()

    def wait() -> None:
        room.wait()
        done.set()

    thread = threading.Thread(target=wait)
    thread.start()
    while not room._waiting:
        pass
    assert not done.is_set()
    room.leave()
    assert done.wait(30)
    thread.join()


def test_a_place_is_spent_once() -> None:
    room = Room(1)
    assert room.queue(Turn())
    assert room.spend(lambda: [room.take(), room.take()]) == [True, False]
    assert not room.take()


def test_a_place_that_is_not_spent_is_free_again() -> None:
    room = Room(1)
    assert room.queue(Turn())
    with pytest.raises(ZeroDivisionError):
        room.spend(lambda: 1 // 0)
    assert room.take()

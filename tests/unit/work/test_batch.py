"""Where each call of a batch is: a state for each, and what is still open."""

from __future__ import annotations

from hybridexec.parent.work.batch import (
    DROPPED,
    ENDED,
    RETRYING,
    SENT,
    UNWANTED,
    WAITING,
    Batch,
)
from hybridexec.wire import messages

from ..fakes import FUNCTION, OPTIONS, Sink


def made(size: int, offset: int = 0) -> Batch:
    return Batch(FUNCTION, [(number,) for number in range(size)], Sink(), OPTIONS, offset)


def test_calls_wait_until_they_are_sent() -> None:
    batch = made(4)
    batch.send(1, 3)
    assert list(batch.states) == [WAITING, SENT, SENT, WAITING]
    batch.wait(2)
    assert list(batch.states) == [WAITING, SENT, WAITING, WAITING]
    assert batch.remaining == 4


def test_what_was_not_handed_out_ends_at_once() -> None:
    batch = made(5)
    batch.send(0, 2)
    batch.next = 2
    batch.end(3, 4)  # cancelled before
    assert batch.end_rest() == 2
    assert list(batch.states) == [SENT, SENT, ENDED, ENDED, ENDED]
    assert batch.remaining == 2
    assert batch.end_rest() == 0


def test_outcomes_end_calls_by_their_places_in_the_sink() -> None:
    batch = made(3, offset=10)
    batch.end_with([(12, messages.VALUE, 0, None, 7, None), (10, messages.VALUE, 0, None, 7, None)])
    assert list(batch.states) == [ENDED, WAITING, ENDED]
    assert batch.remaining == 1


def test_open_are_those_that_have_neither_ended_nor_been_dropped() -> None:
    batch = made(7)
    batch.send(0, 5)
    batch.leave((1,))
    batch.drop((2,))
    batch.park(3, RETRYING)
    batch.end(4, 5)
    assert list(batch.states) == [SENT, UNWANTED, DROPPED, RETRYING, ENDED, WAITING, WAITING]
    assert batch.open_places(5) == [0, 1, 3]

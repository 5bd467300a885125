"""How far a call may be ahead of who fetches its items: bounded, and nobody waits for ever."""

from __future__ import annotations

from collections import deque
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridexec.wire.allowance import MOST_BYTES, Allowance, Fetched, size_of
from hybridexec.wire.payload import Segments

SIZES = st.sampled_from([0, 0, 1, 300, MOST_BYTES // 3, MOST_BYTES - 1, MOST_BYTES, 2 * MOST_BYTES])


@given(
    window=st.integers(1, 12),
    sizes=st.lists(SIZES, max_size=60),
    choices=st.lists(st.sampled_from(["send", "arrive", "fetch", "hear"]), max_size=400),
)
def test_what_is_under_way_is_bounded_and_never_stuck(
    window: int, sizes: list[int], choices: list[str]
) -> None:
    sender, receiver = Allowance(window), Fetched(window)
    to_send, on_the_way, there = deque(sizes), deque[int](), deque[int]()
    told: deque[int] = deque()

    def step(choice: str) -> bool:
        if choice == "send" and to_send and sender.left:
            on_the_way.append(to_send.popleft())
            sender.send(on_the_way[-1])
        elif choice == "arrive" and on_the_way:
            there.append(on_the_way.popleft())
        elif choice == "fetch" and there:
            if receiver.fetch(there.popleft()):
                told.append(receiver.tell())
        elif choice == "fetch" and (count := receiver.tell()):  # about to wait
            told.append(count)
        elif choice == "hear" and told:
            sender.fetch(told.popleft())
        else:
            return False
        under_way = [*there, *on_the_way]
        assert len(under_way) <= window
        assert sum(under_way[:-1]) < MOST_BYTES, "no more than that and one item"
        return True

    for choice in choices:
        step(choice)
    while any(list(map(step, ("send", "arrive", "fetch", "hear")))):
        pass
    assert not to_send, "whoever waits is told"
    assert receiver.count == len(sizes)


def test_it_is_told_in_time_for_another_half_window() -> None:
    fetched = Fetched(10)
    assert [fetched.fetch(0) for _ in range(6)] == [False] * 4 + [True] * 2
    assert fetched.tell() == 6
    assert fetched.tell() == 0
    assert not fetched.fetch(MOST_BYTES // 2 - 1)
    assert fetched.fetch(1)


def test_a_window_that_was_lifted_has_no_end() -> None:
    allowance = Allowance(1)
    allowance.send(MOST_BYTES)
    assert not allowance.left
    allowance.lift()
    assert allowance.left


@pytest.mark.parametrize(
    ("item", "size"),
    [
        (7, 0),
        (None, 0),
        ("text", 4),
        (b"12345", 5),
        ((1, "ab", b"c"), 3),
        (Segments((b"123", b"4567")), 7),
    ],
)
def test_the_size_of_an_item_is_that_of_its_texts(item: Any, size: int) -> None:
    assert size_of(item) == size

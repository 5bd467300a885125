"""A frontier: what is new, what is taken, and what a loop leaves to the next."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from hybridexec import Frontier


def nothing() -> None:
    pass


def test_what_was_seen_is_not_added_again() -> None:
    frontier = Frontier(["a", "b", "a"])
    assert [frontier.add(item) for item in "bcc"] == [False, True, False]
    assert (len(frontier), frontier.seen) == (3, 3)
    assert "a" in frontier
    assert "z" not in frontier
    assert frontier.extend("xyzxa") == 3


def test_what_was_taken_was_seen() -> None:
    frontier = Frontier("ab")
    frontier.begin(nothing)
    assert frontier.take(5) == ["a", "b"]
    assert not frontier.add("a")
    assert not frontier
    assert frontier.seen == 2


def test_what_is_done_is_not_called() -> None:
    frontier = Frontier("abc", done="ax")
    frontier.begin(nothing)
    assert frontier.take(9) == ["b", "c"]
    assert not frontier.add("x")
    assert frontier.seen == 4


def test_a_key_tells_items_apart() -> None:
    frontier: Frontier[dict[str, Any]] = Frontier(
        [{"url": "a", "depth": 0}], key=lambda item: item["url"]
    )
    assert not frontier.add({"url": "a", "depth": 3})
    assert frontier.add({"url": "b", "depth": 3})
    assert {"url": "b"} in frontier


def test_what_cannot_be_hashed_needs_a_key() -> None:
    frontier: Frontier[Any] = Frontier()
    with pytest.raises(TypeError, match="this dict has none: give it key="):
        frontier.add({})
    with pytest.raises(TypeError, match="the list that key= has returned for this dict"):
        Frontier([{}], key=lambda item: [])
    with pytest.raises(TypeError, match="key must be a function of an item, not str"):
        Frontier(key="url")  # type: ignore[arg-type]
    assert frontier.seen == 0


def test_a_key_that_raises_adds_nothing() -> None:
    frontier: Frontier[int] = Frontier(key=lambda item: 1 // item)
    with pytest.raises(ZeroDivisionError):
        frontier.extend([1, 0, 2])
    assert len(frontier) == 1


def test_it_cannot_be_iterated_by_others() -> None:
    with pytest.raises(TypeError, match=r"only map_unordered\(\) and outcomes\(\)"):
        list(Frontier("ab"))


def test_items_without_a_result_come_first_in_the_next_loop() -> None:
    frontier = Frontier("abcdefg")
    frontier.begin(nothing)
    assert frontier.take(2) + frontier.take(3) == list("abcde")
    frontier.got(1)
    frontier.got(3)
    frontier.add("h")
    frontier.end()
    assert len(frontier) == 6
    frontier.begin(nothing)
    assert frontier.take(9) == list("acefgh")
    frontier.got(0)
    frontier.end()
    frontier.begin(nothing)
    assert frontier.take(9) == list("cefgh")


def test_one_loop_at_a_time() -> None:
    frontier = Frontier("ab")
    frontier.begin(nothing)
    with pytest.raises(RuntimeError, match="another loop reads this Frontier"):
        frontier.begin(nothing)
    frontier.end()
    frontier.begin(nothing)


def test_a_loop_is_woken_when_there_are_items_again() -> None:
    woken: list[int] = []
    frontier = Frontier([1])
    frontier.begin(lambda: woken.append(len(frontier)))
    frontier.add(2)
    assert woken == []
    frontier.take(9)
    frontier.add(1)
    assert woken == []
    frontier.extend([3, 4])
    assert woken == [1]
    frontier.take(9)
    frontier.end()
    frontier.take(9)
    frontier.add(5)
    assert woken == [1]


def test_many_threads_add_each_item_once() -> None:
    frontier: Frontier[int] = Frontier()
    new: list[int] = []

    def add() -> None:
        new.append(frontier.extend(range(2000)))

    threads = [threading.Thread(target=add) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(new) == len(frontier) == 2000


def test_it_says_how_far_it_is() -> None:
    assert repr(Frontier("ab", done="x")) == "<Frontier: 2 waiting, 3 seen>"

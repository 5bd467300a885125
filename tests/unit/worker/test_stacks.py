"""Where calls are: in groups, and bounded."""

from __future__ import annotations

import sys
import threading
from types import FrameType

import pytest

from hybridexec.worker import stacks
from hybridexec.worker.stacks import all_stacks


def ours(call: int, depth: int) -> FrameType:
    """What calls are called from."""
    return deeper(depth)


def deeper(depth: int) -> FrameType:
    return deeper(depth - 1) if depth else sys._getframe()


def runs(call: int) -> bool:
    return True


def test_calls_at_one_place_are_a_group() -> None:
    waiting = [(call, ours(call, call % 2)) for call in range(1, 21)]
    waiting += [(21, None)]  # it has ended
    current, groups, more = all_stacks(None, waiting, ours.__code__, runs)
    assert (current, more) == (0, 0)
    assert [(count, ids) for count, ids, _ in groups] == [
        (10, [1, 3, 5, 7, 9]),
        (10, [2, 4, 6, 8, 10]),
    ]
    assert [[name for _, _, name in places] for _, _, places in groups] == [
        ["deeper", "deeper"],
        ["deeper"],
    ], "the innermost last, and nothing of ours"


def test_what_is_told_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    waiting = [(call, ours(call, call)) for call in range(1, 200)]
    _, groups, more = all_stacks(None, waiting, ours.__code__, runs)
    assert (len(groups), more) == (50, 199 - sum(count for count, _, _ in groups))
    assert max(len(places) for _, _, places in groups) <= 100
    monkeypatch.setattr(stacks, "_MAX_CALLS", 10)
    _, groups, more = all_stacks(None, waiting, ours.__code__, runs)
    assert (len(groups), more) == (10, 189)


def test_what_keeps_the_main_thread_comes_first() -> None:
    ready, done = threading.Event(), threading.Event()

    def main(call: int) -> None:
        ready.set()
        done.wait(30)

    thread = threading.Thread(target=main, args=(7,))
    thread.start()
    ready.wait(30)
    try:
        assert thread.ident is not None
        found = all_stacks(thread.ident, [(7, None), (8, ours(8, 0))], main.__code__, runs)
    finally:
        done.set()
        thread.join()
    current, groups, _ = found
    assert (current, [ids for _, ids, _ in groups]) == (7, [[7], [8]])

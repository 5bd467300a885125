"""Starts on threads of their own: how many at once, and that each is answered."""

from __future__ import annotations

import queue
import threading
from types import SimpleNamespace
from typing import Any

from hybridexec.parent.engine.starter import _AT_ONCE, Starter

PATIENCE = 10.0


class Launcher:
    """Starts a worker when it is told to; every other one fails."""

    method = "spawn"

    def __init__(self) -> None:
        self.begun: queue.Queue[int] = queue.Queue()
        self.go_on = threading.Semaphore(0)

    def start(self, number: int, lane: str, pressed: Any = None) -> str:
        self.begun.put(number)
        assert self.go_on.acquire(timeout=PATIENCE)
        if number % 2:
            raise OSError(number)
        return f"worker {number}"


def test_a_few_starts_are_under_way_at_once_and_all_are_answered() -> None:
    posted: queue.Queue[tuple[Any, ...]] = queue.Queue()
    entries: Any = SimpleNamespace(post=lambda *event: posted.put(event), events=())
    launcher: Any = Launcher()
    answers: dict[int, Any] = {}
    starter = Starter(launcher, entries, answers.__setitem__, answers.__setitem__)
    count = 3 * _AT_ONCE
    for number in range(count):
        starter.start(number, "greenlet")
    assert starter.under_way == count
    begun = [launcher.begun.get(timeout=PATIENCE) for _ in range(_AT_ONCE)]
    for left in reversed(range(count)):
        assert launcher.begun.empty()
        launcher.go_on.release()
        event, *arguments = posted.get(timeout=PATIENCE)
        event(*arguments)
        assert starter.under_way == left
        if len(begun) < count:
            begun.append(launcher.begun.get(timeout=PATIENCE))
    assert sorted(begun) == list(range(count))
    assert {number: str(answer) for number, answer in answers.items()} == {
        number: str(number) if number % 2 else f"worker {number}" for number in range(count)
    }

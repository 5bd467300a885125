"""An outbox, and the parent's end of its pipe, for tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from hybridexec.wire import frames, messages
from hybridexec.wire.shared import Channel, open_channel
from hybridexec.worker.outbox import Outbox


class Timer:
    """One of the loop's, which the test has fire."""

    def __init__(self, after: float) -> None:
        self.after = after
        self.fire: Callable[[], None] | None = None

    def start(self, callback: Callable[[], None]) -> None:
        self.fire = callback

    def stop(self) -> None:
        self.fire = None


class Ends:
    """An outbox, and the parent's end of its pipe."""

    def __init__(self) -> None:
        self.read_fd, self.write_fd = os.pipe()
        self.calls = 0  # how often the helper thread was called
        self.due: list[Callable[[], None]] = []  # what the hub is to do at the end of its turn
        self.channel, other = open_channel()
        self.worker_channel = Channel(other)
        self.room = SimpleNamespace(active=False, start=self.start, stop=self.stop)
        self.timers: list[Timer] = []
        loop = SimpleNamespace(
            run_callback=self.due.append, io=lambda fd, events: self.room, timer=self.timer
        )
        self.outbox = Outbox(self.write_fd, self.worker_channel, self.call, loop)
        self.reader = frames.FrameReader(self.read_fd, self.channel.take)

    def timer(self, after: float) -> Timer:
        self.timers.append(Timer(after))
        return self.timers[-1]

    def call(self) -> None:
        self.calls += 1

    def start(self, when_there_is_room: Callable[[], None]) -> None:
        self.room.active = True
        self.go_on = when_there_is_room

    def stop(self) -> None:
        self.room.active = False

    def end_turn(self) -> None:
        due, self.due[:] = list(self.due), []
        for do in due:
            do()

    def read(self) -> list[tuple[Any, ...]]:
        """The heads of the frames that have arrived."""
        os.set_blocking(self.read_fd, False)
        heads: list[tuple[Any, ...]] = []
        try:
            while True:
                heads += [frame[0] for frame in self.reader.read() or []]
        except BlockingIOError:
            return heads

    def results(self) -> dict[int, Any]:
        """The values that have arrived, by call."""
        got: dict[int, Any] = {}
        for kind, results, rows in self.read():
            assert kind == messages.Results.kind
            for call, _, value, _ in results:
                assert call not in got
                got[call] = value
            for first, values, _ in rows:
                for call, value in enumerate(values, first):
                    assert call not in got
                    got[call] = value
        return got


def result(call: int, value: Any = None) -> tuple[Any, ...]:
    return (call, messages.VALUE, value, None)

"""What is said of iterables that keep a loop from results, and when nothing is."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hybridexec.parent.client.stuck import Read


class Reader:
    name = "fetch"
    held_up = True

    def is_held_up(self) -> bool:
        return self.held_up


class Looks:
    """A read of three items, looked at while the first two are read."""

    def __init__(self) -> None:
        self.reader = Reader()
        self.items = self._generate()
        self.read = Read(self.items, self.reader, Looks.run.__code__)
        self.look: Callable[[], Any] = lambda: None

    def _generate(self) -> Iterator[int]:
        for number in range(3):
            self.look()  # here
            yield number

    def run(self) -> None:
        self.read.chunk = []
        for item in self.items:
            self.read.chunk.append(item)
        self.read.chunk = None


@pytest.fixture
def looks() -> Looks:
    return Looks()


def line_of(text: str) -> int:
    with open(__file__) as file:
        return next(number for number, line in enumerate(file, 1) if text in line)


def test_a_read_that_takes_long_is_reported_with_its_line(
    looks: Looks, caplog: pytest.LogCaptureFixture
) -> None:
    told: list[bool] = []
    looks.look = lambda: told.extend(looks.read.look(now) for now in (1.0, 5.9, 6.1))
    looks.run()
    assert told == [False, False, True] * 3
    (message, *_) = caplog.messages
    assert message.startswith(
        "the loop over the results of fetch has waited for 5 s for its iterable's next item ("
        f"{__file__}:{line_of('# here')}, in Looks._generate), and gets no results meanwhile. If"
    )
    assert "hybridexec.Frontier" in message
    assert caplog.records[0].levelno == logging.WARNING


def test_items_that_come_slowly_are_not_reported(
    looks: Looks, caplog: pytest.LogCaptureFixture
) -> None:
    times = iter([1.0, 5.9, 6.1, 10.0, 11.2, 15.0])
    looks.look = lambda: [looks.read.look(next(times)) for _ in range(2)]
    looks.run()
    assert not caplog.messages


def test_nothing_is_said_while_results_are_to_come(
    looks: Looks, caplog: pytest.LogCaptureFixture
) -> None:
    def look() -> None:
        looks.read.look(1.0)
        looks.reader.held_up = False
        assert not looks.read.look(10.0)
        looks.reader.held_up = True
        assert not looks.read.look(20.0)
        assert not looks.read.look(24.0)

    looks.look = look
    looks.run()
    assert not caplog.messages


def test_nothing_is_said_while_nothing_is_read(
    looks: Looks, caplog: pytest.LogCaptureFixture
) -> None:
    assert not looks.read.look(1.0)
    assert not looks.read.look(10.0)
    looks.run()
    assert not looks.read.look(30.0)
    assert not caplog.messages


def test_a_stream_that_is_gone_is_not_reported(
    looks: Looks, caplog: pytest.LogCaptureFixture
) -> None:
    looks.look = lambda: [looks.read.look(now) for now in (1.0, 10.0)]
    del looks.reader
    looks.run()
    assert not caplog.messages


def test_without_a_frame_of_python_no_line_is_named(
    looks: Looks, caplog: pytest.LogCaptureFixture
) -> None:
    read = Read(iter([1]), looks.reader, Looks.run.__code__)
    read.chunk = []
    assert not read.look(1.0)
    assert read.look(7.0)
    assert "next item, and gets" in caplog.text

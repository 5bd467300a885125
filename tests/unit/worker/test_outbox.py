"""What leaves the worker: whole frames, in order, and nobody waits who puts something in."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from time import monotonic
from types import SimpleNamespace
from typing import Any

import pytest

from hybridexec.wire import frames, messages, payload
from hybridexec.wire.shared import Channel, open_channel
from hybridexec.worker.outbox import Outbox
from hybridexec.worker.rows import Row


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


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.channel.close()
    ends.worker_channel.close()
    os.close(ends.read_fd)
    os.close(ends.write_fd)


def result(call: int, value: Any = None) -> tuple[Any, ...]:
    return (call, messages.VALUE, value, None)


def test_what_is_put_leaves_at_the_end_of_the_turn_together(ends: Ends) -> None:
    for call in range(3):
        ends.outbox.put(result(call, str(call)))
    assert ends.read() == []
    assert ends.outbox.pending
    ends.end_turn()
    assert ends.read() == [messages.Results([result(n, str(n)) for n in range(3)], []).head]
    assert not ends.outbox.pending


def test_the_first_of_a_turn_leaves_at_once(ends: Ends) -> None:
    ends.outbox.put_first(result(1))
    assert ends.results() == {1: None}
    assert not ends.calls
    assert not ends.due


def test_the_first_of_a_turn_waits_its_turn_behind_others(ends: Ends) -> None:
    ends.outbox.put(result(1))
    ends.outbox.put_first(result(2))
    assert ends.read() == []
    ends.end_turn()
    assert ends.results() == {1: None, 2: None}


LONG_AGO = -1000.0  # when a call began that has waited


def test_what_may_be_late_leaves_together_when_its_time_is_over(ends: Ends) -> None:
    for call in range(3):
        ends.outbox.put_late(result(call), LONG_AGO)
    assert ends.calls == 1, "in case a call keeps the hub"
    assert not ends.outbox.pending
    ends.outbox.flush()  # as after each read
    assert ends.read() == []
    (timer,) = ends.timers
    assert timer.fire is not None
    timer.fire()
    assert ends.read() == [messages.Results([result(n) for n in range(3)], []).head]
    assert timer.fire is None
    ends.outbox.put_late(result(3), LONG_AGO)
    assert len(ends.timers) == 2


def test_what_may_be_late_leaves_with_what_may_not(ends: Ends) -> None:
    ends.outbox.put_late(result(1), LONG_AGO)
    ends.outbox.put(result(2))
    ends.end_turn()
    assert ends.results() == {1: None, 2: None}
    assert ends.timers[0].fire is None


def test_the_result_of_a_short_call_is_not_held_back(ends: Ends) -> None:
    ends.outbox.put_late(result(1), monotonic())
    assert ends.timers == []
    ends.end_turn()
    assert ends.results() == {1: None}


def test_results_are_held_for_as_long_as_the_most_urgent_of_them_may_be(ends: Ends) -> None:
    ends.outbox.put_late(result(1), monotonic() - 0.08)
    ends.outbox.put_late(result(2), monotonic() - 0.02)
    ends.outbox.put_late(result(3), LONG_AGO)
    first, second = ends.timers
    assert first.fire is None
    assert second.after < first.after
    assert second.fire is not None
    second.fire()
    assert ends.results() == {1: None, 2: None, 3: None}


def test_the_helper_thread_lets_go_what_is_held_for_too_long(ends: Ends) -> None:
    ends.outbox.put_late(result(1), LONG_AGO)
    ends.outbox.hurry(monotonic() - 1)
    assert ends.outbox.holding
    assert not ends.outbox.pending
    ends.outbox.hurry(monotonic() + 1)
    assert not ends.outbox.holding
    assert ends.outbox.pending
    ends.outbox.write()
    assert ends.results() == {1: None}
    assert ends.timers[0].fire is not None
    ends.timers[0].fire()
    assert ends.results() == {}


def test_at_the_end_everything_leaves(ends: Ends) -> None:
    ends.outbox.put_late(result(1), LONG_AGO)
    ends.outbox.write()
    assert ends.results() == {1: None}


def test_in_a_child_nothing_is_held(ends: Ends) -> None:
    ends.outbox.put_late(result(1), LONG_AGO)
    ends.outbox.let_go()
    ends.outbox.put_late(result(2), LONG_AGO)
    assert not ends.outbox.holding


def test_the_helper_thread_is_called_in_case_the_turn_does_not_end(ends: Ends) -> None:
    ends.outbox.put(result(1))
    ends.outbox.put(result(2))
    assert ends.calls == 2, "it may have slept again after the first"
    ends.outbox.write()
    assert ends.results() == {1: None, 2: None}
    ends.end_turn()
    assert ends.results() == {}


#: In parts that are too small to go into a file.
LARGE = payload.Segments(tuple(bytearray(30_000) for _ in range(100)))


def test_what_does_not_fit_is_left_to_the_helper_thread_and_arrives_whole(ends: Ends) -> None:
    ends.outbox.put((1, messages.PICKLED, LARGE, None))
    ends.outbox.put(result(2))
    ends.end_turn()
    assert ends.outbox.pending
    assert ends.calls == 3
    ends.outbox.put_first(result(3))  # not into the midst of another frame
    helper = threading.Thread(target=ends.outbox.write)
    helper.start()
    got: list[Any] = []
    while helper.is_alive() or not got:
        got += ends.read()
    helper.join()
    got += ends.read()
    assert sorted(call for _, results, _ in got for call, *_ in results) == [1, 2, 3]


def test_the_hub_goes_on_when_there_is_room(ends: Ends) -> None:
    ends.outbox.put_first((1, messages.PICKLED, LARGE, None))
    assert ends.room.active
    got: list[Any] = []
    while not got:
        got += ends.read()
        ends.go_on()
    assert not ends.room.active
    assert not ends.outbox.pending


def test_a_large_result_that_fits_leaves_at_once_too(ends: Ends) -> None:
    ends.outbox.put_first((1, messages.PICKLED, payload.Segments((bytes(40_000),)), None))
    assert len(ends.read()) == 1
    assert not ends.calls


def test_frames_of_other_kinds_keep_their_place(ends: Ends) -> None:
    ends.outbox.add(messages.Hello())
    ends.outbox.add(result(1))
    ends.outbox.add(messages.LowWatermark())
    ends.outbox.add(result(2))
    ends.outbox.flush()
    kinds = [head[0] for head in ends.read()]
    assert kinds == [
        messages.Hello.kind,
        messages.Results.kind,
        messages.LowWatermark.kind,
        messages.Results.kind,
    ]


def test_a_row_leaves_with_all_its_values(ends: Ends) -> None:
    row = Row(5)
    row.values += ["a", "b", "c"]
    ends.outbox.put(row)
    ends.end_turn()
    assert ends.results() == {5: "a", 6: "b", 7: "c"}
    row.values.append("d")
    ends.outbox.put(row)
    ends.end_turn()
    assert ends.results() == {8: "d"}


@pytest.mark.parametrize("size", [1, 30_000])
def test_long_rows_leave_in_frames_of_bounded_size(ends: Ends, size: int) -> None:
    row = Row(0)
    row.values += [chr(100 + number) * size for number in range(3000)]
    ends.outbox.put(row)
    helper = threading.Thread(target=ends.outbox.write)
    helper.start()
    got = 0
    while got < 3000:
        for _, _, rows in ends.read():
            values = rows[0][1]
            assert len(values) * size < 10_000_000
            got += len(values)
    helper.join()
    assert not ends.outbox.pending


def test_a_row_that_grows_while_it_is_written_loses_nothing(ends: Ends) -> None:
    count = 200_000
    done = threading.Event()

    def help_out() -> None:
        while not done.is_set() or ends.outbox.pending:
            ends.outbox.write()

    got: dict[int, Any] = {}
    helper = threading.Thread(target=help_out)
    helper.start()

    def read() -> None:
        while len(got) < count:
            got.update(ends.results())

    reader = threading.Thread(target=read)
    reader.start()
    row = Row(0)
    for number in range(count):
        row.values.append(number)
        if len(row.values) == 1:
            ends.outbox.put(row)
            ends.end_turn()
    done.set()
    helper.join()
    reader.join()
    assert got == {number: number for number in range(count)}

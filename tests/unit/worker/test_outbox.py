"""What leaves the worker: whole frames, in order, and nobody waits who puts something in."""

from __future__ import annotations

import threading
from time import monotonic
from typing import Any

import pytest

from hybridexec import native
from hybridexec.wire import messages, payload
from hybridexec.worker.rows import Row

from .outbox_ends import Ends, result


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


def test_the_result_of_a_short_call_is_not_held_back(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "monotonic", lambda: 1000.0)
    ends.outbox.put_late(result(1), 1000.0 - 0.009)
    assert ends.timers == []
    ends.end_turn()
    assert ends.results() == {1: None}


def test_results_are_held_for_as_long_as_the_most_urgent_of_them_may_be(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(native, "monotonic", lambda: 1000.0)
    ends.outbox.put_late(result(1), 1000.0 - 0.08)
    ends.outbox.put_late(result(2), 1000.0 - 0.02)
    ends.outbox.put_late(result(3), LONG_AGO)
    first, second = ends.timers
    assert first.fire is None
    assert second.after < first.after
    assert second.fire is not None
    second.fire()
    assert ends.results() == {1: None, 2: None, 3: None}


def test_the_helper_thread_lets_go_what_is_held_for_too_long(ends: Ends) -> None:
    ends.outbox.put_late(result(1), LONG_AGO)
    ends.outbox.hurry(monotonic() - 1000)
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

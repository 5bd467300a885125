"""The worker's inbox: what runners take out and what the parent takes back."""

from __future__ import annotations

import threading
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from hybridexec.worker.inbox import Inbox, Job, Span


def job() -> Job:
    return Job(1, (None, False, False, None, None, 1))


def make(*sizes: int) -> Inbox:
    """Runs of so many calls; each call's item is its id."""
    inbox = Inbox()
    for number, size in enumerate(sizes):
        first = (number + 1) * 1000
        inbox.add(Span(job(), first, range(first, first + size), True))
    return inbox


def take(inbox: Inbox) -> int | None:
    """Take the next call, as a runner does."""
    span = inbox.head()
    if span is None:
        return None
    item: int = span.items.popleft()
    span.next += 1
    assert item == span.next - 1
    return item


def drain(inbox: Inbox) -> list[int]:
    taken = []
    while (call := take(inbox)) is not None:
        taken.append(call)
    return taken


def test_calls_leave_in_the_order_in_which_they_came() -> None:
    inbox = make(2, 0, 3)
    assert inbox.arrived == 5
    assert drain(inbox) == [1000, 1001, 3000, 3001, 3002]
    assert inbox.head() is None
    assert not inbox.spans


def test_the_newest_calls_are_taken_back_first() -> None:
    inbox = make(2, 3)
    assert inbox.take_back(4) == [2002, 2001, 2000, 1001]
    assert inbox.arrived == 1
    assert drain(inbox) == [1000]


def test_no_more_is_taken_back_than_there_is() -> None:
    inbox = make(1, 2)
    take(inbox)
    assert inbox.take_back(10) == [2001, 2000]
    assert inbox.take_back(10) == []
    assert drain(inbox) == []


def test_the_last_calls_can_be_removed_by_their_ids() -> None:
    inbox = make(2, 3)
    take(inbox)
    inbox.reclaim(1, [2002, 2001, 9])
    assert inbox.released == 1
    assert inbox.arrived == 3
    assert drain(inbox) == [1001, 2000]


def test_only_calls_that_are_here_are_dropped_and_forgotten_when_they_are_gone() -> None:
    inbox = make(3)
    take(inbox)
    inbox.drop([1000, 1001, 1002, 5])
    assert inbox.dropped == {1001, 1002}
    assert take(inbox) == 1001
    inbox.forget_dropped()
    assert inbox.dropped == {1002}
    inbox.take_back(1)
    assert inbox.dropped == set()


@given(st.lists(st.integers(0, 5), max_size=6), st.lists(st.integers(-3, 3), max_size=20))
def test_each_call_is_taken_out_or_back_once(sizes: list[int], steps: list[int]) -> None:
    inbox = make(*sizes)
    out: list[int] = []
    back: list[int] = []
    for step in steps:
        if step < 0:
            back += inbox.take_back(-step)
        elif (call := take(inbox)) is not None:
            out.append(call)
    out += drain(inbox)
    everything = [1000 * (n + 1) + place for n, size in enumerate(sizes) for place in range(size)]
    assert sorted(out + back) == everything
    assert out == sorted(out)
    assert inbox.arrived == len(out)


def test_a_reader_may_take_back_while_a_runner_takes_out() -> None:
    inbox = make(*[500] * 100)
    back: list[int] = []
    started = threading.Event()

    def read() -> None:
        started.set()
        while len(back) < 20_000:
            back.extend(inbox.take_back(7))

    reader = threading.Thread(target=read)
    reader.start()
    started.wait()
    out: list[Any] = []
    while reader.is_alive() and len(out) < 20_000:
        span = inbox.head()
        if span is None:
            break
        try:
            out.append(span.items.popleft())
        except IndexError:
            continue  # the reader was faster
        span.next += 1
    reader.join()
    out += drain(inbox)
    assert len(out) + len(back) == 50_000
    assert len(set(out + back)) == 50_000

"""What a call forks is no worker: it takes no calls and answers none."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable

import pytest

from .conftest import Make
from .helpers import Gate, pid_of, square

pytestmark = pytest.mark.slow_on("spawn", "fork")


def return_none() -> None:
    pass


def return_much() -> bytes:
    return bytes(1_000_000)


def wait_and_return() -> None:
    time.sleep(0.05)


def exit_with_three() -> None:
    sys.exit(3)


def exit_with_a_message() -> None:
    sys.exit("a message")


def fail() -> None:
    raise ValueError("no luck")


def fork_and(function: Callable[[], object]) -> object:
    """The child's exit status; only the parent may return that."""
    child = os.fork()
    if not child:
        return function()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def fork_and_wait(gate: Gate) -> int:
    child = os.fork()
    if not child:
        gate.wait("child")
        os._exit(0)
    return os.waitpid(child, 0)[1]


@pytest.mark.parametrize(
    ("function", "status"),
    [
        (return_none, 0),
        (return_much, 0),
        (wait_and_return, 0),
        (exit_with_three, 3),
        (exit_with_a_message, 1),
        (fail, 1),
    ],
)
def test_a_child_ends_with_its_call_and_the_parent_answers(
    make_each: Make, function: Callable[[], object], status: int
) -> None:
    executor = make_each(max_workers=1)
    assert executor.submit(fork_and, function).result(timeout=30) == status
    assert list(executor.map(square, range(10))) == [n * n for n in range(10)]


def test_in_a_row_of_calls_each_child_ends_with_its_own(make: Make) -> None:
    executor = make(max_workers=1, concurrency=1)
    assert list(executor.map(fork_and, [return_none] * 10)) == [0] * 10


def test_a_child_that_waits_takes_no_calls(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1)
    pid = executor.submit(pid_of).result(timeout=30)
    parent = executor.submit(fork_and_wait, gate)
    gate.wait_for(1)
    assert {executor.submit(pid_of).result(timeout=30) for _ in range(500)} == {pid}
    gate.open()
    assert parent.result(timeout=30) == 0


def test_the_child_of_an_initializer_ends_with_that(make_each: Make) -> None:
    executor = make_each(max_workers=1, initializer=fork_and, initargs=(return_none,))
    assert executor.submit(square, 3).result(timeout=30) == 9


def test_the_child_of_a_failing_initializer_says_nothing(make: Make) -> None:
    executor = make(max_workers=1, initializer=fork_and, initargs=(fail,))
    assert executor.submit(square, 3).result(timeout=30) == 9

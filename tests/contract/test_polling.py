"""``select.epoll`` in calls: it tells what the system's tells, and lets the others go on."""

from __future__ import annotations

import os
import select
import selectors
import socket
import time
from typing import Any

import gevent
import pytest

from hybridexec import HybridExecutor

from .conftest import Make
from .helpers import square

if not hasattr(select, "epoll"):
    pytest.skip("it is Linux's own", allow_module_level=True)


def flags(polls: Any) -> list[Any]:
    """What is polled for, in all ways."""
    reader, writer = os.pipe()
    left, right = socket.socketpair()
    with left, right, polls() as poll:
        seen: list[Any] = [poll.poll(0), poll.poll(0.01), poll.closed, poll.fileno() >= 0]
        poll.register(reader, select.EPOLLIN | select.EPOLLONESHOT)
        poll.register(left, select.EPOLLIN | select.EPOLLOUT | select.EPOLLRDHUP)
        seen.append([event for _, event in poll.poll()])
        os.write(writer, b"x")
        right.shutdown(socket.SHUT_RDWR)
        seen.append(sorted(event for _, event in poll.poll(5, maxevents=2)))
        seen.append(len(poll.poll(5, 1)))
        poll.unregister(left)
        seen.append(poll.poll(0))
        poll.modify(reader, select.EPOLLIN)
        seen.append(poll.poll() == [(reader, select.EPOLLIN)])
        for wrong in (lambda: poll.register(reader), lambda: poll.unregister(left)):
            with pytest.raises(OSError) as caught:  # noqa: PT011
                wrong()
            seen.append(type(caught.value).__name__)
        with pytest.raises(TypeError):
            poll.poll("x")
        with pytest.raises(ValueError, match="maxevents"):
            poll.poll(1, 0)
        again = polls.fromfd(os.dup(poll.fileno()))
        seen.append(again.poll(5) == [(reader, select.EPOLLIN)])
        again.close()
    os.close(reader)
    os.close(writer)
    seen.append(poll.closed)
    for wrong in (poll.poll, poll.fileno, poll.__enter__):
        with pytest.raises(ValueError, match="closed epoll"):
            wrong()
    return seen


def flags_in_call() -> list[Any]:
    from select import epoll

    assert epoll is select.epoll
    assert hasattr(select, "epoll")
    return flags(epoll)


def test_it_is_what_it_was(executor: HybridExecutor) -> None:
    calls = [executor.submit(flags_in_call) for _ in range(10)]
    expected = flags(select.epoll)
    assert [call.result(timeout=30) for call in calls] == [expected] * 10


def relay(count: int) -> list[int]:
    """Each waits for the one before it."""
    pipes = [os.pipe() for _ in range(count + 1)]
    order: list[int] = []

    def pass_on(number: int) -> None:
        with select.epoll() as poll:
            poll.register(pipes[number][0], select.EPOLLIN)
            assert poll.poll(60) == [(pipes[number][0], select.EPOLLIN)]
        order.append(number)
        os.write(pipes[number + 1][1], b"x")

    waiting = [gevent.spawn(pass_on, number) for number in reversed(range(count))]
    gevent.sleep(0.05)
    assert order == []
    os.write(pipes[0][1], b"x")
    gevent.joinall(waiting, raise_error=True)
    for ends in pipes:
        for fd in ends:
            os.close(fd)
    return order


def wait_for_nothing(timeout: float | None) -> tuple[list[Any], float]:
    began = time.monotonic()
    with select.epoll() as poll:
        return poll.poll(timeout), time.monotonic() - began


def test_many_wait_at_once_and_can_be_stopped(make: Make) -> None:
    executor = make(max_workers=1)
    stuck = [executor.submit(wait_for_nothing, timeout) for timeout in (None, -1, 600)]
    assert executor.submit(relay, 20).result(timeout=60) == list(range(20))
    assert executor.submit(square, 3).result(timeout=30) == 9
    late = executor.options(timeout=0.1).submit(wait_for_nothing, None)
    assert "CallTimeout" in repr(late.exception(timeout=30))
    events, seconds = executor.submit(wait_for_nothing, 0.2).result(timeout=30)
    assert events == []
    assert seconds >= 0.19
    assert not any(call.done() for call in stuck)
    assert all(call.cancel() for call in stuck)


def changes() -> list[Any]:
    """What is registered while it is waited for counts; a native thread waits itself."""
    reader, writer = os.pipe()
    os.write(writer, b"x")
    with select.epoll() as poll:
        gevent.spawn_later(0.05, poll.register, reader, select.EPOLLIN)
        seen = [poll.poll(60) == [(reader, select.EPOLLIN)]]
        seen.append(gevent.get_hub().threadpool.apply(poll.poll) == [(reader, select.EPOLLIN)])
    os.close(reader)
    os.close(writer)
    return seen


def test_what_changes_meanwhile_counts(executor: HybridExecutor) -> None:
    assert executor.submit(changes).result(timeout=30) == [True, True]


def what_others_take() -> list[Any]:
    found = [type(selectors.DefaultSelector()).__name__, hasattr(selectors, "EpollSelector")]
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        select.nothing  # type: ignore[attr-defined]  # noqa: B018
    return found


def test_selectors_are_gevents_own_and_nothing_is_loaded(make: Make) -> None:
    executor = make(max_workers=1)
    loaded = "'hybridexec.worker.greenlets.polling' in __import__('sys').modules"
    assert executor.submit(eval, loaded).result(timeout=30) is False
    assert executor.submit(what_others_take).result(timeout=30) == ["GeventSelector", False]
    assert executor.submit(eval, loaded).result(timeout=30) is True  # this module has asked for it

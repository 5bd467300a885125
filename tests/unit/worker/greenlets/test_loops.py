"""What asyncio finds of loops: each call is a main thread to it, and sees no other's.

Greenlets run calls here because the test says so.
"""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import gevent
import greenlet
import pytest

from hybridexec.worker.greenlets import loops

NONE = (None, None)


class Calls:
    """Tells which call a greenlet runs."""

    def __init__(self) -> None:
        self._by: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def __call__(self, who: object) -> int:
        return self._by.get(who, 0)

    def begin(self, call: int) -> None:
        """The current greenlet goes on to this call."""
        self._by[greenlet.getcurrent()] = call


@pytest.fixture
def calls() -> Iterator[Calls]:
    yield Calls()
    gevent.get_hub().destroy(destroy_loop=True)


def in_runner(function: Callable[[], Any]) -> Any:
    """What a function returns in a greenlet of its own."""
    return gevent.spawn(function).get()


def in_raw_greenlet(function: Callable[[], Any]) -> Any:
    return greenlet.greenlet(function).switch()


def test_a_raw_greenlet_stands_for_the_gevent_greenlet_it_came_from(calls: Calls) -> None:
    def run() -> bool:
        inside = in_raw_greenlet(lambda: in_raw_greenlet(loops.flow))
        return inside is loops.flow() is greenlet.getcurrent()

    assert in_runner(run)
    outermost = greenlet.getcurrent()
    assert in_raw_greenlet(loops.flow) is outermost


def test_the_running_loop_is_seen_inside_of_it_and_by_nobody_else(calls: Calls) -> None:
    running = loops._Running(calls)
    look = lambda: running.loop_pid  # noqa: E731  # it is passed around

    def run() -> None:
        calls.begin(1)
        running.loop_pid = ("loop", 7)
        assert look() == in_raw_greenlet(look) == ("loop", 7)
        assert in_runner(look) == NONE
        running.loop_pid = (None, None)
        assert look() == in_raw_greenlet(look) == NONE

    in_runner(run)


def test_a_loop_that_a_call_left_running_is_not_the_next_ones(calls: Calls) -> None:
    running = loops._Running(calls)

    def run() -> None:
        calls.begin(1)
        running.loop_pid = ("loop", 7)
        calls.begin(2)
        assert running.loop_pid == NONE

    in_runner(run)


def test_each_call_has_a_loop_set_of_its_own(calls: Calls) -> None:
    local: Any = loops._Local(calls)

    def run() -> None:
        with asyncio.Runner() as runner:
            loop = runner.get_loop()
            calls.begin(1)
            local._loop, local._set_called = loop, True
            assert in_raw_greenlet(lambda: (local._loop, local._set_called)) == (loop, True)
            assert in_runner(lambda: (local._loop, local._set_called)) == (None, False)
            calls.begin(2)
            assert (local._loop, local._set_called) == (None, False)

    in_runner(run)


def test_when_there_are_many_loops_those_are_closed_that_nobody_can_use(calls: Calls) -> None:
    local: Any = loops._Local(calls)
    made: list[weakref.ref[asyncio.AbstractEventLoop]] = []
    watched = []  # as the hub keeps loops whose descriptors it watches
    kept: list[asyncio.AbstractEventLoop] = []
    last = loops._FEW + 1

    def run() -> None:
        for call in range(1, last + 1):
            calls.begin(call)
            loop: Any = asyncio.SelectorEventLoop()
            made.append(weakref.ref(loop))
            watched.append(loop._selector)
            if call == 3:
                kept.append(loop)
            local._loop = loop
            assert call == last or not loop.is_closed()
        left = [call for call, loop in enumerate(made, 1) if is_open(loop)]
        assert left == [3, last], "what a module has kept, and the call's own"
        kept.append(loop)

    in_runner(run)
    for loop in kept:
        loop.close()


def is_open(reference: weakref.ref[asyncio.AbstractEventLoop]) -> bool:
    loop = reference()
    return loop is not None and not loop.is_closed()


def test_a_call_and_the_initializer_are_main_threads(calls: Calls) -> None:
    def is_main(setup: object) -> bool:
        mended = loops._Threading(calls, setup)
        assert mended.get_ident is threading.get_ident
        return mended.main_thread() is threading.current_thread()

    def run() -> list[bool]:
        neither, initializer = is_main(None), is_main(greenlet.getcurrent())
        calls.begin(1)
        return [neither, initializer, is_main(None)]

    with ThreadPoolExecutor(1) as elsewhere:  # than on the thread that is the main one
        assert elsewhere.submit(run).result() == [False, True, True]

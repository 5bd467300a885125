"""A future's callback that another greenlet calls sees no event loop run, and a loop is seen again
as soon as its own greenlet may run."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from hybridexec.parent.work.loops import outside

FUTURE = object()


@pytest.fixture
def greenlet(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What gevent says is the current one."""
    current = SimpleNamespace()
    monkeypatch.setitem(sys.modules, "gevent", SimpleNamespace(getcurrent=lambda: current))
    return current


@pytest.fixture
def events() -> Iterator[Any]:
    from asyncio import events

    yield events
    events._set_running_loop(None)


def running(events: Any, ident: int) -> Any:
    """A loop that runs in the greenlet, or thread, with this ident."""
    loop = SimpleNamespace(_thread_id=ident)
    events._set_running_loop(loop)
    return loop


def test_without_a_loop_it_is_called_as_it_is(events: Any) -> None:
    assert outside(lambda future: (future, events._get_running_loop()))(FUTURE) == (FUTURE, None)


def test_the_greenlet_that_runs_the_loop_sees_it(events: Any) -> None:
    loop = running(events, threading.get_ident())
    assert outside(lambda _: events._get_running_loop())(FUTURE) is loop


def test_another_greenlet_does_not(events: Any, greenlet: Any) -> None:
    loop = running(events, -1)
    assert outside(lambda future: (future, events._get_running_loop()))(FUTURE) == (FUTURE, None)
    assert events._get_running_loop() is loop


def test_the_loop_is_seen_again_after_an_error(events: Any, greenlet: Any) -> None:
    loop = running(events, -1)
    with pytest.raises(ZeroDivisionError):
        outside(lambda _: 1 / 0)(FUTURE)
    assert events._get_running_loop() is loop
    assert not vars(greenlet)


def test_the_loop_is_seen_by_those_that_run_while_the_callback_waits(
    events: Any, greenlet: Any
) -> None:
    loop = running(events, -1)
    seen = []

    def wait(_: object) -> None:
        greenlet.switch_out()  # as gevent calls it when the greenlet waits
        seen.append(events._get_running_loop())

    outside(wait)(FUTURE)
    assert seen == [loop]
    assert events._get_running_loop() is loop


def test_what_the_greenlet_does_when_it_waits_is_done(events: Any) -> None:
    running(events, -1)
    done = []

    class Greenlet:
        def switch_out(self) -> None:
            done.append(True)

    current = Greenlet()
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "gevent", SimpleNamespace(getcurrent=lambda: current))
        outside(lambda _: current.switch_out())(FUTURE)
    assert done == [True]
    assert not vars(current)


def test_a_loop_that_began_meanwhile_stays(events: Any, greenlet: Any) -> None:
    running(events, -1)
    other = outside(lambda _: running(events, -2))(FUTURE)
    assert events._get_running_loop() is other

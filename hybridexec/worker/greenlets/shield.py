"""Delays what would stop a greenlet in the middle of something that must not be left half done: the
one way for our code to ask for that.

Thread: greenlets; threads without a hub pass through.
Guarantees: whatever is thrown at a greenlet (a stop of ours, a ``gevent.Timeout``, a ``kill``)
while it waits in an operation that has begun is raised when the operation is over, not before; and
a call that has the CPU in one is not interrupted (see :mod:`.critical`).

Half a message read from a pipe, or a condition that has counted a sleeper and not heard of it, is
broken for every process that uses it. What such operations wait for is about to be done by somebody
else. Only waits that go through :func:`pause` are covered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import gevent
from gevent import getcurrent
from gevent._hub_local import get_hub_if_exists
from gevent._waiter import Waiter

_TOO_LONG = object()

_shields: dict[Any, Shield] = {}


class Shield:
    """An operation of the current greenlet; until it has begun, it can be left by an exception."""

    __slots__ = ("_held", "_me", "_outer", "begun")

    def __init__(self, begun: bool = True) -> None:
        self.begun = begun
        self._held: BaseException | None = None

    def __enter__(self) -> Shield:
        self._me = getcurrent()
        self._outer = _shields.get(self._me)
        _shields[self._me] = self
        return self

    def __exit__(self, *error: object) -> None:
        if self._outer is None:
            del _shields[self._me]
        else:
            _shields[self._me] = self._outer
        held, self._held = self._held, None
        if held is not None and not (self._outer is not None and self._outer.hold(held)):
            raise held

    def begin(self) -> None:
        """There is no way back from here on, nor in the operations that this one is a part of."""
        shield: Shield | None = self
        while shield is not None and not shield.begun:
            shield.begun = True
            shield = shield._outer

    def hold(self, error: BaseException) -> bool:
        """Raise ``error`` at the end; false if there is no need to wait for that."""
        # Of several, a stop: it is what ends the call.
        if self.begun and not isinstance(self._held, gevent.GreenletExit):
            self._held = error
        return self.begun

    @property
    def holds(self) -> bool:
        """Whether something is held back."""
        return self._held is not None

    def give_up(self) -> None:
        """Raise now what is held back."""
        held, self._held = self._held, None
        assert held is not None
        raise held


def is_up() -> bool:
    """Whether an operation of the current greenlet has begun."""
    shield = _shields.get(getcurrent())
    return shield is not None and shield.begun


def begin() -> None:
    """The innermost operation of the current greenlet, if there is one, has begun."""
    shield = _shields.get(getcurrent())
    if shield is not None:
        shield.begin()


def pause(waiter: Waiter[Any], patience: float | None = None) -> Any:
    """Wait for ``waiter``; what is thrown meanwhile is held back, if there is a shield, but not for
    longer than ``patience``."""
    shield = _shields.get(getcurrent())
    timer: Any = None
    try:
        while True:
            if shield is not None and shield.holds and patience is not None and timer is None:
                timer = waiter.hub.loop.timer(patience)
                timer.start(waiter.switch, _TOO_LONG)
            try:
                result = waiter.get()
            except BaseException as error:
                if shield is None or not shield.hold(error):
                    raise
            else:
                if result is not _TOO_LONG:
                    return result
                assert shield is not None
                shield.give_up()
    finally:
        if timer is not None:
            timer.close()


def apart(function: Callable[[], object]) -> None:
    """Run ``function`` in a greenlet that is not the current call's, and wait for its end.

    What that starts outlives the call, and so does the function, if the wait is stopped.
    """
    hub = get_hub_if_exists()
    if hub is None or getcurrent() is hub:
        function()
        return
    done: Waiter[None] = Waiter(hub)

    def run() -> None:
        try:
            function()
        finally:
            hub.loop.run_callback(done.switch, None)

    # Who spawns it is the hub, to which it is attributed.
    hub.loop.run_callback(gevent.spawn, run)
    done.get()

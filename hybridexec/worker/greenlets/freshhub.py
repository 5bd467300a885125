"""Replaces the hub in the child of a fork: the old one must never run again there.

Thread: the greenlet that has forked, in the child.
Guarantees: of the greenlets that existed when the process forked, only the one that forked goes on
in the child, with those that it returns to. It and what it starts may wait: on a new hub, which is
made when first asked for.

The old hub cannot be used: its loop has the timers, descriptors and callbacks of all other
greenlets, and would handle them as soon as it ran, even if only to end. So it is kept, with all
that belongs to it, and left alone. Sockets and locks remember the hub in which they waited before:
for them the old one stands for the new. Should some code know one of the old greenlets, by a lock
that it waits for, say, then switching to it returns at once.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Iterable
from typing import Any

import gevent.os
import greenlet
from gevent._greenlet_primitives import SwitchOutGreenletWithLoop
from gevent._hub_local import set_hub
from gevent.hub import Hub, get_hub

from ... import native

_init = Hub.__init__
# Hubs that were left behind, with their loops: nothing of theirs may be deleted.
_gone: list[Any] = []
# Who may not run; None before it is known.
_barred: set[greenlet.greenlet] | None = None
# Who has forked last, and in which thread.
_forker: greenlet.greenlet | None = None
_thread = 0


def leave(hubs: Iterable[Any], at_end: Callable[[BaseException | None], None]) -> Any:
    """Have this process, which was just forked, never run any of ``hubs`` again.

    Args:
        at_end: called when the flow of control that has forked ends, in place of going on in
            the hub, with the exception that has ended it; it must not return.

    Returns: the greenlet with whose end that flow ends.
    """
    global _forker, _thread, _barred
    _barred = None
    _forker = greenlet.getcurrent()
    _thread = native.ident()
    Hub.__init__ = _init_in_child  # type: ignore[method-assign]  # that is the purpose
    top = _forker
    while top.parent is not None and not isinstance(top.parent, SwitchOutGreenletWithLoop):
        top = top.parent
    for hub in hubs:
        if not isinstance(hub, _Gone):
            _gone.append((hub, hub.loop))
            hub.__class__ = type("GoneHub", (_Gone, type(hub)), {"__slots__": ()})
    set_hub(None)  # type: ignore[arg-type]  # it takes that
    if isinstance(top.parent, SwitchOutGreenletWithLoop) and top.parent is not _forker:
        top.parent = _End(top.parent, at_end)  # type: ignore[abstract]  # it is not
    _close_what_was_to_be_closed()
    greenlet.settrace(_on_switch)
    return top


def _close_what_was_to_be_closed() -> None:
    # gevent's os.close() closes at the end of the hub's turn. (It has one since 25.8.)
    waiting: dict[int, object] = getattr(gevent.os, "_closing_fd_to_event", {})
    while waiting:
        try:
            native.close(waiting.popitem()[0])
        except OSError:
            pass


class _Gone:
    """A hub that was left behind: whoever still knows it gets to the new one."""

    __slots__ = ()

    #: Locks, events and queues look at it, and then take the hub that there is.
    dead = True

    @property
    def loop(self) -> Any:
        return get_hub().loop

    def switch(self) -> Any:
        return get_hub().switch()

    def wait(self, watcher: Any) -> Any:
        """Wait for the watcher of a socket from before the fork."""
        hub = get_hub()
        if not watcher.active:  # else it is waited for by somebody who is gone
            watcher.loop = hub.loop
        return hub.wait(watcher)

    def cancel_wait(self, watcher: Any, error: Any, close_watcher: bool = False) -> None:
        if _is_new(watcher):
            get_hub().cancel_wait(watcher, error, close_watcher)

    def cancel_waits_close_and_then(
        self, watchers: Iterable[Any], error: Any, then: Callable[..., None], *arguments: Any
    ) -> None:
        new = [watcher for watcher in watchers if _is_new(watcher)]
        get_hub().cancel_waits_close_and_then(new, error, then, *arguments)


def _is_new(watcher: Any) -> bool:
    return watcher is not None and watcher.loop is get_hub().loop


class _End(SwitchOutGreenletWithLoop):
    """Where the flow of control that has forked ends, instead of in the hub it came from."""

    def __init__(self, hub: Any, at_end: Callable[[BaseException | None], None]) -> None:
        super().__init__(None, hub)
        self._at_end = at_end
        # Who waited for the end of a greenlet is told by this loop, which never runs.
        self.loop = _gone[-1][1]
        self._back: greenlet.greenlet | None = greenlet.getcurrent()
        greenlet.greenlet.switch(self)  # an exception would pass by one that has not begun

    def run(self) -> None:
        back, self._back = self._back, None
        assert back is not None
        end: BaseException | None = None
        try:
            greenlet.greenlet.switch(back)
        except BaseException as error:
            end = error
        try:
            # It may wait, which this greenlet cannot.
            greenlet.greenlet(self._at_end).switch(end)
        finally:
            os._exit(1)

    def handle_error(self, context: object, kind: type, error: Any, trace: Any) -> None:
        """A gevent greenlet has failed."""
        self._at_end(error)


def _init_in_child(self: Any, loop: Any = None, default: Any = None) -> None:
    """Make a hub whose loop is not libev's default one: that is the old hub's."""
    _init(self, loop, None if hasattr(loop, "run") else False)
    if native.ident() != _thread:
        return
    assert _forker is not None
    # Where what ends the hub goes: LoopExit, if nothing is left to wait for, and KeyboardInterrupt.
    if not _forker.dead:
        self.parent = _forker
    # Other loops have no turn for Python's signal handlers of their own.
    self.signals = self.loop.prepare(ref=False)
    self.signals.start(_take_signals, self)
    if _barred is None:
        _bar_the_others()


def _nothing() -> None:
    pass


def _take_signals(hub: Any) -> None:
    try:
        _nothing()  # Python calls handlers when a function is called
    except BaseException:
        hub.handle_error(None, *sys.exc_info())


def _bar_the_others() -> set[greenlet.greenlet]:
    """Keep all greenlets that have begun from running, but for those that the one which has forked
    returns to. (To look for them takes time, which a child that runs a program need not take.)"""
    global _barred
    # Not isinstance(), which would load a module that is to be loaded when it is first looked at.
    _barred = {
        found for found in gc.get_objects() if issubclass(type(found), greenlet.greenlet) and found
    }
    for hub, _ in _gone:
        _barred |= {hub, hub.parent}
    allowed = _forker
    _barred.discard(_forker)
    while allowed is not None and not isinstance(allowed, Hub):
        _barred.discard(allowed)
        allowed = allowed.parent
    return _barred


def _on_switch(event: str, greenlets: tuple[greenlet.greenlet, greenlet.greenlet]) -> None:
    origin, target = greenlets
    barred = _barred
    if barred is None:
        begins = sys._getframe().f_back is None
        barred = _bar_the_others()
        if begins:
            barred.discard(target)
    if target in barred:
        while True:
            (get_hub() if origin.dead else origin).switch()

"""Makes asyncio treat a call as a main thread, and raw greenlets in it as parts of it.

Thread: main, once; then any that uses asyncio.
Guarantees: ``asyncio.get_event_loop()`` makes a loop for a call, and for the initializer, where it
makes one for a main thread, and gives no other call that loop, nor a loop that was set elsewhere.
The running loop is seen by everything that runs inside it, including raw greenlets, which take
turns with the code that started them (Playwright's synchronous API runs its loop in one), and by
nothing else.

asyncio keeps both per thread. A thread in a worker is a ``gevent.Greenlet``, and a call is a thread
of its own, though its runner goes on to the next. So they are kept per such greenlet and call: not
in a ``threading.local``, which gevent makes per greenlet of any kind. (The C module keeps them per
OS thread: :mod:`.patching` sees to it that it is not used.)
"""

from __future__ import annotations

import gc
import sys
import threading
import weakref
from collections.abc import Callable
from functools import partial
from typing import Any

import gevent
import greenlet
from gevent.hub import Hub

from ..late import after_import

#: Tells which call a greenlet runs.
_CallOf = Callable[[object], int]
#: So many loops may be left open before those that nobody has are closed.
_FEW = 64


def install(call_of: _CallOf, setup: gevent.Greenlet[..., Any]) -> None:
    """Mend asyncio, when it is imported.

    Args:
        call_of: tells which call a greenlet runs; 0 for none.
        setup: who runs the initializer.
    """
    after_import("asyncio.events", partial(_mend, call_of, setup))


def _mend(call_of: _CallOf, setup: object, events: Any) -> None:
    events.threading = _Threading(call_of, setup)
    if hasattr(events, "_running_loop"):
        events._running_loop = _Running(call_of)
    for policy in "BaseDefaultEventLoopPolicy", "_BaseDefaultEventLoopPolicy":
        if hasattr(events, policy):
            getattr(events, policy)._Local = staticmethod(partial(_Local, call_of))
    if hasattr(
        getattr(events, "_event_loop_policy", None), "_local"
    ):  # an import has used it already
        events._event_loop_policy._local = _Local(call_of)


def flow() -> Any:
    """The greenlet that stands for a thread: the ``gevent.Greenlet`` that a raw one has come from;
    where there is none, the outermost."""
    who: Any = greenlet.getcurrent()
    while not isinstance(who, gevent.Greenlet):
        parent = who.parent
        if parent is None or isinstance(parent, Hub):
            break
        who = parent
    return who


class _Running:
    """Stands for the ``threading.local`` that has the running loop."""

    def __init__(self, call_of: _CallOf) -> None:
        self._call_of = call_of

    @property
    def loop_pid(self) -> tuple[Any, int | None]:
        """The running loop, and in which process it runs."""
        who = flow()
        ran, loop_pid = who.__dict__.get("_hybridexec_loop_pid", _NONE)
        # A call may have left a raw greenlet behind whose loop has not ended.
        return loop_pid if ran == self._call_of(who) else _NONE[1]

    @loop_pid.setter
    def loop_pid(self, loop_pid: tuple[Any, int]) -> None:
        who = flow()
        if loop_pid[0] is None:
            who.__dict__.pop("_hybridexec_loop_pid", None)
        else:
            who.__dict__["_hybridexec_loop_pid"] = self._call_of(who), loop_pid


_NONE: tuple[int, tuple[Any, int | None]] = 0, (None, None)


class _Own:
    """What a flow has, in one call."""

    def __init__(self, call: int) -> None:
        self.call = call
        self.loop: Any = None
        self.set_called = False


class _Local:
    """Stands for the ``threading.local`` of a policy that has the loop that is set.

    Where a main thread's loop is not closed it goes with the process; here there would be one for
    each call, and the hub keeps them all, for it watches their descriptors. So when there are many,
    those are closed that nobody can use any more. A loop that a module has kept goes on.
    """

    def __init__(self, call_of: _CallOf) -> None:
        self._call_of = call_of
        self._owns: weakref.WeakKeyDictionary[Any, _Own] = weakref.WeakKeyDictionary()
        self._loops: weakref.WeakSet[Any] = weakref.WeakSet()
        self._many = _FEW

    def _own(self) -> _Own:
        who = flow()
        call = self._call_of(who)
        own = self._owns.get(who)
        if own is None or own.call != call:
            own = self._owns[who] = _Own(call)
        return own

    @property
    def _loop(self) -> Any:
        return self._own().loop

    @_loop.setter
    def _loop(self, loop: Any) -> None:
        self._own().loop = loop
        if loop is not None:
            self._loops.add(loop)
            if len(self._loops) > self._many:
                self._let_go()

    @property
    def _set_called(self) -> bool:
        return self._own().set_called

    @_set_called.setter
    def _set_called(self, value: bool) -> None:
        self._own().set_called = value

    def _let_go(self) -> None:
        """Close the loops of calls that have ended, but for those that somebody has kept."""
        self._many = 2 * len(self._loops)  # others may come here meanwhile
        for who, own in list(self._owns.items()):
            if own.call != self._call_of(who):
                self._owns.pop(who, None)
        gc.collect()
        loops = list(self._loops)
        loops.append(sys.modules["asyncio.events"].new_event_loop())
        references = [_references(loop) for loop in loops]
        for loop, held in zip(loops, references, strict=True):
            # Those of the last are what a loop's own parts have.
            if held == references[-1] and type(loop) is type(loops[-1]) and not loop.is_running():
                loop.close()
                self._loops.discard(loop)
        self._many = max(_FEW, 2 * len(self._loops))


def _references(loop: Any) -> int:
    """How many there are to a loop, but for those of its timers."""
    return sys.getrefcount(loop) - len(getattr(loop, "_scheduled", ()))


class _Threading:
    """Stands for ``threading`` in asyncio, where the main thread has a loop made for it."""

    def __init__(self, call_of: _CallOf, setup: object) -> None:
        self._call_of = call_of
        self._setup = setup

    def __getattr__(self, name: str) -> Any:
        return getattr(threading, name)

    def main_thread(self) -> threading.Thread:
        """A call is one."""
        who = flow()
        is_main = who is self._setup or self._call_of(who)
        return threading.current_thread() if is_main else threading.main_thread()

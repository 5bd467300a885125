"""Notes what calls have started: greenlets, threads (which are greenlets in a patched worker), and
work that they have submitted to thread pools.

Thread: main notes, where something is started, and the hub looks.
Guarantees: what is started belongs to the call that started it, even when that runner runs another
call. What a thread pool's thread runs belongs to whoever submitted it, not to whoever started the
thread. Being noted keeps nothing alive.

A greenlet or thread that starts something starts it for itself; when it has ended, what it started
passes to whoever started it. This costs 0.3 µs a spawn, and a call that starts nothing nothing.
"""

from __future__ import annotations

import itertools
import sys
import threading
from collections import defaultdict
from collections.abc import Callable
from types import CodeType, FrameType
from typing import Any
from weakref import ref

import gevent
from gevent import getcurrent

from ... import native
from ..late import after_import

#: Whether threads of calls are daemons, if nobody has said so: as good as true, and yet another.
_INHERITED = 1


class Begun:
    """A greenlet that a call has begun, or something that one has, or work for a thread pool."""

    __slots__ = ("by", "is_greenlet", "number", "owner", "thing")

    def __init__(self, thing: Any, owner: Owner, by: int, number: int) -> None:
        #: A weak reference to the greenlet, or the work item.
        self.thing = thing
        self.is_greenlet = isinstance(thing(), gevent.Greenlet)
        #: For whom it was begun.
        self.owner = owner
        #: Who began it: the call, or the number of what did.
        self.by = by
        #: Its place in the order in which they were begun.
        self.number = number

    @property
    def has_ended(self) -> bool:
        """Whether it is over."""
        thing = self.thing()
        if thing is None:
            return True
        return bool(thing.dead if self.is_greenlet else thing.future.done())


#: A call's id, or what a call has begun.
Owner = int | Begun


class Descendants:
    """Knows what calls have begun that has not ended."""

    def __init__(self, call_of: Callable[[object], int]) -> None:
        """Must be made before calls run.

        Args:
            call_of: the call that a greenlet runs; 0 if it runs none.
        """
        self._call_of = call_of
        self._greenlets: dict[Any, Begun] = {}
        self._items: dict[Any, Begun] = {}
        # What the threads of thread pools run.
        self._running: dict[Any, Any] = {}
        self._numbers = itertools.count(1)
        self._hub = gevent.get_hub()
        self._indexed = -1
        self._index: dict[Owner, list[Begun]] = {}
        # What the threads of thread pools are for, and the code with which they run what was
        # submitted.
        self._serve: object = None
        self._run_item: CodeType | None = None
        # Of whom threads inherit it in a call.
        threading._DummyThread._daemonic = _INHERITED  # type: ignore[attr-defined]  # private
        gevent.Greenlet.add_spawn_callback(self._note)
        after_import("concurrent.futures.thread", self._mend)

    def __bool__(self) -> bool:
        return bool(self._greenlets or self._items)

    def _begin(self, thing: Any) -> Begun | None:
        """The current greenlet begins something."""
        me = getcurrent()
        begun: Begun | None
        item = self._running.get(me)
        if item is not None:
            begun = item.begun
            if begun is None:
                return None
            return Begun(thing, begun.owner, begun.number, next(self._numbers))
        call = self._call_of(me)
        if call:
            return Begun(thing, call, call, next(self._numbers))
        begun = self._greenlets.get(ref(me))
        if begun is None:
            return None
        # Of threads that begin one another, and end, not all are to be kept.
        begun.owner = _living(begun.owner)
        return Begun(thing, begun, begun.number, next(self._numbers))

    def _note(self, greenlet: Any) -> None:
        me = ref(greenlet, self._forget)
        begun = self._begin(me)
        if begun is not None:
            self._greenlets[me] = begun

    def _forget(self, greenlet: Any) -> None:
        self._greenlets.pop(greenlet, None)

    def _mend(self, thread: Any) -> None:
        """Have thread pools say who has submitted what, and what they run."""
        running, begin, items = self._running, self._begin, self._items

        class WorkItem(thread._WorkItem):  # type: ignore[misc]  # private
            def __init__(self, *parts: Any) -> None:
                super().__init__(*parts)
                me = ref(self, lambda gone: items.pop(gone, None))
                self.begun = begin(me)
                if self.begun is not None:
                    items[me] = self.begun

            def run(self, *parts: Any) -> None:
                me = getcurrent()
                running[me] = self
                try:
                    super().run(*parts)
                finally:
                    del running[me]

        self._serve, self._run_item = thread._worker, thread._WorkItem.run.__code__
        thread._WorkItem = WorkItem

    # -- what the hub asks --------------------------------------------------------------------

    @property
    def latest(self) -> int:
        """Higher than the number of what has been begun, lower than that of what will be."""
        return next(self._numbers)

    def begun_by(self, owner: Owner) -> list[Begun]:
        """What has been begun by ``owner``, or by something of it that has ended, before this turn
        of the hub."""
        turn = self._hub.loop.iteration
        if turn != self._indexed:
            self._indexed = turn
            index: dict[Owner, list[Begun]] = defaultdict(list)
            for begun in [*self._greenlets.values(), *self._items.values()]:
                index[_living(begun.owner)].append(begun)
            self._index = dict(index)
        return self._index.get(owner, [])

    def call_for(self, greenlet: Any) -> int:
        """The call whose descendant a greenlet is, or whose work it does; 0 if there is none."""
        item = self._running.get(greenlet)
        owner: Owner | None = self._greenlets.get(ref(greenlet)) if item is None else item.begun
        while isinstance(owner, Begun):
            owner = owner.owner
        return owner or 0

    def runs(self, item: Any) -> Any:
        """The greenlet that runs work of a pool's; None if that waits for a thread."""
        return next((who for who, what in [*self._running.items()] if what is item), None)

    def serves_others(self, greenlet: Any) -> bool:
        """Whether a greenlet is a thread of a pool, which works for who submits something, or waits
        for work; or of a pool of processes, which nobody could use without it."""
        thread = thread_of(greenlet)
        return thread is not None and (
            (self._serve is not None and getattr(thread, "_target", None) is self._serve)
            or type(thread).__module__ == "concurrent.futures.process"
        )

    def is_in_item(self, greenlet: Any) -> bool:
        """Whether a pool's thread is in what was submitted, not on its way there or back."""
        frame = greenlet.gr_frame
        called: FrameType | None = None
        while frame is not None and frame.f_code is not self._run_item:
            called, frame = frame, frame.f_back
        return frame is not None and (
            called is None or called.f_globals.get("__name__") != "concurrent.futures._base"
        )


def thread_of(greenlet: Any) -> Any:
    """The thread that a greenlet is; None if it is no thread, or has ended."""
    thread = getattr(getattr(greenlet, "_run", None), "__self__", None)
    return thread if isinstance(thread, native.original("threading", "Thread")) else None


def is_daemon(greenlet: Any) -> bool:
    """Whether somebody has said that a thread is a daemon, which those of calls are anyhow."""
    return getattr(thread_of(greenlet), "_daemonic", None) is True


def seems_to_serve(greenlet: Any) -> bool:
    """Whether a daemon may be there for others than its beginner: it waits for something to do, or
    is the standard library's."""
    frame = greenlet.gr_frame
    outermost = "threading"
    while frame is not None:
        package = str(frame.f_globals.get("__name__")).partition(".")[0]
        if package == "threading" and frame.f_code.co_name == "wait":
            return True
        if package not in ("threading", "gevent", "hybridexec"):
            outermost = package
        frame = frame.f_back
    return outermost != "threading" and outermost in sys.stdlib_module_names


def joined_by(greenlet: Any) -> set[int]:
    """The threads whose end a greenlet waits for, by the ``id`` of their greenlets."""
    joined: set[int] = set()
    frame = greenlet.gr_frame
    while frame is not None:
        if frame.f_code.co_name == "join" and frame.f_globals.get("__name__") == "threading":
            joined.add(getattr(frame.f_locals.get("self"), "ident", 0))
        frame = frame.f_back
    return joined


def _living(owner: Owner) -> Owner:
    while isinstance(owner, Begun) and owner.has_ended:
        owner = owner.owner
    return owner

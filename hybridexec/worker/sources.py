"""Streaming calls: what they return is iterated where they run, and its items are sent one by one.

Thread: whichever runs a call; :meth:`Sources.more` runs on who reads the call pipe, and
:meth:`Sources.look` on the main thread.
Guarantees: items leave in the order in which they were yielded, and before the call's result, which
is what its generator returned; a call is never further ahead of who fetches its items than its
:class:`.allowance.Allowance` says. When the call ends, because it is stopped too, its generator is
closed, so that its ``finally`` blocks have run before its slot is free.

Items are put into a row that is on its way out (:class:`.rows.Yields`), as short results are: so
they leave as soon as the call waits, or the helper thread gets to it, and together if they come
faster than that.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any, Protocol

from ..wire import payload
from ..wire.allowance import Allowance, size_of
from ..wire.surrounded import Surrounded
from ..wire.wording import add_note, function_name, retell
from .rows import Put, Yields


class Event(Protocol):
    """What a call waits for, as calls of its lane do."""

    def set(self) -> object:
        """Let it go on."""

    def clear(self) -> object:
        """Have it wait."""

    def wait(self) -> object:
        """Wait."""


class Source:
    """Where one call's items come from: how far it may go, and what it has yielded."""

    def __init__(self, call: int, window: int, put: Put, event: Event) -> None:
        self.call = call
        self.allowance = Allowance(window)
        self._put = put
        self.event = event
        self._row = Yields(call, False)
        #: How many of its items have been fetched; written by who reads the call pipe.
        self.fetched = 0

    @property
    def has_to_wait(self) -> bool:
        """Whether it must not go on yet."""
        allowance = self.allowance
        if self.fetched != allowance.fetched:
            allowance.fetch(self.fetched)
        return not allowance.left

    def send(self, item: Any) -> None:
        """Send an item.

        Raises:
            Exception: whatever pickling it raised.
        """
        packed = not payload.are_plain((item,))
        if packed:
            item = payload.dumps(item)
        row = self._row
        if row.packed is not packed:
            row = self._row = Yields(self.call, packed)
        self.allowance.send(size_of(item))
        row.values.append(item)
        if len(row.values) == 1:
            self._put(row)


class Sources:
    """Those of the calls that run."""

    def __init__(
        self,
        call: Callable[[], int],
        put: Put,
        new_event: Callable[[], Event],
        raised: Callable[[int], BaseException | None],
    ) -> None:
        """
        Args:
            call: tells the call that runs.
            put: takes what the parent shall get.
            new_event: makes what a call can wait for.
            raised: what has been raised in this call, which runs, to stop it; None if nothing has.
        """
        #: As the argument.
        self.raised = raised
        self._call = call
        self._put = put
        self._new_event = new_event
        self._open: dict[int, Source] = {}
        #: Those that were told something, for the main thread to see to.
        self.stirred: deque[Source] = deque()

    def open(self, window: int) -> Source:
        """One for the call that runs; :meth:`end` must follow."""
        call = self._call()
        source = self._open[call] = Source(call, window, self._put, self._new_event())
        return source

    def end(self, source: Source) -> None:
        """Its call yields nothing any more."""
        del self._open[source.call]

    def look(self) -> None:
        """Let those go on that were told something; on the main thread."""
        while self.stirred:
            self.stirred.popleft().event.set()

    def let_go(self) -> None:
        """In a child of the process: what is yielded goes nowhere, and waits for nobody."""
        for source in self._open.values():
            source.allowance.lift()

    # -- from who reads the call pipe -----------------------------------------------------------

    def stir(self, call: int) -> None:
        """A call is to be stopped, and to find that out if it waits. :meth:`look` must follow."""
        source = self._open.get(call)
        if source is not None:
            self.stirred.append(source)

    def more(self, call: int, fetched: int) -> None:
        """So many of a call's items have been fetched. :meth:`look` must follow."""
        source = self._open.get(call)
        if source is not None:
            source.fetched = fetched
            self.stirred.append(source)


class Streaming:
    """A function whose calls yield, and return what their generators do."""

    def __init__(self, window: int, sources: Sources, function: Callable[..., Any]) -> None:
        self._function = function
        self._window = window
        self._sources = sources
        # As whoever names the call sees them.
        self.__qualname__ = function_name(function)
        self.__module__ = getattr(function, "__module__", __name__)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Call the function, and send what its result yields.

        Raises:
            TypeError: the result cannot be iterated.
            Exception: whatever the function or its generator raised, or pickling an item.
        """
        source = self._sources.open(self._window)
        try:
            items = iterator(self._function(*args, **kwargs), self.__qualname__)
            return self._send_all(source, items)
        finally:
            self._sources.end(source)

    def wait(self, source: Source) -> None:
        """Wait until the call may go on.

        Raises:
            BaseException: what was raised in it to stop it, and which it has swallowed: nobody
                fetches what it yields any more.
        """
        while source.has_to_wait:
            stop = self._sources.raised(source.call)
            if stop is not None:
                raise stop
            source.event.clear()
            if source.has_to_wait:
                source.event.wait()

    def _send_all(self, source: Source, items: Iterator[Any]) -> Any:
        name = self.__qualname__
        try:
            while True:
                if source.has_to_wait:
                    self.wait(source)
                try:
                    item = next(items)
                except StopIteration as end:
                    return end.value
                send(source, item, name)
                del item
        finally:
            close = getattr(items, "close", None)
            if close is not None:
                close()


def install(
    function: Callable[..., Any], streaming: Callable[[Callable[..., Any]], Callable[..., Any]]
) -> Callable[..., Any]:
    """``function`` with ``streaming`` of it in its place; what surrounds its calls surrounds all
    of their time."""
    if not isinstance(function, Surrounded):
        return streaming(function)
    around = copy.copy(function)
    around.function = install(function.function, streaming)
    return around


def iterator(result: Any, name: str) -> Iterator[Any]:
    """What iterates a call's result."""
    kind = type(result)
    if hasattr(kind, "__aiter__") or hasattr(kind, "__await__"):
        if hasattr(result, "close"):
            result.close()  # a coroutine that is never awaited complains
        raise TypeError(
            f"{name} returned an object of type {kind.__qualname__}, which only an event loop can "
            'iterate: stream it through executor.options(lane="async")'
        )
    if not hasattr(kind, "__iter__") and not hasattr(kind, "__getitem__"):
        raise TypeError(
            f"stream() iterates what the function returns, but {name} returned an object of type "
            f"{kind.__qualname__}, which cannot be iterated. Write it with yield, or have it "
            "return an iterator or a list; for a single result there is submit()"
        )
    return iter(result)


def send(source: Source, item: Any, name: str) -> None:
    """Send an item; if that fails, say what has failed."""
    try:
        source.send(item)
    except Exception as error:
        kind = function_name(type(item))
        what = f"an item that {name} yielded, of type {kind}, could not be pickled"
        retell(error, what, "Yield plain data instead")
        add_note(error, f"{what[0].upper()}{what[1:]}. Yield plain data instead.")
        raise

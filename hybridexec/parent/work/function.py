"""The functions of calls: each is sent to a worker once, and named by a number from then on.

Thread: callers' threads intern functions; the turn holder reads them.
Guarantees: a number stands for a function that is pickled by reference, or for the calls of one
``map`` only; so calls run what they would run if the function were pickled with each of them.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from ...styles import PLAIN, STREAMS, style_of
from ...wire import fragments, payload, wording
from ...wire.surrounded import Surrounded, innermost
from . import session

_numbers = itertools.count(1)
_NOTHING = object()  # is no user's function
_PLAIN = Surrounded(len)  # stands for what is none


class Function:
    """A function as workers know it."""

    __slots__ = (
        "_variant",
        "kept",
        "lasting",
        "listener",
        "name",
        "needs",
        "number",
        "packer",
        "payload",
        "style",
    )

    def __init__(
        self,
        pickled: payload.Payload,
        lasting: bool,
        name: str = "...",
        needs: session.Pieces = (),
    ) -> None:
        self.number = next(_numbers)
        self.payload = pickled
        #: The pieces of ``__main__`` that a worker must have, in this order.
        self.needs = needs
        # The last result of needing().
        self._variant: Function | None = None
        #: Whether later batches may use it too. If not, workers forget it after its batch.
        self.lasting = lasting
        #: Its name in messages to the user.
        self.name = name
        #: Makes fragments of its calls' arguments; None before there were such that are not plain.
        self.packer: fragments.Packer | None = None
        #: The function itself, where it must be kept alive so that its id is not reused.
        self.kept: object = _NOTHING
        #: See :attr:`.surrounded.Surrounded.listener`.
        self.listener: Callable[[list[Any]], object] | None = None
        #: What its calls give.
        self.style = PLAIN

    def needing(self, more: session.Pieces) -> Function:
        """This function for calls whose arguments need ``more`` to be unpickled."""
        if all(piece in self.needs for piece in more):
            return self
        needs = session.merged(self.needs, more)
        variant = self._variant
        if variant is None or variant.needs != needs:
            variant = self._variant = Function(self.payload, False, self.name, needs)
            variant.listener = self.listener
            variant.style = self.style
        return variant


#: Stands for the function of a call that could not be pickled.
UNSENT = Function(b"", lasting=True)


class Functions:
    """The functions that an executor has been given."""

    def __init__(self) -> None:
        # Those that need not be interned again, by id. (Not by the function: a proxy may be equal
        # to the function it wraps, and do more.)
        self._known: dict[int, Function] = {}
        #: The last of them that was asked for: mostly it is asked for again.
        self.last = UNSENT
        # The last function of __main__ that was asked for: valid as long as what it needs is.
        self._again = UNSENT

    def intern(self, function: Callable[..., Any]) -> Function:
        """The :class:`Function` of ``function``.

        Raises:
            TypeError: it is not callable.
            Exception: whatever pickling it raised.
        """
        known = self._known.get(id(function))
        if known is not None:
            self.last = known
            return known
        check_callable(function)
        lasting = payload.travels_by_reference(function)
        pickled, needs = session.dumps(function)
        around = function if isinstance(function, Surrounded) else _PLAIN
        more = around.all_needs()
        if more:
            needs = session.merged(needs, more)
        again = self._again
        if needs and again.payload == pickled and again.needs == needs:
            return again
        interned = Function(pickled, lasting, wording.function_name(function), needs)
        interned.listener = around.listener
        interned.style = style_of(innermost(function))
        if around.constant:
            interned.kept = function
            self.last = interned
        elif lasting:
            interned.kept = function
            self._known[id(function)] = interned
        elif needs:
            self._again = interned
        return interned


def check_callable(function: object) -> None:
    """Raise TypeError for what cannot be called."""
    if not callable(function):
        raise TypeError(f"the function to call must be callable, not {type(function).__name__}")


def refuse_items(function: Function) -> None:
    """Raise TypeError for a generator function, whose calls have no one result."""
    if function.style in STREAMS:
        raise TypeError(
            f"{function.name} is a generator function: calling it in a worker would only make a "
            "generator, which cannot be sent back. Use executor.stream to get its items as they "
            "come, or submit a function that returns a list of them"
        )

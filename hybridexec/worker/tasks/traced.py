"""Keeps the status page's ``CURRENT`` exact: which call has the CPU.

Thread: main, whenever a call goes on or waits.
Guarantees: while such a call's own code runs, ``CURRENT`` is its id; while the loop runs, or what
calls have started beside them, it is 0.

It costs about 0.5 µs each time a call waits, so it begins with the first call that needs it (see
:class:`.inbox.Job`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from types import CoroutineType
from typing import Any

from ...wire.page import CURRENT


class Traced:
    """Waits for what a call has returned, and tells when that has the CPU."""

    __slots__ = ("_awaitable", "_call", "_words")

    def __init__(self, awaitable: Awaitable[Any], words: memoryview[int], call: int) -> None:
        """
        Args:
            words: the status page's.
        """
        self._awaitable = awaitable
        self._words = words
        self._call = call

    def __await__(self) -> Generator[Any, Any, Any]:
        words, call = self._words, self._call
        awaited = self._awaitable
        # Also looked for by name, from outside: see places.
        steps: Any = awaited if type(awaited) is CoroutineType else awaited.__await__()
        send = getattr(steps, "send", None) or (lambda result: next(steps))
        throw = getattr(steps, "throw", None) or _raise
        words[CURRENT] = call
        result: Any = None
        step = send
        while True:
            try:
                waits_for = step(result)
            except StopIteration as end:
                return end.value
            words[CURRENT] = 0
            try:
                result = yield waits_for
                step = send
            except BaseException as error:
                result, step = error, throw
            words[CURRENT] = call


def _raise(error: BaseException) -> Any:
    raise error

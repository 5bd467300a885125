"""The namespace of a ``__main__`` that this worker cannot import: names are bound when a function
needs them.

Thread: whichever reads the call pipe adds and removes pieces; calls bind them.
Guarantees: a name is bound again only if the parent has bound it again; until then it keeps what
calls have made of it. No user code runs where pieces are added or removed.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..wire import payload

#: A piece of ``__main__``: its number, and its name; none for a class.
Need = tuple[int, str]


class Session:
    """What the worker knows of ``__main__``."""

    def __init__(self) -> None:
        # By number; and for each name, the newest.
        self._payloads: dict[int, payload.Payload] = {}
        self._newest: dict[str, int] = {}
        # What is bound, or has been: for each name, and of classes.
        self._bound: dict[str, int] = {}
        self._defined: set[int] = set()
        # What functions need, by their numbers, and how many need a piece.
        self._needs: dict[int, list[Need]] = {}
        self._holders: dict[int, int] = {}

    def learn(self, number: int, name: str, piece: payload.Payload) -> None:
        """There is a piece, that will be needed."""
        self._payloads[number] = piece
        before = self._newest.get(name, 0)
        # Later pieces have lower numbers. An earlier one comes for a call that was before them.
        if name and number < before:
            self._newest[name] = number
            self._drop(before, name)

    def hold(self, function: int, needs: list[Need]) -> None:
        """A function needs these pieces."""
        self._needs[function] = needs
        for number, _ in needs:
            self._holders[number] = self._holders.get(number, 0) + 1

    def let_go(self, function: int) -> None:
        """That function is not needed any more."""
        for number, name in self._needs.pop(function, ()):
            self._holders[number] -= 1
            self._drop(number, name)

    def _drop(self, number: int, name: str) -> None:
        """Forget a piece, if a newer one has taken its place and nobody needs it."""
        if self._holders.get(number):
            return
        self._holders.pop(number, None)
        if name and self._newest.get(name) != number:
            self._payloads.pop(number, None)

    def have(self, pieces: Iterable[Need]) -> None:
        """These are bound or defined here already."""
        for number, name in pieces:
            if name:
                self._bound[name] = number
            else:
                self._defined.add(number)

    def bind(self, function: int) -> None:
        """Have all that a function needs, as it needs it.

        Raises:
            TypeError: something could not be pickled, and there is nothing of that name here.
            Exception: whatever unpickling raised.
        """
        needs = self._needs.get(function)
        if needs:
            self.bind_all(needs)

    def bind_all(self, needs: Iterable[Need]) -> None:
        """As :meth:`bind`, for these pieces."""
        # Workers start sooner without; and only here may it be imported, not by the helper thread.
        from ..wire import mains

        for number, name in needs:
            if self._bound.get(name) == number or number in self._defined:
                continue
            value = payload.loads(self._payloads[number])
            names, variable = mains.find(name)
            if isinstance(value, mains.Absent):
                if not name or variable not in names:
                    raise mains.Missing(value.reason)
            elif name:
                names[variable] = value
            self.have([(number, name)])

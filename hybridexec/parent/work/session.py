"""Sends workers what they need of a ``__main__`` that they cannot import: a notebook's, a prompt's.

Thread: those that pickle calls: callers' threads.
Guarantees: a call finds in its worker the globals that its function uses, with the values that they
have when it is submitted; a global that has not changed since it was sent keeps, in each worker,
the state in which calls have left it.

A worker has one namespace for all functions of such a ``__main__``, whose functions and classes are
pickled as references into it. What they refer to is sent separately, in *pieces*: a class, or a
name and its value. Each piece has a number and is sent to a worker once. A name that was bound
again, or whose value was changed in place, becomes a new piece. To notice changes in place, an
object is pickled again and compared: a small one each time; a large one, a function or a class once
per statement of ``__main__`` that makes calls.
"""

from __future__ import annotations

import contextlib
import itertools
import pickle
import sys
import types
from typing import Any

from ...wire import mains, payload, prompt
from ...wire.contract import FlatPickle
from ...wire.wording import text_of
from .references import Definition, Key, Pickled, References, ToKnownTypes, WithLocks, pickled

_CONSTANT = frozenset({int, float, bool, complex, type(None), str, bytes, types.ModuleType})

_numbers = itertools.count(1)


class Piece:
    """A class, or a name and its value, as workers know it."""

    __slots__ = (
        "digest",
        "first",
        "name",
        "number",
        "payload",
        "replaces",
        "seen",
        "uses",
        "value",
    )

    def __init__(self, name: str, value: object, replaces: int) -> None:
        self.number = -next(_numbers)  # functions have the positive ones
        #: Empty for a class.
        self.name = name
        self.value = value
        #: The number of the piece that it replaces; 0 if there is none.
        self.replaces = replaces
        self.payload: payload.Payload = b""
        self.digest = b""
        #: What must be there before it is unpickled, and what it uses later; with their users.
        self.first: dict[Key, str] = {}
        self.uses: dict[Key, str] = {}
        #: The statement during which it was last compared.
        self.seen: object = None


Pieces = tuple[Piece, ...]


class Session:
    """The pieces of this process's ``__main__``."""

    def __init__(self) -> None:
        self._pieces: dict[Key, Piece] = {}
        # Those that a piece contains because they cannot come before it.
        self._inside: dict[Key, set[Key]] = {}
        self._statement: object = None

    def dumps(
        self, value: object, references: References | None = None
    ) -> tuple[payload.Payload, Pieces]:
        """Pickle ``value``; also returns the pieces that a worker must have before it unpickles
        that, in order."""
        done = pickled(value, references or References())
        return payload.packed(*done[:2]), self._collect(done.first, done.uses)

    def _collect(self, first: dict[Key, str], uses: dict[Key, str]) -> Pieces:
        statement = _statement()
        if statement != self._statement:
            self._statement = statement
            self._forget()
        ordered: dict[Key, Piece] = {}
        later = list(uses.items())
        begun: set[Key] = set()

        def add(key: Key, user: str, outer: Key | None) -> None:
            if key in ordered:
                return
            if key in begun:
                # Each needs the other: this one is made again, and contains the other.
                assert outer is not None
                self._inside.setdefault(outer, set()).add(key)
                self._pieces.pop(outer, None)
                raise _InACircle(outer)
            begun.add(key)
            while True:
                piece = self._piece(key, user, statement)
                if piece is None:
                    begun.discard(key)
                    return
                try:
                    for each, by in piece.first.items():
                        add(each, by, key)
                    break
                except _InACircle as circle:
                    if circle.key != key:
                        raise
            ordered[key] = piece
            later.extend(piece.uses.items())

        for key, user in first.items():
            add(key, user, None)
        while later:
            add(*later.pop(), None)
        return tuple(ordered.values())

    def _forget(self) -> None:
        """Drop the pieces of values that their names do not refer to any more."""
        for key, piece in list(self._pieces.items()):
            if isinstance(key, str):
                names, name = mains.find(key)
                if names.get(name) is not piece.value:
                    del self._pieces[key]

    def _piece(self, key: Key, user: str, statement: object) -> Piece | None:
        """The up-to-date piece for ``key``; None for a name that is not bound."""
        value: Any = key
        if isinstance(key, str):
            names, name = mains.find(key)
            if name not in names:
                return None
            value = names[name]
        last = self._pieces.get(key)
        if last is not None and last.value is value and not _may_differ(last, statement):
            return last
        piece = Piece(
            key if isinstance(key, str) else "", value, 0 if last is None else last.number
        )
        piece.seen = statement
        whole = value if isinstance(key, str) else Definition(key)
        try:
            done = pickled(whole, References({key} | self._inside.get(key, set()), True))
        except Exception as error:
            piece.payload = payload.dumps(mains.Absent(_reason(key, user, error)))
            piece.digest = b"absent"
        else:
            piece.first, piece.uses = done.first, done.uses
            piece.digest = _digest(done)
        if last is not None and last.value is value and last.digest == piece.digest:
            last.first, last.uses, last.seen = piece.first, piece.uses, statement
            return last
        if not piece.payload:
            piece.payload = payload.packed(*done[:2])
        self._pieces[key] = piece
        return piece


class _InACircle(Exception):
    def __init__(self, key: Key) -> None:
        super().__init__(key)
        self.key = key


def _may_differ(piece: Piece, statement: object) -> bool:
    """Whether an object may have been changed since it was last compared."""
    kind = type(piece.value)
    if kind in _CONSTANT:
        return False
    travelling = piece.payload
    small = isinstance(travelling, bytes) or travelling.size <= payload.INLINE_LIMIT
    if small and kind is not types.FunctionType and not isinstance(piece.value, type):
        return True
    # Other threads run no statement: there, large objects are not compared.
    return statement != piece.seen or (small and statement is None)


def _statement() -> object:
    """The statement of ``__main__`` that runs: its code, and the position in that."""
    namespaces = [names for _, names in mains.namespaces()]
    frame: Any = sys._getframe()
    while frame is not None:
        # IPython has used other names for its cells.
        if frame.f_code.co_name.startswith(("<module", "<cell")) and any(
            frame.f_globals is names for names in namespaces
        ):
            return frame.f_code, frame.f_lasti
        frame = frame.f_back
    return None


def _digest(done: Pickled) -> bytes:
    import hashlib  # slow to load, as is what make_anew() needs

    digest = hashlib.blake2b(digest_size=16)
    for piece in done.pieces:
        digest.update(piece)
    for buffer in done.buffers:
        digest.update(buffer.raw())
    return digest.digest()


def _reason(key: Key, user: str, error: Exception) -> str:
    if isinstance(key, str):
        what = f"the global {mains.find(key)[1]!r}, which {user} uses,"
    else:
        what = f"the class {key.__qualname__}"
    return (
        f"{what} could not be pickled: "
        f"{type(error).__name__}: {text_of(error)}. Have each worker make its own: in an "
        "initializer that declares it global, or in the function that uses it"
    )


_session = Session()


def is_needed() -> bool:
    """Whether anything may need pieces; if not, :func:`.payload.dumps` does as well."""
    return payload.main_by_value or prompt.is_open()


def dumps(value: object) -> tuple[payload.Payload, Pieces]:
    """Pickle ``value``; also returns the pieces of ``__main__`` that it needs.

    Raises:
        Whatever pickling it raised.
    """
    if is_needed():
        return _session.dumps(value)
    return payload.dumps(value), ()


def dumps_known(value: object) -> bytes:
    """Pickle exception types that errors will be compared with, and functions that do so."""
    if not is_needed():
        travelling = payload.dumps(value)
        if isinstance(travelling, bytes):
            return travelling
    # What is too large for a frame's head, in one piece.
    pieces = payload.Pieces()
    payload.value_pickler()(pieces, None, ToKnownTypes()).dump(value)
    return b"".join(pieces)


def dumps_flat(value: object) -> FlatPickle:
    """As :func:`dumps`, in a form that any pickle can contain: for what workers are set up with.

    Each worker makes new locks in place of threads' locks (a forked one would have copies).
    """
    try:
        travelling, pieces = dumps(value)
    except (TypeError, pickle.PicklingError) as refusal:
        try:
            travelling, pieces = _session.dumps(value, WithLocks())
        except Exception:
            raise refusal from None
    flat = [(piece.number, piece.name, payload.flat(piece.payload)) for piece in pieces]
    return payload.flat(travelling), flat


def needs(value: object) -> list[tuple[int, str]]:
    """The numbers and names of the pieces that ``value`` needs; none if it cannot be pickled."""
    with contextlib.suppress(Exception):
        return [(piece.number, piece.name) for piece in dumps(value)[1]]
    return []


def merged(pieces: Pieces, more: Pieces) -> Pieces:
    """All of these pieces; of two with the same name, the one in ``more``."""
    keys = {piece.name or piece.value for piece in more}
    return (*more, *(piece for piece in pieces if (piece.name or piece.value) not in keys))

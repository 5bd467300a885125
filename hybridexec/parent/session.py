"""What workers are to know of a ``__main__`` that they cannot import: a notebook's, a prompt's.

Runs on: whoever pickles a call: callers' threads.
Guarantees: a call finds in its worker the globals that its function uses as they are when it is
submitted; what has not changed since a worker was sent it stays there as calls have left it.

A worker has one namespace for all functions of such a ``__main__``. Its functions and classes are
pickled as references into that. What they refer to travels apart, in *pieces*: a class, or a name
and the value that is bound to it. Each piece has a number and is sent to a worker once. What is
bound anew, or was changed in place, becomes a new piece. To find out about a change in place, an
object is pickled again, and compared: a small one each time; a large one, a function or a class
once in each statement of ``__main__`` that calls are made from.
"""

from __future__ import annotations

import contextlib
import itertools
import pickle
import sys
import types
from collections.abc import Iterable
from typing import Any, NamedTuple

from ..wire import mains, payload, prompt
from ..wire.contract import Pickled
from ..wire.wording import text_of

#: Names of every module's own.
_OWN = frozenset({"__builtins__", "__loader__", "__name__", "__spec__"})
_CONSTANT = frozenset({int, float, bool, complex, type(None), str, bytes, types.ModuleType})

# What a piece is for: a global's name, or a class.
Key = str | type

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
        self.number = -next(_numbers)  # functions have the others
        #: Empty for a class.
        self.name = name
        self.value = value
        #: The number of the piece in whose place it is, 0 if there is none.
        self.replaces = replaces
        self.payload: payload.Payload = b""
        self.digest = b""
        #: What must be there before it is unpickled, and what is used by it later, by whom.
        self.first: dict[Key, str] = {}
        self.uses: dict[Key, str] = {}
        #: The statement in which it was looked at last.
        self.seen: object = None


Pieces = tuple[Piece, ...]


class _Pickled(NamedTuple):
    pieces: list[bytes]
    buffers: list[pickle.PickleBuffer]
    first: dict[Key, str]
    uses: dict[Key, str]


class Session:
    """The pieces of this process's ``__main__``."""

    def __init__(self) -> None:
        self._pieces: dict[Key, Piece] = {}
        # Which others a piece has in itself, because they could not come before it.
        self._inside: dict[Key, set[Key]] = {}

    def dumps(self, value: object) -> tuple[payload.Payload, Pieces]:
        """Pickle ``value``; also the pieces that a worker must have before it unpickles that, in
        their order."""
        pickled = _pickle(value, set(), False)
        return payload.packed(*pickled[:2]), self._collect(pickled.first, pickled.uses)

    def _collect(self, first: dict[Key, str], uses: dict[Key, str]) -> Pieces:
        statement = _statement()
        ordered: dict[Key, Piece] = {}
        later = list(uses.items())
        begun: set[Key] = set()

        def add(key: Key, user: str, outer: Key | None) -> None:
            if key in ordered:
                return
            if key in begun:
                # Each needs the other: this one is made again, with the other in itself.
                assert outer is not None
                self._inside.setdefault(outer, set()).add(key)
                self._pieces.pop(outer, None)
                raise _InACircle(outer)
            begun.add(key)
            while True:
                piece = self._piece(key, user, statement)
                if piece is None:
                    return
                try:
                    for each, by in piece.first.items():
                        add(each, by, key)
                    break
                except _InACircle as circle:
                    if circle.key is not key:
                        raise
            ordered[key] = piece
            later.extend(piece.uses.items())

        for key, user in first.items():
            add(key, user, None)
        while later:
            add(*later.pop(), None)
        return tuple(ordered.values())

    def _piece(self, key: Key, user: str, statement: object) -> Piece | None:
        """The piece for ``key`` as it is now; None for a name that is not bound."""
        if isinstance(key, str):
            if key not in mains.namespace():
                return None
            value = mains.namespace()[key]
        else:
            value = key
        last = self._pieces.get(key)
        if last is not None and last.value is value and not _may_differ(last, statement):
            return last
        name = key if isinstance(key, str) else ""
        piece = Piece(name, value, 0 if last is None else last.number)
        piece.seen = statement
        whole = value if isinstance(key, str) else _Definition(key)
        try:
            pickled = _pickle(whole, {key} | self._inside.get(key, set()), True)
        except Exception as error:
            piece.payload = payload.dumps(mains.Absent(_reason(key, user, error)))
            piece.digest = b"absent"
        else:
            piece.first, piece.uses = pickled.first, pickled.uses
            piece.digest = _digest(pickled)
        if last is not None and last.value is value and last.digest == piece.digest:
            last.first, last.uses, last.seen = piece.first, piece.uses, statement
            return last
        if not piece.payload:
            piece.payload = payload.packed(*pickled[:2])
        self._pieces[key] = piece
        return piece


class _InACircle(Exception):
    def __init__(self, key: Key) -> None:
        super().__init__(key)
        self.key = key


class _Definition:
    """A class, pickled by value."""

    def __init__(self, kind: type) -> None:
        self._kind = kind

    def __reduce__(self) -> tuple[Any, ...]:
        return mains.define, (mains.key_of(self._kind), self._kind)


class _Names:
    """What a pickler is told of ``__main__``; see :class:`.byvalue.Main`."""

    def __init__(self, inside: set[Key], is_global: bool) -> None:
        self.namespace = mains.namespace()
        self.first: dict[Key, str] = {}
        self.uses: dict[Key, str] = {}
        self._inside = inside
        self._is_global = is_global

    def refer(self, value: Any) -> tuple[Any, ...] | None:
        """See :meth:`.byvalue.Main.refer`."""
        if value.__module__ != "__main__" or not payload.goes_by_value(value):
            return None
        name: str = value.__qualname__
        if isinstance(value, type):
            return self._refer_to_class(value)
        owner, _, last = name.rpartition(".")
        if not owner:
            if self.namespace.get(name) is not value or name in self._inside:
                return None
            self.first[name] = name
            return mains.attribute, (name,)
        found = self.namespace.get(owner)
        if not isinstance(found, type) or found in self._inside:
            return None
        return (getattr, (found, last)) if vars(found).get(last) is value else None

    def _refer_to_class(self, value: type) -> tuple[Any, ...] | None:
        found: Any = self.namespace.get(value.__qualname__)
        if value in self._inside or (found is not value and mains.key_of(value) is None):
            return None
        self.first[value] = value.__qualname__
        return mains.known_class, (mains.key_for(value),)

    def use(self, names: Iterable[str], function: str) -> None:
        """See :meth:`.byvalue.Main.use`."""
        for name in names:
            if name not in _OWN:
                self.uses[name] = function

    def make_anew(self, value: Any) -> tuple[Any, ...] | None:
        """See :meth:`.byvalue.Main.make_anew`."""
        if not self._is_global:
            return None
        from ..wire import anew

        return anew.reduce(value)


def _pickle(value: object, inside: set[Key], is_global: bool) -> _Pickled:
    names = _Names(inside, is_global)
    pieces, buffers = payload.Pieces(), list[pickle.PickleBuffer]()
    payload.value_pickler()(pieces, buffers.append, names).dump(value)
    return _Pickled(pieces, buffers, names.first, names.uses)


def _may_differ(piece: Piece, statement: object) -> bool:
    """Whether an object may have been changed since it was looked at."""
    kind = type(piece.value)
    if kind in _CONSTANT:
        return False
    travelling = piece.payload
    small = type(travelling) is bytes or travelling.size <= payload.INLINE_LIMIT  # type: ignore[union-attr]
    if small and kind is not types.FunctionType and not isinstance(piece.value, type):
        return True
    return statement != piece.seen


def _statement() -> object:
    """Which statement of ``__main__`` runs: its code, and the place in that."""
    names = mains.namespace()
    frame: Any = sys._getframe()
    while frame is not None:
        # IPython has had names of its own for its cells.
        if frame.f_globals is names and frame.f_code.co_name.startswith(("<module", "<cell")):
            return frame.f_code, frame.f_lasti
        frame = frame.f_back
    return None


def _digest(pickled: _Pickled) -> bytes:
    import hashlib  # slow to load, as is what make_anew() needs

    digest = hashlib.blake2b(digest_size=16)
    for piece in pickled.pieces:
        digest.update(piece)
    for buffer in pickled.buffers:
        digest.update(buffer.raw())
    return digest.digest()


def _reason(key: Key, user: str, error: Exception) -> str:
    what = f"the global {key!r}" if isinstance(key, str) else f"the class {key.__qualname__}"
    return (
        f"{what}, which {user} uses, could not be pickled: "
        f"{type(error).__name__}: {text_of(error)}. Have each worker make its own: in an "
        "initializer that declares it global, or in the function that uses it"
    )


_session = Session()


def dumps(value: object) -> tuple[payload.Payload, Pieces]:
    """Pickle ``value``; also the pieces of ``__main__`` that it needs.

    Raises:
        Whatever pickling it raised.
    """
    if payload.main_by_value or prompt.is_open():
        return _session.dumps(value)
    return payload.dumps(value), ()


class _TypesOnly(_Names):
    """Lets classes of ``__main__`` be referred to without being sent."""

    def _refer_to_class(self, value: type) -> tuple[Any, ...] | None:
        reference = super()._refer_to_class(value)
        return None if reference is None else (mains.perhaps_known, *reference[1:])


def dumps_types(types_: object) -> bytes:
    """Pickle exception types that errors are to be compared with."""
    if not (payload.main_by_value or prompt.is_open()):
        pickled = payload.dumps(types_)
        # Types have no buffers: what is too large for a frame's head is still one piece.
        return pickled if isinstance(pickled, bytes) else bytes(pickled.parts[0])
    pieces = payload.Pieces()
    payload.value_pickler()(pieces, None, _TypesOnly(set(), False)).dump(types_)
    return b"".join(pieces)


def dumps_flat(value: object) -> Pickled:
    """The same as what any pickle can hold."""
    pickled, needs = dumps(value)
    pieces = [(piece.number, piece.name, payload.flat(piece.payload)) for piece in needs]
    return payload.flat(pickled), pieces


def needs(value: object) -> list[tuple[int, str]]:
    """The numbers and names of what it would need; nothing if it cannot be pickled."""
    with contextlib.suppress(Exception):
        return [(piece.number, piece.name) for piece in dumps(value)[1]]
    return []


def merged(pieces: Pieces, more: Pieces) -> Pieces:
    """All of these; for the same name, what is in ``more``."""
    keys = {piece.name or piece.value for piece in more}
    return (*more, *(piece for piece in pieces if (piece.name or piece.value) not in keys))

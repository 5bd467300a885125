"""Fragments: pickles of values that have much in common, each without that.

The dicts or dataclass objects that the calls of one ``map`` get share their keys and classes. A
pickle of each names all of these, and to unpickle it means to look them all up. One pickle of many,
which is what ProcessPoolExecutor makes of a chunk, ties the fates of calls together and lets them
share objects. A fragment is a pickle of one value that leaves out its beginning, the *prelude*:
classes and short texts that occur in many. It is made, sent, taken back, sent again and refused by
itself, and any number of fragments of one prelude are unpickled in one go.

Thread: whoever pickles or unpickles the values; the threads of a process may share a packer.
Guarantees: the value of a fragment is what that of its pickle would be, and shares nothing with
another fragment's but classes, functions and texts. Nothing becomes a fragment whose pickling or
unpickling calls code of the user's: so it does no harm to unpickle one early, or one of a call that
is then taken back.

How that is possible, going by what :mod:`pickletools` says of the format: up to protocol 3, a
pickle numbers what it may refer to again. So one pickle can consist of many, each of which uses the
same numbers anew. The prelude has the first ones. (From protocol 4 on, the order counts instead.)
Objects are asked for what they would tell protocol 5.
"""

from __future__ import annotations

import io
import operator
import pickle
import re
import types
from collections.abc import Callable, Generator, Sequence
from typing import Any

from . import payload
from .data import EXTRA, REGISTERED, NoData, Reducers
from .preludes import BEGINNING, POP, forget, is_found, opened
from .uncollected import uncollected

#: How many values a packer looks at before it decides on its prelude.
SAMPLE = 4
#: Characters of the texts, and things, that a prelude holds at most.
_LONGEST, _MOST = 64, 100
#: A packer that has failed so often in a row does not try any more.
_PATIENCE = 16
#: Bytes of a fragment at most: what is larger is better off on its own.
_LIMIT = payload.INLINE_LIMIT

#: So many at once are worth it to keep the garbage collector away.
_MANY = 100

_FRAME = b"\x95"
_MARK, _LIST_STOP = b"(", b"l."

#: What is left of a pickle: nothing of its beginning, and no end.
_MIDDLE = slice(2, -1)
_middle = operator.itemgetter(_MIDDLE)

#: What is pickled as a name.
_NAMED = (type, types.FunctionType, types.BuiltinFunctionType)


class _Pickler:
    """Writes one fragment after another."""

    def __init__(self, reducers: Reducers) -> None:
        self.written: list[bytes] = []
        self.write = self.written.append
        self.pickler = pickle.Pickler(self, 3)
        self.pickler.dispatch_table = reducers


def _press(pickler: _Pickler, memo: Any, by_value: bool) -> Generator[bytes | None, object, None]:
    """Gets values and yields their fragments; None for what must be pickled in another way."""
    press, written = pickler.pickler, pickler.written
    dump, take, middle = press.dump, written.pop, _MIDDLE
    press.memo = memo
    fragment: bytes | None = None
    failed = 0  # values in a row, the last ones
    while True:
        value = yield fragment
        fragment = None
        if failed >= _PATIENCE:
            continue
        try:
            dump(value)
            press.memo = memo  # now and not later: it keeps alive what it refers to
            fragment = take()[middle]
            if written or len(fragment) > _LIMIT or (by_value and b"__main__" in fragment):
                raise NoData
            failed = 0
        except Exception:  # who pickles it in another way finds out why
            fragment = None
            failed += 1
            press.memo = memo
            written.clear()
        value = None


def _refuse(value: object) -> None:
    """Stands in for a press that is not to be used."""


class Packer:
    """Makes fragments of values that are likely to be alike.

    It looks at the first few before it decides on its prelude.
    """

    def __init__(self, by_value: bool = False) -> None:
        """
        Args:
            by_value: whether what belongs to ``__main__`` cannot be named.
        """
        self.by_value = by_value
        #: What a fragment leaves out.
        self.prelude: bytes = BEGINNING
        #: As :meth:`pack` without its overhead, as long as there is the same prelude. ValueError:
        #: it is in use, by another thread or by what this call interrupts. StopIteration: it was
        #: interrupted itself, and :meth:`pack` makes another.
        self.press: Callable[[object], bytes | None]
        self._reducers = Reducers()
        # How many of the first values are still to be noted; what occurred in those so far, by id,
        # and in how many, while nobody is at it.
        self._to_note = SAMPLE
        self._found: list[dict[int, list[Any]]] = [{}]
        self._named: list[Any] = []  # the classes and functions in the prelude
        self._failed = 0  # values in a row, the last ones
        self._begin_with(())

    def _begin_with(self, things: tuple[Any, ...]) -> None:
        """Have all fragments from now on refer to these things."""
        self.press = _refuse  # a thread that has seen one prelude must not pack for another
        first = _Pickler(self._reducers)
        if things:
            first.pickler.dump(things)
            self.prelude = BEGINNING + first.written[0][2:-1] + POP
        self._memo = first.pickler.memo
        pickler = _Pickler(self._reducers)
        self._pickler = pickler.pickler
        self._pickler.memo = self._memo
        # What the pickler writes to, while nobody uses it: another thread that comes meanwhile, or
        # a finalizer that interrupts, goes without.
        self._idle = [pickler.written]
        self._renew()

    def _renew(self) -> None:
        press = _press(_Pickler(self._reducers), self._memo, self.by_value)
        next(press)
        self.press = press.send

    @property
    def undecided(self) -> bool:
        """Whether the prelude is still to be decided on."""
        return self._to_note > 0

    def pack(self, value: object) -> bytes | None:
        """The fragment of ``value``; None if it must be pickled in another way: it is no data, or
        large, or cannot be pickled.

        It belongs to the :attr:`prelude` that there was before; if other threads pack, too, only
        if there is the same one after that.
        """
        if self._reducers or self._named:  # there were not only the interpreter's own types
            self.refresh()
        try:
            fragment = self.press(value)
        except ValueError:
            return None
        except StopIteration:
            self._renew()
            return self.pack(value)
        if self._found and fragment is not None:
            self._note(value)
        return fragment

    def pack_all(self, values: Sequence[object]) -> list[bytes | None]:
        """As :meth:`pack`, for each of these values, and for less."""
        self.refresh()
        idle = self._idle
        try:
            written = idle.pop()
        except IndexError:
            return [None] * len(values)
        pickler, memo = self._pickler, self._memo
        dump = pickler.dump
        each = iter(values)
        more, failed = True, False
        try:
            while more:
                try:
                    for value in each:
                        dump(value)
                        pickler.memo = memo
                    more = False
                except Exception:
                    pickler.memo = memo
                    written.append(b"")
                    failed = True
            large = len(written) > len(values)  # they come in pieces
            if max(map(len, written)) > _LIMIT:
                # Cut only what is wanted: to cut is to copy.
                written[:] = [each if len(each) - 3 <= _LIMIT else b"" for each in written]
                failed = True
            packed: list[bytes | None] = list(map(_middle, written))
            if failed:
                packed = [each or None for each in packed]
            if self.by_value:
                packed = [None if each and b"__main__" in each else each for each in packed]
        finally:
            pickler.memo = memo
            written.clear()
            idle.append(written)
        if large:
            found, self._found = self._found, []  # all are to have one prelude
            try:
                return [self.pack(value) for value in values]
            finally:
                self._found = found
        if any(packed):
            self._failed = 0
        else:
            self._fail(len(packed))
        return packed

    def _fail(self, count: int) -> None:
        self._failed += count
        if self._failed >= _PATIENCE:
            self._give_up()

    def _give_up(self) -> None:
        self._idle = []  # as if somebody used it
        self.press = _refuse

    def refresh(self) -> None:
        """Find out anew what may not hold any more; to be called now and then before :attr:`press`
        is used."""
        if len(REGISTERED) + len(EXTRA) != self._reducers.registered:
            self._reducers.refresh()
        for thing in self._named:
            if not is_found(thing):
                self._give_up()

    def _note(self, value: object) -> None:
        """Note what a value consists of, and decide on the prelude if that is enough."""
        noted = _Pickler(self._reducers).pickler
        try:
            noted.dump(value)
            found = self._found.pop()
        except Exception:  # another thread changes the value, or is at this
            return
        self._to_note -= 1
        for _, thing in noted.memo.copy().values():
            if isinstance(thing, _NAMED) or (type(thing) is str and len(thing) <= _LONGEST):
                found.setdefault(id(thing), [thing, 0])[1] += 1
        if self._to_note:
            self._found.append(found)
            return
        things = [
            thing
            for thing, count in found.values()
            if (count > 1 if type(thing) is str else is_found(thing))
            and not (self.by_value and getattr(thing, "__module__", None) == "__main__")
        ][:_MOST]
        self._named = [thing for thing in things if type(thing) is not str]
        if things:
            self._begin_with(tuple(things))


def load_all(prelude: bytes, fragments: Sequence[bytes]) -> list[Any]:
    """The values of fragments; raises whatever the unpickling of one raises."""
    load: Callable[..., Any] = pickle.loads
    source: tuple[bytes, ...] = ()
    if prelude == BEGINNING:
        source = (b"".join((prelude, _MARK, *fragments, _LIST_STOP)),)
    else:
        load = _opened(prelude, fragments)
    values: list[Any] = uncollected(load, *source) if len(fragments) >= _MANY else load(*source)
    return values


def _opened(prelude: bytes, fragments: Sequence[bytes]) -> Callable[[], Any]:
    """Loads fragments that refer to what is in a prelude."""
    pickled = b"".join((_MARK, *fragments, _LIST_STOP))
    frame = _FRAME + len(pickled).to_bytes(8, "little")  # so that all is read at once
    unpickler: Any = pickle.Unpickler(io.BytesIO(BEGINNING + frame + pickled))
    unpickler.memo = opened(prelude).memo
    load: Callable[[], Any] = unpickler.load
    return load


def load(prelude: bytes, fragment: bytes) -> Any:
    """The value of a fragment; raises whatever its unpickling raises."""
    try:
        return load_all(prelude, (fragment,))[0]
    except pickle.UnpicklingError as error:
        place = re.search(r"Memo value not found at index (\d+)", str(error))
        if place is None or prelude == BEGINNING:
            raise
        missing = opened(prelude).missing.get(int(place[1]))
        if missing is None:
            raise
    missing.find()  # this says why
    forget(prelude)  # or it does not any more
    return load(prelude, fragment)

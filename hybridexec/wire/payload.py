"""Turn Python objects into what a frame can carry, and back.

Thread: the thread or greenlet that owns the object, never the worker's helper thread, because
pickling runs user code and must not see another greenlet's half-made change.
Guarantees: an object that cannot be pickled or unpickled raises here, and affects no other call.

There are three forms:

- *plain* values (small str, bytes, numbers, None, and short tuples of these) go into the frame as
  they are; marshal copies
  them exactly and cannot fail, so they need no pickle of their own;
- ``bytes``: a pickle;
- :class:`Segments`: a large pickle, or one with protocol 5 buffers, sent out of band so that no
  frame is built by copying megabytes, with the largest parts in shared memory. Large ``bytes`` that
  are a result, or an argument, are such a buffer too: they are not copied until they are written.

All that ProcessPoolExecutor carries is carried: the reducers are ForkingPickler's. What plain
pickle refuses (lambdas, closures, classes of an interactive ``__main__``) is cloudpickled by value.
"""

# Without `annotations` from `__future__`: a NamedTuple would compile each of its own, see
# tests/test_layers.py.
import copyreg
import pickle
import sys
import types
from collections import ChainMap
from collections.abc import Callable, Sequence
from multiprocessing.reduction import ForkingPickler
from operator import itemgetter
from typing import Any, NamedTuple, final

from . import parts, shared
from .wording import add_note

PROTOCOL = 5
#: Bytes above which a payload travels out of band instead of inside the frame's head.
INLINE_LIMIT = 32 * 1024

_PLAIN_NUMBERS = frozenset({int, float, bool, complex, type(None)})
_PLAIN_TEXT = frozenset({str, bytes})
_PLAIN = _PLAIN_NUMBERS | _PLAIN_TEXT
_RECORDS = {tuple}
#: Values in a tuple that may still be plain. Nothing can tell whether it was copied or shared.
LONGEST_RECORD = 16
_CELLS = [itemgetter(place) for place in range(LONGEST_RECORD)]
#: What plain pickle raises for an object that cloudpickle may still be able to pickle.
_REFUSALS = (pickle.PicklingError, AttributeError, TypeError)


class Registered:
    """``copyreg``'s reducers, but for those that tblib registers for all exceptions when Dask is
    imported: what they make of a ``SystemExit`` has lost its code."""

    def __getitem__(self, kind: type) -> Callable[[Any], Any]:
        reducer = copyreg.dispatch_table[kind]
        if getattr(reducer, "__module__", "").startswith("tblib"):
            raise KeyError(kind)
        return reducer


# ForkingPickler keeps its reducers in a private dict; a live view includes later registrations.
_REDUCERS: ChainMap[type, Callable[[Any], Any]] = ChainMap(
    ForkingPickler._extra_reducers,  # type: ignore[attr-defined]  # private
    Registered(),  # type: ignore[arg-type]  # it is only asked for single types
)

#: True where no worker can import this ``__main__`` (a REPL, a notebook, ``python -``), so that its
#: functions and classes must travel by value. Set once by each side when it starts.
main_by_value = False


@final
class Segments(NamedTuple):
    """A payload out of band: the pickle, then its protocol 5 buffers."""

    parts: tuple[shared.Part, ...]

    @property
    def size(self) -> int:
        """The size in bytes."""
        return sum(
            part.size if isinstance(part, shared.Region) else len(part) for part in self.parts
        )


Payload = bytes | Segments


class Pieces(list[bytes]):
    """A pickle in pieces: a large bytes object is a piece of its own, and is not copied."""

    __slots__ = ()

    def write(self, piece: Any) -> None:
        """Take the next piece from a pickler."""
        self.append(piece if type(piece) is bytes else bytes(piece))


class _ReferencePickler(pickle.Pickler):
    dispatch_table = _REDUCERS


def set_main_by_value(by_value: bool) -> None:
    """Set :data:`main_by_value`. Once true, it stays so: what one executor's workers cannot import
    travels by value to all."""
    global main_by_value
    main_by_value = main_by_value or by_value


def goes_by_value(value: Any) -> bool:
    """Whether a function or class of ``__main__`` has to travel by value."""
    return main_by_value or _entered(value)


def is_plain(value: Any) -> bool:
    """Whether ``value`` may travel in a frame as it is."""
    kind = type(value)
    return kind in _PLAIN_NUMBERS or (kind in _PLAIN_TEXT and len(value) <= INLINE_LIMIT)


def is_record(value: tuple[Any, ...]) -> bool:
    """Whether a tuple may travel as it is: it is short and holds nothing but plain values."""
    if len(value) > LONGEST_RECORD:
        return False
    for each in value:
        kind = type(each)
        if kind is str or kind is bytes:
            if len(each) > INLINE_LIMIT:
                return False
        elif kind is not int and kind not in _PLAIN_NUMBERS:
            return False
    return True


def are_records(values: Sequence[tuple[Any, ...]]) -> bool:
    """As :func:`is_record`, for many, most likely of one kind."""
    lengths = set(map(len, values))
    if max(lengths) > LONGEST_RECORD:
        return False
    if len(lengths) > 1:
        return all(map(is_record, values))
    # By columns, but not with zip(): that has an iterator for each tuple, which count as garbage to
    # be looked for.
    for cell in _CELLS[: lengths.pop()]:
        kinds = set(map(type, map(cell, values)))
        if not kinds <= _PLAIN_NUMBERS and not (
            kinds <= _PLAIN_TEXT and max(map(len, map(cell, values))) <= INLINE_LIMIT
        ):
            return all(map(is_record, values))
    return True


def are_plain(values: tuple[Any, ...]) -> bool:
    """Whether all of ``values`` may travel in a frame as they are."""
    for value in values:
        kind = type(value)
        if (
            kind in _PLAIN_NUMBERS
            or (kind in _PLAIN_TEXT and len(value) <= INLINE_LIMIT)
            or (kind is tuple and is_record(value))
        ):
            continue
        return False
    return True


def are_all_plain(values: list[Any]) -> bool:
    """As :func:`are_plain`, for many values, most likely of one type."""
    kinds = set(map(type, values))
    if kinds <= _PLAIN_NUMBERS:
        return True
    if kinds == _RECORDS:
        return are_records(values)
    if not kinds <= _PLAIN:
        return False
    texts = values if kinds <= _PLAIN_TEXT else [v for v in values if type(v) in _PLAIN_TEXT]
    return max(map(len, texts)) <= INLINE_LIMIT


def dumps(value: object) -> Payload:
    """Pickle ``value``, by reference where that can work, else by value.

    Raises:
        Whatever plain pickle raised, if cloudpickle cannot manage either.
    """
    buffers: list[pickle.PickleBuffer] = []
    pieces = Pieces()
    kind = type(value)
    if kind is bytes or kind is tuple:
        value = _lifted(value)
    if main_by_value:
        value_pickler()(pieces, buffers.append).dump(value)
    else:
        try:
            _ReferencePickler(pieces, PROTOCOL, buffer_callback=buffers.append).dump(value)
        except _REFUSALS as refusal:
            pieces, buffers = Pieces(), []
            try:
                value_pickler()(pieces, buffers.append).dump(value)
            except Exception as error:
                reason = f"{type(error).__name__}: {error}"
                add_note(refusal, f"By value it cannot be pickled either: {reason}")
                raise refusal from None
    # Fast path: most pickles are one small piece.
    if buffers or len(pieces) > 1 or len(pieces[0]) > INLINE_LIMIT:
        return packed(pieces, buffers)
    return pieces[0]


def _lifted(value: Any) -> Any:
    """``value``, with large bytes marked to travel out of band, which saves two copies of each: if
    it is such bytes, or the arguments of a call of which all others are plain.

    Beside other objects they stay in the pickle, because these may refer to the same bytes.
    """
    if type(value) is bytes:
        return value if len(value) <= INLINE_LIMIT else pickle.PickleBuffer(value)
    if len(value) != 2 or type(value[0]) is not tuple or type(value[1]) is not dict or value[1]:
        return value
    lifted: list[Any] = []
    large: set[int] = set()
    for argument in value[0]:
        if not is_plain(argument):
            if type(argument) is not bytes or id(argument) in large:
                return value
            large.add(id(argument))
            argument = pickle.PickleBuffer(argument)
        lifted.append(argument)
    return (tuple(lifted), {}) if large else value


def packed(pieces: list[bytes], buffers: list[pickle.PickleBuffer]) -> Payload:
    """What a pickler has written, as a payload."""
    # The pickler writes more than one piece only if the pickle is large.
    if not buffers and len(pieces) == 1 and len(pieces[0]) <= INLINE_LIMIT:
        return pieces[0]
    # Buffers are copied here, because the caller may change the array while the frame waits.
    return Segments(parts.keep([pieces, *([_contents(buffer)] for buffer in buffers)]))


def apart(pickled: bytes) -> Segments:
    """The same payload where bytes would be taken for something else."""
    return Segments((pickled,))


def _contents(buffer: pickle.PickleBuffer) -> shared.Buffer:
    """What is in a buffer; the bytes object itself, if it is one."""
    view = buffer.raw()
    whole = type(view.obj) is bytes and len(view.obj) == view.nbytes
    return view.obj if whole else view  # type: ignore[return-value]  # "object", to its stub


def flat(payload: Payload) -> bytes | list[bytes | bytearray]:
    """A payload in a form that any pickle can hold."""
    if type(payload) is not Segments:
        return payload
    return [
        part.copy() if isinstance(part, shared.Region) else part  # type: ignore[misc]  # no view
        for part in payload.parts
    ]


def unflat(flattened: bytes | list[bytes | bytearray]) -> Payload:
    """The payload that :func:`flat` was given."""
    if isinstance(flattened, bytes):
        return flattened
    return Segments(tuple(flattened))


def loads(payload: Payload) -> Any:
    """The object of a payload; raises whatever its unpickling raises."""
    if type(payload) is Segments:
        first, *buffers = [
            part.load() if type(part) is shared.Region else part for part in payload.parts
        ]
        return pickle.loads(first, buffers=buffers)
    return pickle.loads(payload)


def travels_by_reference(function: object) -> bool:
    """Whether pickling ``function`` would only name it, so that naming it once is enough."""
    if type(function) not in (types.FunctionType, types.BuiltinFunctionType, type):
        return False
    name: str = getattr(function, "__qualname__", "")
    module = getattr(function, "__module__", None)
    if not isinstance(module, str) or (main_by_value and module == "__main__"):
        return False
    found: object = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    return found is function and not (module == "__main__" and _entered(function))


def _entered(value: Any) -> bool:
    from .prompt import entered  # rarely needed in workers

    return entered(value)


def value_pickler() -> Any:
    """The by-value pickler's class, loaded when first needed."""
    from .byvalue import ValuePickler

    return ValuePickler

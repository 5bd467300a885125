"""Carry exceptions between processes, even those whose own pickle cannot be loaded.

Thread: the greenlet of the failed call packs; the one that decodes the outcome unpacks.
Guarantees: what was packed can be unpacked to an exception of the same type, at least in the
process that packed it.

An exception is pickled as its class and the ``args`` to call it with. Many classes cannot be called
with these (their ``__init__`` has keyword arguments, or makes the text itself), or hold what cannot
be pickled. Such an exception is rebuilt without its ``__init__``, from ``args``, the fields and
attributes that can be pickled, and its cause and context.
"""

from __future__ import annotations

import contextlib
import io
import pickle
from collections.abc import Iterator
from types import BuiltinFunctionType, GetSetDescriptorType, MemberDescriptorType
from typing import Any

from . import payload
from .wording import text_of

#: The ``__reduce__`` methods that exceptions have unless they define one.
_BUILTIN_REDUCERS = {
    kind.__reduce__ for kind in (BaseException, OSError, ImportError, AttributeError)
}


def pack(error: BaseException) -> payload.Payload:
    """The exception as a payload.

    Raises:
        Whatever keeps it from being rebuilt even from its parts.
    """
    try:
        pickled = payload.dumps(error)
        if _is_like(payload.loads(pickled), error):
            return pickled
    except BaseException:
        pass  # try its parts
    pickled = payload.dumps(_Parts(error, {}))
    text_of(payload.loads(pickled))
    return pickled


def unpack(packed: payload.Payload) -> Any:
    """The exception; if something else was packed in its place, that.

    Raises:
        Whatever unpickling raised, even without the ``__init__`` of exceptions.
    """
    try:
        return payload.loads(packed)
    except Exception:
        # It could be rebuilt in the other process; here its __init__ may fail.
        if not isinstance(packed, bytes):
            raise
        return _WithoutInit(io.BytesIO(packed)).load()


class _WithoutInit(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        found = super().find_class(module, name)
        if isinstance(found, type) and issubclass(found, BaseException):
            return lambda *args: _new(found, args)
        return found


def kept(error: BaseException) -> dict[str, Any]:
    """The attributes of an exception that can be carried, including ``args``."""
    parts = _Parts(error, {})
    return {**dict(parts.fields), **parts.attributes, "args": parts.args}


def type_name(error: BaseException) -> str:
    """The exception's type, in words."""
    kind = type(error)
    try:
        return f"{kind.__module__}.{kind.__qualname__}"
    except BaseException:
        return "an exception"


def _is_like(copy: object, error: BaseException) -> bool:
    """Whether a copy is like its original: an ``__init__`` that makes the text from its arguments
    may have made another one from ``args``. (Classes with a ``__reduce__``, and exceptions with
    others in their ``args``, are taken to be right.)"""
    if not isinstance(copy, BaseException):
        return False
    if isinstance(error, BaseExceptionGroup):
        return all(map(_is_like, copy.exceptions, error.exceptions))  # type: ignore[attr-defined]  # a group, too
    if type(error).__reduce__ not in _BUILTIN_REDUCERS:
        return True
    if any(isinstance(argument, BaseException) for argument in error.args):
        return True
    return text_of(copy) == text_of(error)


class _Parts:
    """What can be carried of an exception; unpickling this makes one of its type."""

    def __init__(self, error: BaseException, known: dict[int, _Parts | None]) -> None:
        """
        Args:
            known: the objects from which this one was reached, by id; they are being taken apart
                already.
        """
        known[id(error)] = self
        self.kind = type(error)
        self.args = tuple(_or_text(argument, known) for argument in error.args)
        self.made_of = self.args
        if isinstance(error, BaseExceptionGroup):
            inner = tuple(_or_text(each, known) for each in error.exceptions)
            self.made_of = (error.message, inner)
        self.lost: list[str] = []
        self.fields = list(self._carried(_fields(error), known))
        self.attributes = dict(self._carried(_attributes(error).items(), known))
        self.origins = [
            (name, origin)
            for name in ("__cause__", "__context__")
            if (origin := _or_text(getattr(error, name), known)) is not None
            and not isinstance(origin, str)
        ]
        if self.lost:
            note = f"What could not be carried here of this error: {', '.join(self.lost)}"
            self.attributes["__notes__"] = [*self.attributes.get("__notes__", ()), note]

    def _carried(self, values: Any, known: dict[int, _Parts | None]) -> Iterator[tuple[str, Any]]:
        for name, value in values:
            try:
                yield name, _portable(value, known)
            except BaseException:
                self.lost.append(name)

    def __reduce__(self) -> tuple[Any, ...]:
        parts = self.kind, self.made_of, self.args, self.fields, self.attributes, self.origins
        return _put_together, parts


def _put_together(
    kind: type[BaseException],
    made_of: tuple[Any, ...],
    args: tuple[Any, ...],
    fields: list[tuple[str, Any]],
    attributes: dict[str, Any],
    origins: list[tuple[str, BaseException]],
) -> BaseException:
    error = _new(kind, made_of)
    descriptor: Any = BaseException.args
    descriptor.__set__(error, args)
    descriptors = dict(_descriptors(kind))
    for name, value in fields:
        with contextlib.suppress(Exception):  # a read-only one, which was set above
            descriptors[name].__set__(error, value)
    _attributes(error).update(attributes)
    for name, origin in origins:
        BaseException.__setattr__(error, name, origin)
    return error


def _new(kind: type[BaseException], args: tuple[Any, ...]) -> BaseException:
    """An exception that was made without running any Python code of its type."""
    refusal: TypeError | None = None
    for base in kind.__mro__:
        new: Any = vars(base).get("__new__")
        if type(new) is BuiltinFunctionType:
            try:
                error: BaseException = new(kind, *args)
                return error
            except TypeError as wrong:  # of several bases, only the one with the most fields works
                refusal = refusal or wrong
    assert refusal is not None, "BaseException has one"
    raise refusal


def _descriptors(kind: type[BaseException]) -> Iterator[tuple[str, Any]]:
    """The descriptors of an exception's fields, by name: slots and built-in ones."""
    for base in reversed(kind.__mro__[: kind.__mro__.index(BaseException)]):
        for name, descriptor in vars(base).items():
            if name in ("__dict__", "__weakref__"):
                continue
            if isinstance(descriptor, MemberDescriptorType | GetSetDescriptorType):
                yield name, descriptor


def _fields(error: BaseException) -> Iterator[tuple[str, Any]]:
    for name, descriptor in dict(_descriptors(type(error))).items():
        with contextlib.suppress(Exception):  # it is not set
            value = descriptor.__get__(error)
            if value is not None:
                yield name, value


def _attributes(error: BaseException) -> dict[str, Any]:
    attributes: dict[str, Any] = object.__getattribute__(error, "__dict__")
    return attributes


def _or_text(value: Any, known: dict[int, _Parts | None]) -> Any:
    """The value, else what can be carried of it, else its text."""
    try:
        return _portable(value, known)
    except BaseException:
        if isinstance(value, BaseException):
            from ..errors import RemoteError  # slow to import

            return RemoteError(f"{type_name(value)}: {text_of(value)}", type_name(value))
    try:
        return repr(value)
    except BaseException:
        return f"<{type(value).__name__}>"


def _portable(value: Any, known: dict[int, _Parts | None]) -> Any:
    """The value, else what can be carried of it; raises if nothing can."""
    if payload.is_plain(value):
        return value
    if id(value) in known:
        return known[id(value)]
    try:
        copy = payload.loads(payload.dumps(value))
        if not isinstance(value, BaseException) or _is_like(copy, value):
            return value
    except BaseException:
        if type(value) in (list, tuple):
            return type(value)(_portable(each, known) for each in value)
        if not isinstance(value, BaseException):
            raise
    parts = _Parts(value, known)
    payload.loads(payload.dumps(parts))
    return parts

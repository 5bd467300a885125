"""Carry exceptions, also those whose own pickle does not bring them back.

Runs on: the greenlet of the call that failed takes them apart; whoever decodes the outcome puts
them together.
Guarantees: what is packed can be unpacked, in the process that packed it at least, to an exception
of the same type.

An exception is pickled as its class and ``args``, for its class to be called with. Many cannot be
called so (their ``__init__`` wants keywords, or makes its text itself), or hold what cannot be
pickled. Such a one is made without its ``__init__``, from ``args``, the fields and attributes that
can be pickled, and what it was raised from.
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

#: What exceptions are reduced by if they do not see to it themselves.
_BUILTIN_REDUCERS = {
    kind.__reduce__ for kind in (BaseException, OSError, ImportError, AttributeError)
}


def pack(error: BaseException) -> payload.Payload:
    """The exception as a payload.

    Raises:
        Whatever keeps it from being rebuilt, even from its parts.
    """
    try:
        pickled = payload.dumps(error)
        if _is_like(payload.loads(pickled), error):
            return pickled
    except BaseException:
        pass  # its parts may do
    pickled = payload.dumps(_Parts(error, {}))
    text_of(payload.loads(pickled))
    return pickled


def unpack(packed: payload.Payload) -> Any:
    """The exception again; what was packed instead of one as it is.

    Raises:
        Whatever unpickling it raised, without the ``__init__`` of exceptions too.
    """
    try:
        return payload.loads(packed)
    except Exception:
        # It could be rebuilt in the other process. Here its __init__ may miss something.
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
    """Those attributes of an exception that can be carried, ``args`` among them."""
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
    """Whether a copy will do: its ``__init__`` has not made another text of what it had made of its
    arguments the first time. (What has a ``__reduce__``, or other errors inside, knows better.)"""
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
    """What can be carried of an exception, and becomes one of its type when it is unpickled."""

    def __init__(self, error: BaseException, known: dict[int, _Parts | None]) -> None:
        """
        Args:
            known: what others, from which this is reached, are being taken apart already.
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
    """An exception that no code of its type's own has had a part in."""
    refusal: TypeError | None = None
    for base in kind.__mro__:
        new: Any = vars(base).get("__new__")
        if type(new) is BuiltinFunctionType:
            try:
                error: BaseException = new(kind, *args)
                return error
            except TypeError as wrong:  # of several, only the one with the largest fields is right
                refusal = refusal or wrong
    assert refusal is not None, "BaseException has one"
    raise refusal


def _descriptors(kind: type[BaseException]) -> Iterator[tuple[str, Any]]:
    """What reads and writes the fields, by name: slots, and those that are built in."""
    for base in reversed(kind.__mro__[: kind.__mro__.index(BaseException)]):
        for name, descriptor in vars(base).items():
            if name in ("__dict__", "__weakref__"):
                continue
            if isinstance(descriptor, MemberDescriptorType | GetSetDescriptorType):
                yield name, descriptor


def _fields(error: BaseException) -> Iterator[tuple[str, Any]]:
    for name, descriptor in dict(_descriptors(type(error))).items():
        with contextlib.suppress(Exception):  # it has not been set
            value = descriptor.__get__(error)
            if value is not None:
                yield name, value


def _attributes(error: BaseException) -> dict[str, Any]:
    attributes: dict[str, Any] = object.__getattribute__(error, "__dict__")
    return attributes


def _or_text(value: Any, known: dict[int, _Parts | None]) -> Any:
    """The value, what can be carried of it, or its text."""
    try:
        return _portable(value, known)
    except BaseException:
        if isinstance(value, BaseException):
            from ..errors import RemoteError  # it takes long to import

            return RemoteError(f"{type_name(value)}: {text_of(value)}", type_name(value))
    try:
        return repr(value)
    except BaseException:
        return f"<{type(value).__name__}>"


def _portable(value: Any, known: dict[int, _Parts | None]) -> Any:
    """The value, or what can be carried of it; raises if it cannot be."""
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

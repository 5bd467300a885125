"""How calls and errors are worded for people: in errors, in the log, in statistics.

Thread: any, in the parent or in a worker.
Guarantees: nothing here raises, whatever the function or the exception; the text for a call is
short, whatever the arguments.
"""

from __future__ import annotations

import contextlib
import functools
from typing import Any

_MAX_ARGUMENTS = 6
_MAX_LENGTH, _HEAD, _TAIL = 60, 32, 25
_MAX_BITS = 128
#: How the note begins of an error from pickling a call's result.
RESULT_NOTE = "The result of this call could not be pickled"
#: Characters of an argument's ``repr`` at most.
_MAX_TEXT = 200


def function_name(function: Any) -> str:
    """The qualified name of ``function``, or of its type if it has none."""
    while isinstance(function, functools.partial):
        function = function.func
    try:
        name = getattr(function, "__qualname__", None)
    except Exception:  # the object's own __getattr__
        name = None
    return name if type(name) is str else type(function).__qualname__


def call_text(name: str, item: Any) -> str:
    """A call of the function with that name; ``item`` is a tuple of plain arguments, or anything
    else if they are not plain."""
    if type(item) is not tuple:
        return f"{name}(...)"
    arguments = [_argument_text(argument) for argument in item[:_MAX_ARGUMENTS]]
    if len(item) > _MAX_ARGUMENTS:
        arguments.append("...")
    return f"{name}({', '.join(arguments)})"


def add_note(error: BaseException, note: str) -> None:
    """Add a note to a user's exception, even to one that refuses to have attributes set, as a
    frozen dataclass does."""
    with contextlib.suppress(Exception):
        error.__dict__.setdefault("__notes__", []).append(note)


def retell(error: BaseException, what: str, remedy: str) -> None:
    """Put what has failed, and what to do, into the text of an error from pickling, since its
    ``repr`` shows no notes. An error with a ``__str__`` of its own is left alone."""
    own: Any = type(error).__str__
    if not isinstance(error, Exception) or len(error.args) > 1:
        return
    if own not in (BaseException.__str__, ImportError.__str__, KeyError.__str__):
        return
    if remedy in text_of(error):
        return  # the same one was raised before
    text = f"{what}: {text_of(error).rstrip('.') or type(error).__name__}. {remedy}"
    with contextlib.suppress(Exception):
        if isinstance(error, ImportError):
            error.msg = text
        error.args = (text,)


#: What to do about a module that a node lacks.
INSTALL = (
    "Install it on all nodes (distributed.PipInstall does that), or send it (Client.upload_file of "
    "distributed's), before the executor is made"
)


def elsewhere(node: str, error: BaseException) -> str:
    """What may be the cause of an error from unpickling, or of a missing module, if that is on a
    node of a cluster: words that follow a sentence without its full stop; empty if it is not."""
    if not node:
        return ""
    if isinstance(error, ModuleNotFoundError):
        return f". Node {node} has no module {error.name}. {INSTALL}"
    return (
        f". Node {node} may be another machine, which cannot reach the files, sockets, shared "
        "memory, locks and managers of this one"
    )


def text_of(error: BaseException) -> str:
    """The text of an exception."""
    try:
        return str(error)
    except BaseException:
        return "<its __str__ failed>"


def _argument_text(argument: Any) -> str:
    """An argument, cut in the middle if it is long: URLs differ at their ends."""
    kind = type(argument)
    if (kind is str or kind is bytes) and len(argument) > _MAX_LENGTH:
        dots = "..." if kind is str else b"..."
        argument = argument[:_HEAD] + dots + argument[-_TAIL:]
    elif kind is int and argument.bit_length() > _MAX_BITS:
        return "..."  # Python refuses to print thousands of digits
    try:
        text = repr(argument)
    except Exception:  # that of a class of the user's
        return "..."
    return text if len(text) <= _MAX_TEXT else f"{text[:_HEAD]}...{text[-_TAIL:]}"

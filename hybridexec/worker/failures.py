"""Describes how a call failed, in a form that reaches the parent whatever the exception is.

Thread: where the call has failed.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from os import getpid
from typing import Any

from ..wire import payload
from ..wire.wording import call_text, function_name, retell, text_of


def describe(
    error: BaseException,
    stage: str,
    function: Callable[..., Any] | None,
    item: Any,
    result: object = None,
) -> tuple[payload.Payload, str, str, str, str]:
    """The exception as a payload, its traceback as text, a note that says where it was, its type's
    name and its text.

    ``result`` is what could not be pickled, if that is the stage.

    What cannot be carried as an exception is a tuple in the payload: what to say of that, and those
    of its attributes that can be.
    """
    where = f"in worker process {getpid()}"
    call = "this call"
    if function is not None:
        call = call_text(function_name(function), item)
        where += f", call {call}"
    if stage == "arguments":
        note = (
            f"The function or arguments of this call could not be unpickled {where}. They must be "
            "importable and unpicklable in a fresh process."
        )
    elif stage == "result":
        note = (
            f"The result of this call could not be pickled {where}. Return something that can be, "
            "such as plain data."
        )
    else:
        note = f"Raised {where}"
    try:
        trace = _format(error)
    except BaseException as refusal:
        trace = f"(the traceback could not be written: {type(refusal).__name__})\n"
    if stage == "arguments":
        what = f"the function or the arguments of {call} could not be unpickled"
        retell(error, what, "A fresh process must be able to import and unpickle them")
    elif stage == "result":
        kind = function_name(type(result))
        what = f"the result of {call}, of type {kind}, could not be pickled"
        retell(error, what, "Return plain data instead")
    from ..wire import exceptions  # not before something fails: workers start sooner

    name, text = exceptions.type_name(error), text_of(error)
    try:
        return exceptions.pack(error), trace, note, name, text
    except BaseException as refusal:
        return payload.dumps(_remains(error, refusal)), trace, note, name, text
    finally:
        # Not by setting the attribute: a frozen dataclass, say, would refuse that.
        BaseException.with_traceback(error, None)


def _remains(error: BaseException, refusal: BaseException) -> tuple[str, dict[str, Any]]:
    """What is told of an exception that could not be carried, and which attributes it had."""
    from ..wire.exceptions import kept

    try:
        why = (
            f"this exception could not be pickled: {type(refusal).__name__}: {text_of(refusal)}; "
            "give it a __reduce__, or pass all its arguments to super().__init__()"
        )
        return why, kept(error)
    except BaseException:
        return "this exception could be neither pickled nor put into words", {}


def _format(error: BaseException) -> str:
    """The traceback as text, without the marks under the lines: to find their places, Python parses
    each line anew, a millisecond for an error from deep inside a library."""
    formatted = traceback.TracebackException.from_exception(error)
    parts = [formatted]
    for part in parts:
        for frame in part.stack:
            frame.colno = frame.end_colno = None
        parts += [link for link in (part.__cause__, part.__context__) if link is not None]
        parts += part.exceptions or ()
    return "".join(formatted.format())

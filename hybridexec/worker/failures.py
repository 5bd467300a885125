"""Describe how a call failed, in a form that reaches the parent whatever the exception is.

Runs on: the greenlet of the call that failed.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable
from os import getpid
from typing import Any

from ..wire import payload
from ..wire.wording import call_text, function_name
from . import forks


def describe(
    error: BaseException, stage: str, function: Callable[..., Any] | None, item: Any
) -> tuple[payload.Payload, str, str]:
    """The exception as a payload, its traceback as text, and a note that says where it was."""
    forks.leave(error)
    where = f"in worker process {getpid()}"
    if function is not None:
        where += f", call {call_text(function_name(function), item)}"
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
    try:
        pickled = payload.dumps(error)
        # An exception that cannot be rebuilt from its args fails only when it is unpickled, which
        # would be in the parent, where nothing of the original is left.
        payload.loads(pickled)
    except BaseException as refusal:
        return payload.dumps(_stand_in(error, refusal)), trace, note
    finally:
        # Not by setting the attribute: a frozen dataclass, say, would refuse that.
        BaseException.with_traceback(error, None)
    return pickled, trace, note


def _stand_in(error: BaseException, refusal: BaseException) -> str:
    """What is told of an exception that could not be pickled."""
    kind = type(error)
    try:
        return (
            f"{kind.__module__}.{kind.__qualname__}: {_text_of(error)} (this exception could not "
            f"be pickled: {type(refusal).__name__}: {_text_of(refusal)}; give it a __reduce__, "
            "or pass all its arguments to super().__init__())"
        )
    except BaseException:
        return "an exception that could be neither pickled nor put into words"


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


def _text_of(error: BaseException) -> str:
    try:
        return str(error)
    except BaseException:
        return "<its __str__ failed>"

"""Says how a call failed, in a form that reaches the parent whatever the exception is, and whether
it may be tried again.

Thread: where the call has failed.
"""

from __future__ import annotations

import contextlib
import os
import traceback
from collections.abc import Callable
from os import getpid
from types import AsyncGeneratorType, CoroutineType, GeneratorType
from typing import Any

from ..process import Process
from ..wire import messages, payload
from ..wire.contract import NODE
from ..wire.wording import (
    RESULT_NOTE,
    add_note,
    call_text,
    elsewhere,
    function_name,
    retell,
    text_of,
)
from .inbox import Job


def outcome(
    error: BaseException,
    job: Job,
    stage: str,
    function: Callable[..., Any] | None,
    item: Any,
    result: object = None,
) -> tuple[int, Any]:
    """The status and value of a call that has failed; see :func:`describe`."""
    status, seconds = messages.ERROR, None
    if job.retrying is not None:
        try:
            may_be_tried_again, seconds = _retry(error, job)
        except BaseException as refusal:
            if refusal is not error:
                add_note(refusal, _NOT_RETRIED.format(kind=type(error).__name__))
                error = refusal
        else:
            status = messages.RETRIABLE if may_be_tried_again else messages.ERROR
    told = describe(error, stage, function, item, result)
    return (status, (*told, seconds)) if status == messages.RETRIABLE else (status, told)


#: What is said of an error that came up instead of the seconds until a retry.
_NOT_RETRIED = "The call had failed with a {kind}; when to try it again could not be found out"


def _retry(error: BaseException, job: Job) -> tuple[bool, float | None]:
    """Whether the call that raised ``error`` may be tried again, and after how many seconds; None
    if that is for the parent to say.

    Raises:
        Whatever ``backoff`` raises, and what is wrong with what it returns.
    """
    from .. import checks  # not before something may be tried again: workers start sooner
    from ..retry_after import RetryAfter

    try:
        if isinstance(error, RetryAfter):
            return True, checks.seconds(error.seconds, "the seconds of a RetryAfter", zero=True)
        what = "retry_on and backoff could not be unpickled"
        try:
            assert job.retrying is not None
            types, backoff, retries = payload.loads(job.retrying)
            what = "retry_on could not be used"
            retriable = isinstance(error, types)
        except BaseException as refusal:
            add_note(
                error,
                f"It was not tried again: {what} in process {getpid()}: "
                f"{type(refusal).__name__}: {refusal}",
            )
            return False, None
        if not retriable or backoff is None or job.attempt > retries:
            return retriable, None
        seconds = backoff(error, job.attempt)
        return True, checks.seconds(seconds, "what backoff returns", zero=True)
    except BaseException as refusal:
        if refusal is not error and refusal.__cause__ is None:
            refusal.__cause__ = error
        raise


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
    node = os.environ.get(NODE, "")
    where = f"in {Process(getpid(), node)}"
    call = "this call"
    if function is not None:
        call = call_text(function_name(function), item)
        where += f", call {call}"
    if stage == "arguments":
        note = (
            f"The function or arguments of this call could not be unpickled {where}. They must be "
            f"importable and unpicklable in a fresh process{elsewhere(node, error)}."
        )
    elif stage == "result":
        note = (
            f"{RESULT_NOTE} {where}. "
            f"{_unpicklable(result) or 'Return something that can be, such as plain data'}."
        )
    else:
        note = f"Raised {where}"
        if isinstance(error, ModuleNotFoundError):
            note += elsewhere(node, error)
    try:
        trace = _format(error)
    except BaseException as refusal:
        trace = f"(the traceback could not be written: {type(refusal).__name__})\n"
    if stage == "arguments":
        what = f"the function or the arguments of {call} could not be unpickled"
        remedy = "A fresh process must be able to import and unpickle them" + elsewhere(node, error)
        retell(error, what, remedy)
    elif stage == "result":
        kind = function_name(type(result))
        what = f"the result of {call}, of type {kind}, could not be pickled"
        retell(error, what, _unpicklable(result) or "Return plain data instead")
        if isinstance(result, CoroutineType):
            with contextlib.suppress(Exception):
                result.close()  # or Python complains that it was never awaited
    from ..wire import exceptions  # not before something fails: workers start sooner

    name, text = exceptions.type_name(error), text_of(error)
    try:
        return exceptions.pack(error), trace, note, name, text
    except BaseException as refusal:
        return payload.dumps(_remains(error, refusal)), trace, note, name, text
    finally:
        # Not by setting the attribute: a frozen dataclass, say, would refuse that.
        BaseException.with_traceback(error, None)


def _unpicklable(result: object) -> str:
    """What to do to have something that no pickle can hold; empty if it is no such thing."""
    if isinstance(result, CoroutineType):
        return 'A call through options(lane="async") awaits what its function returns'
    if isinstance(result, (GeneratorType, AsyncGeneratorType)):
        return "executor.stream yields the items of a generator function as they come"
    return ""


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

"""Turns an outcome, as it came from the wire, into a value or an exception.

Thread: the one that delivers to a future (see :meth:`.batch.Sink.deliver`); a stream's consumer.
Guarantees: raises nothing but Ctrl-C; if a result cannot be unpickled, its call fails with that.
"""

from __future__ import annotations

import traceback
from concurrent.futures import CancelledError
from concurrent.futures.process import _RemoteTraceback
from typing import Any

from ...errors import CallTimeout, ExecutorBroken, RemoteError, WorkerLost
from ...process import Process
from ...wire import exceptions, fragments, messages, payload
from ...wire.wording import add_note, retell, text_of
from .batch import LOST, PACKED, UNPICKLABLE, AttemptHistory, Loss, is_ctrl_c

#: Stands for the call in the text of the error that all calls of a lost worker share.
THIS_CALL = "this call"


def decode(
    status: int, value: Any, process: Process | None, history: AttemptHistory | None = None
) -> tuple[Any, BaseException | None]:
    """The call's ``(value, None)`` or ``(None, exception)``. Notes of the exception describe the
    call's earlier runs."""
    if status == messages.VALUE:
        return value, None
    result, error = _decode(status, value, process)
    if error is not None and history is not None:
        for number, text in enumerate(history.texts, 1):
            add_note(error, f"Run {number} of this call ended with: {text}")
    return result, error


def _decode(status: int, value: Any, process: Process | None) -> tuple[Any, BaseException | None]:
    if status in (messages.PICKLED, PACKED):
        try:
            return fragments.load(*value) if status == PACKED else payload.loads(value), None
        except BaseException as error:
            if is_ctrl_c(error):
                raise
            what = f"the result of this call, from {process}, could not be unpickled"
            retell(error, what, "Its class must be importable here and rebuild itself")
            add_note(
                error,
                f"The result of this call, from {process}, could not be unpickled. Its "
                "class must be importable here and rebuild itself without errors.",
            )
            _forget_frames(error)
            return None, error
    if status == messages.ERROR:
        return None, _remote_exception(*value)
    if status == UNPICKLABLE:
        return None, value
    if status == messages.CANCELLED:
        return None, CancelledError()
    if status == messages.TIMED_OUT:
        expired = CallTimeout(f"the call was stopped: it had run for its timeout of {value} s")
        expired.add_note(f"Stopped in {process}")
        return None, expired
    assert status == LOST
    if type(value) is Loss:
        return None, _own_copy(value.error, value.batch.text(value.place))
    return None, _own_copy(value)


def _remote_exception(
    pickled: payload.Payload, trace: str, note: str, name: str, text: str
) -> BaseException:
    error: BaseException
    try:
        loaded = exceptions.unpack(pickled)
        if isinstance(loaded, BaseException):
            error = loaded
        else:
            why, attributes = loaded
            error = RemoteError(f"{name}: {text} ({why})", name, attributes)
    except BaseException as refusal:
        if is_ctrl_c(refusal):
            raise
        why = f"{type(refusal).__name__}: {text_of(refusal)}"
        error = RemoteError(f"{name}: {text} (it could not be unpickled here: {why})", name)
    if error.__cause__ is not None:
        BaseException.__setattr__(error, "__context__", error.__cause__)
    # Not by setting the attribute, which a frozen dataclass, say, refuses.
    BaseException.__setattr__(error, "__cause__", remote_traceback(trace))
    add_note(error, note)
    return error


def _forget_frames(error: BaseException) -> None:
    """Replace a traceback by its text: its frames' callers refer to those who receive the error, so
    each would keep the other alive."""
    text = "".join(traceback.format_exception(error))
    BaseException.__setattr__(error, "__context__", None)
    BaseException.__setattr__(error, "__cause__", remote_traceback(text))
    BaseException.__setattr__(error, "__traceback__", None)


def remote_traceback(text: str) -> BaseException:
    """A remote traceback as ProcessPoolExecutor has it: a cause, which printed errors show."""
    # Its stub wants a traceback object; the standard library passes a text, too.
    cause: BaseException = _RemoteTraceback(f'\n"""\n{text}"""')  # type: ignore[arg-type]  # typed wrongly
    return cause


def _own_copy(error: BaseException, call: str | None = None) -> BaseException:
    """A copy for one call: raising one object in many threads would mix tracebacks.

    The copy of a WorkerLost names the call.
    """
    copy: BaseException
    if isinstance(error, WorkerLost):
        text = str(error)
        if call is not None:
            text = text.replace(THIS_CALL, f"{THIS_CALL}, {call}", 1)
        copy = type(error)(
            text,
            error.pid,
            error.exitcode,
            error.in_flight,
            error.calls,
            error.fault_log,
            error.node,
        )
    else:
        copy = ExecutorBroken(*error.args)
    for note in getattr(error, "__notes__", ()):
        copy.add_note(note)
    copy.__cause__ = error.__cause__
    return copy

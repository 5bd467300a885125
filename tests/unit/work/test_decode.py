"""Decoding outcomes: every way for a call to end becomes a value or an exception of its own."""

from __future__ import annotations

import copy
import signal
import traceback
from concurrent.futures import CancelledError
from concurrent.futures.process import BrokenProcessPool
from typing import Any

import pytest

from hybridexec.errors import CallTimeout, ExecutorBroken, RemoteError, WorkerLost
from hybridexec.options import CallOptions
from hybridexec.parent.launch.exit_errors import Death
from hybridexec.parent.launch.exit_errors import lost as make_lost
from hybridexec.parent.work.batch import LOST, UNPICKLABLE, Batch, Loss
from hybridexec.parent.work.decode import decode
from hybridexec.parent.work.function import Function
from hybridexec.process import Process
from hybridexec.wire import messages, payload


class RefusesToBeBuilt:
    def __reduce__(self) -> Any:
        return divmod, (1, 0)


class NoException:
    """What an exception with a careless __reduce__ may turn into."""


@pytest.mark.parametrize("value", [None, 0, "text", b"bytes"])
def test_a_plain_value_is_itself(value: object) -> None:
    assert decode(messages.VALUE, value, Process(1)) == (value, None)


def test_a_pickled_value_is_unpickled() -> None:
    assert decode(messages.PICKLED, payload.dumps({"a": [1]}), Process(1)) == ({"a": [1]}, None)


def test_a_large_value_is_put_together_from_its_segments() -> None:
    value = ["x" * 100_000]
    assert decode(messages.PICKLED, payload.dumps(value), Process(1)) == (value, None)


@pytest.mark.parametrize(
    "garbage",
    [b"no pickle", b"", payload.dumps(RefusesToBeBuilt())],
    ids=["garbage", "none", "own"],
)
def test_a_value_that_cannot_be_unpickled_is_that_calls_error(garbage: Any) -> None:
    value, error = decode(messages.PICKLED, garbage, Process(4711))
    assert value is None
    assert isinstance(error, Exception)
    assert "worker process 4711, could not be unpickled" in error.__notes__[0]


class Interrupted:
    """What Ctrl-C hits while it is unpickled."""

    def __reduce__(self) -> Any:
        return signal.raise_signal, (signal.SIGINT,)


def test_ctrl_c_while_a_value_is_unpickled_is_no_outcome() -> None:
    with pytest.raises(KeyboardInterrupt):
        decode(messages.PICKLED, payload.dumps(Interrupted()), Process(4711))


def test_an_error_comes_with_its_remote_traceback_and_a_note() -> None:
    pickled = payload.dumps(KeyError("name"))
    sent = (pickled, "the remote traceback", "Raised in worker process 5", "KeyError", "'name'")
    value, error = decode(messages.ERROR, sent, Process(5))
    assert value is None
    assert type(error) is KeyError
    assert error.args == ("name",)
    assert error.__notes__ == ["Raised in worker process 5"]
    assert type(error.__cause__).__name__ == "_RemoteTraceback"
    printed = "".join(traceback.format_exception(error))
    assert "the remote traceback" in printed
    assert "Raised in worker process 5" in printed


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_errors_that_are_no_exceptions_are_carried_too(kind: type[BaseException]) -> None:
    _, error = decode(messages.ERROR, (payload.dumps(kind("why")), "", "", "", ""), Process(5))
    assert type(error) is kind


def test_an_error_that_could_not_be_carried_has_a_stand_in() -> None:
    remains = payload.dumps(("not to be had", {"code": 5}))
    _, error = decode(messages.ERROR, (remains, "trace", "note", "module.Odd", "why"), Process(5))
    assert type(error) is RemoteError
    assert str(error) == "module.Odd: why (not to be had)"
    assert (error.type_name, error.attributes) == ("module.Odd", {"code": 5})
    assert "trace" in str(error.__cause__)


@pytest.mark.parametrize(
    "sent", [RefusesToBeBuilt(), NoException(), 5], ids=["refuses", "class", "number"]
)
def test_an_error_that_cannot_be_rebuilt_is_still_an_error(sent: object) -> None:
    sent = (payload.dumps(sent), "trace", "note", "module.Odd", "why")
    value, error = decode(messages.ERROR, sent, Process(5))
    assert value is None
    assert type(error) is RemoteError
    assert error.type_name == "module.Odd"
    assert "module.Odd: why (it could not be unpickled here: " in str(error)
    assert error.__notes__ == ["note"]


def test_what_was_never_sent_fails_with_its_own_error() -> None:
    refusal = TypeError("cannot pickle that")
    assert decode(UNPICKLABLE, refusal, None) == (None, refusal)


def test_a_cancelled_call_is_cancelled() -> None:
    _, error = decode(messages.CANCELLED, None, Process(1))
    assert type(error) is CancelledError


def test_a_timed_out_call_says_how_long_it_had_and_where() -> None:
    _, error = decode(messages.TIMED_OUT, 1.5, 77)
    assert type(error) is CallTimeout
    assert isinstance(error, TimeoutError)
    assert "1.5 s" in str(error)
    assert "77" in error.__notes__[0]


def test_each_lost_call_gets_an_exception_of_its_own() -> None:
    lost = WorkerLost("it died", 12, -9, 3)
    cause = lost.__cause__ = ValueError("why")
    errors = [decode(LOST, lost, 12)[1] for _ in range(2)]
    assert errors[0] is not errors[1]
    for error in errors:
        assert type(error) is WorkerLost
        assert isinstance(error, BrokenProcessPool)
        assert (str(error), error.pid, error.exitcode, error.in_flight) == ("it died", 12, -9, 3)
        assert error.__cause__ is cause


def test_a_lost_call_is_named_in_its_own_error() -> None:
    """What all of them share is made once."""
    calls = tuple(f"fetch({n})" for n in range(10))
    lost = make_lost(Death(12, -11, "Fatal Python error"), 12, calls, goes_on=True)
    function = Function(b"", lasting=True, name="fetch")
    items = [(n,) for n in range(11)] + [payload.dumps(((object,), {}))]
    sink: Any = None
    batch = Batch(function, items, sink, CallOptions(), 0)
    for place, name in [(7, "fetch(7)"), (11, "fetch(...)")]:
        error = decode(LOST, Loss(lost, batch, place), 12)[1]
        assert isinstance(error, WorkerLost)
        assert error is not lost
        assert str(error) == (
            "worker process 12 died (killed by SIGSEGV) while it was running this call, "
            f"{name}, and 11 others; the call may have run, the executor goes on. "
            f"It was running: {', '.join(calls)} and 2 more"
        )
        assert error.calls is calls
        assert error.fault_log is lost.fault_log
        assert "Fatal Python error" in error.__notes__[0]
        assert error.__notes__ is not lost.__notes__


def test_each_call_of_a_broken_executor_gets_an_exception_of_its_own() -> None:
    broken = ExecutorBroken("no workers")
    first, second = (decode(LOST, broken, None)[1] for _ in range(2))
    assert type(first) is type(second) is ExecutorBroken
    assert first is not second
    assert str(first) == "no workers"


def test_worker_lost_survives_pickling() -> None:
    error = WorkerLost("it died", 12, -9, 3, ("fetch(1)",), "Fatal Python error")
    error.add_note("a note")
    for again in (payload.loads(payload.dumps(error)), copy.copy(error)):
        assert type(again) is WorkerLost
        assert (str(again), again.pid, again.exitcode, again.in_flight) == ("it died", 12, -9, 3)
        assert (again.calls, again.fault_log) == (("fetch(1)",), "Fatal Python error")
        assert again.__notes__ == ["a note"]

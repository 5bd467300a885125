"""What is said of a call that has failed: whether, and when, it may be tried again."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from typing import Any

import pytest

from hybridexec import RetryAfter
from hybridexec.wire import messages, payload
from hybridexec.worker import failures
from hybridexec.worker.inbox import Job


class Busy(Exception):
    """What the call raises."""


class TooBusy(Busy, RetryAfter):
    """Of a library's own kind, and says when to come back."""

    def __init__(self, headers: dict[str, str]) -> None:
        super().__init__(float(headers["Retry-After"]))


def patience(error: BaseException, attempt: int) -> float:
    return attempt + (0.5 if isinstance(error, Busy) else 0.0)


def refuse(error: BaseException, attempt: int) -> float:
    raise KeyError("rate")


def give_up(error: BaseException, attempt: int) -> float:
    raise error


class Returns:
    """A backoff that returns always the same."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __call__(self, error: BaseException, attempt: int) -> Any:
        return self.value


def failed(
    error: BaseException,
    backoff: Callable[[BaseException, int], float] | None = None,
    *,
    attempt: int = 1,
    retries: int = 3,
    retry_on: Any = (Exception,),
) -> tuple[int, Any]:
    """The outcome of a call that may be tried again after some errors."""
    retrying = pickle.dumps((retry_on, backoff, retries))
    job = Job(1, (None, False, False, retrying, None, attempt))
    return failures.outcome(error, job, "call", patience, ())


def test_without_retries_an_error_is_the_end() -> None:
    job = Job(1, (None, False, False, None, None, 1))
    status, value = failures.outcome(RetryAfter(3), job, "call", patience, ())
    assert status == messages.ERROR
    assert type(payload.loads(value[0])) is RetryAfter


def test_when_to_try_again_is_for_the_parent_to_say_if_nobody_is_asked() -> None:
    status, value = failed(Busy("no"))
    assert (status, value[-2:]) == (messages.RETRIABLE, ("no", None))


def test_backoff_is_asked_about_the_error_itself_and_told_how_many_runs_have_failed() -> None:
    assert failed(Busy(), patience)[1][-1] == 1.5
    assert failed(ValueError(), patience, attempt=3)[1][-1] == 3.0


def test_backoff_is_not_asked_about_errors_that_end_the_call() -> None:
    assert failed(Busy("no"), refuse, retry_on=KeyError)[1][3:] == (f"{__name__}.Busy", "no")
    *_, text, seconds = failed(Busy("no"), refuse, attempt=4)[1]
    assert (text, seconds) == ("no", None), "it was the last run"


@pytest.mark.parametrize("value", [-1, math.nan, math.inf, None, "3", True])
def test_what_is_no_number_of_seconds_fails_the_call(value: object) -> None:
    status, (pickled, trace, *_) = failed(Busy("no"), Returns(value))
    assert status == messages.ERROR
    error = payload.loads(pickled)
    assert isinstance(error, ValueError | TypeError)
    assert str(error).startswith("what backoff returns must be a")
    assert "Busy: no" in trace, "it is chained"
    assert any("had failed with a Busy" in note for note in error.__notes__)


def test_an_error_in_backoff_fails_the_call() -> None:
    status, (pickled, trace, *_) = failed(Busy("no"), refuse)
    assert status == messages.ERROR
    assert isinstance(payload.loads(pickled), KeyError)
    assert "Busy: no" in trace


def test_backoff_may_let_the_error_be_the_end() -> None:
    status, (pickled, *_) = failed(Busy("no"), give_up)
    assert status == messages.ERROR
    error = payload.loads(pickled)
    assert type(error) is Busy
    assert error.__cause__ is None


def test_a_backoff_that_cannot_be_had_here_is_told_of() -> None:
    job = Job(1, (None, False, False, b"no pickle", None, 1))
    status, (pickled, *_) = failures.outcome(Busy("no"), job, "call", patience, ())
    assert status == messages.ERROR
    (note,) = payload.loads(pickled).__notes__
    assert "retry_on and backoff could not be unpickled" in note


@pytest.mark.parametrize("retry_on", [(Exception,), (KeyError,), ()])
def test_retry_after_says_the_seconds_whatever_else_is_said(retry_on: Any) -> None:
    assert failed(RetryAfter(3), refuse, retry_on=retry_on)[1][-1] == 3
    status, (pickled, *_, text, seconds) = failed(TooBusy({"Retry-After": "7"}), retry_on=retry_on)
    assert (status, seconds) == (messages.RETRIABLE, 7)
    assert text == "to be tried again in 7 s"
    assert type(payload.loads(pickled)) is TooBusy


def test_retry_after_takes_seconds_only() -> None:
    for bad in (-1, math.nan, math.inf):
        with pytest.raises(ValueError, match=r"^seconds must be a finite number"):
            RetryAfter(bad)
    with pytest.raises(TypeError, match=r"^seconds must be a number of seconds, not str"):
        RetryAfter("Wed, 21 Oct 2026 07:28:00 GMT")  # type: ignore[arg-type]  # as a header has it
    assert str(RetryAfter(0.5, "slow down")) == "slow down"
    copy = pickle.loads(pickle.dumps(RetryAfter(0.5, "slow down")))
    assert (copy.seconds, str(copy)) == (0.5, "slow down")


def test_a_retry_after_that_was_tampered_with_fails_the_call() -> None:
    error = RetryAfter(1)
    error.seconds = -1
    status, (pickled, *_) = failed(error)
    assert status == messages.ERROR
    assert "the seconds of a RetryAfter" in str(payload.loads(pickled))

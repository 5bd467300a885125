"""Exceptions that pickle cannot carry as they are arrive as their own types, or as RemoteError."""

from __future__ import annotations

import multiprocessing
import pickle
import sys
import threading
from concurrent.futures.process import _RemoteTraceback
from pathlib import Path
from typing import Any

import pytest

from hybridexec import CallTimeout, ExecutorBroken, HybridExecutor, RemoteError, WorkerLost

from .conftest import Make
from .exceptions import Frozen, FrozenButRebuilt, HoldsAFrame, NeedsTwo, NoText, Wordless, fail_with
from .helpers import identity, square

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.every_lane]


def fail_wordlessly() -> None:
    raise Wordless


def test_an_exception_that_its_pickle_cannot_rebuild_arrives_as_its_own_type(
    executor: HybridExecutor,
) -> None:
    error = executor.submit(fail_with, NeedsTwo, 7, "lost").exception()
    assert type(error) is NeedsTwo
    assert str(error) == "lost (7)"
    assert error.args == ("lost (7)",)
    assert "in fail_with" in str(error.__cause__)
    assert "Raised in worker process" in error.__notes__[0]


def test_of_what_an_exception_holds_only_what_cannot_be_pickled_is_left_behind(
    executor: HybridExecutor,
) -> None:
    error = executor.submit(fail_with, HoldsAFrame, "text").exception()
    assert type(error) is HoldsAFrame
    assert (str(error), error.code) == ("text", 5)
    assert not hasattr(error, "file")
    assert "could not be carried here of this error: file" in error.__notes__[0]


def test_an_exception_without_even_a_text_arrives(executor: HybridExecutor) -> None:
    error = executor.submit(fail_with, NoText, 1, "x").exception(timeout=30)
    assert type(error) is NoText
    assert error.args == (1,)


def test_a_frozen_exception_arrives_with_its_fields(executor: HybridExecutor) -> None:
    error = executor.submit(fail_with, Frozen, 7).exception(timeout=30)
    assert type(error) is Frozen
    assert error.code == 7
    assert isinstance(error.__cause__, _RemoteTraceback)


class WantsKeywords(Exception):
    """As openai's errors: its pickle calls it without the keywords."""

    def __init__(self, message: str, *, response: object, body: object) -> None:
        super().__init__(message)
        self.response = response
        self.body = body


class WorksOutItsText(Exception):
    """Its pickle can be loaded, and says the wrong thing."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name} was not found")
        self.name = name


class InSlots(OSError):
    __slots__ = ("__private", "code", "unset")

    def __init__(self, *, code: int) -> None:
        super().__init__(2, "no such thing", "name")
        self.code = code
        self.__private = -code

    @property
    def private(self) -> int:
        return self.__private


class NewWantsKeywords(ValueError):
    def __new__(cls, *, code: int) -> Any:
        return super().__new__(cls, code)

    def __init__(self, *, code: int) -> None:
        self.code = code


class RefusesItsState(Exception):
    def __setstate__(self, state: Any) -> None:
        raise RuntimeError("not like this")


class NumberedGroup(ExceptionGroup[Exception]):
    """A group with a parameter more than groups have."""

    def __new__(cls, message: str, errors: list[Exception], number: int) -> Any:
        return super().__new__(cls, message, errors)

    def __init__(self, message: str, errors: list[Exception], number: int) -> None:
        self.number = number


def make_odd(which: str) -> None:
    lock = threading.Lock()
    if which == "keywords":
        raise WantsKeywords("slow down", response=lock, body={"retry": 5})
    if which == "text":
        raise WorksOutItsText("x")
    if which == "slots":
        raise InSlots(code=4)
    if which == "new":
        raise NewWantsKeywords(code=4)
    if which == "state":
        error = RefusesItsState("text")
        error.code = 4
        raise error
    if which == "argument":
        raise ValueError("text", lock, [1, lock])
    if which == "decoding":
        error = UnicodeDecodeError("utf-8", b"\xff", 0, 1, "bad")
        error.lock = lock
        raise error
    if which == "group":
        raise NumberedGroup("many", [WantsKeywords("a", response=lock, body=1), KeyError("b")], 7)
    if which == "chain":
        try:
            raise WorksOutItsText("inner")
        except WorksOutItsText as inner:
            raise WantsKeywords("outer", response=lock, body=1) from inner


def odd(executor: HybridExecutor, which: str) -> Any:
    return executor.submit(make_odd, which).exception(timeout=30)


def test_errors_of_clients_arrive_as_their_own_types(executor: HybridExecutor) -> None:
    error = odd(executor, "keywords")
    assert type(error) is WantsKeywords
    assert (str(error), error.body) == ("slow down", {"retry": 5})
    error = odd(executor, "text")
    assert (type(error), str(error), error.name) == (WorksOutItsText, "x was not found", "x")
    error = odd(executor, "slots")
    assert (type(error), error.code, error.private) == (InSlots, 4, -4)
    assert (error.errno, error.filename) == (2, "name")
    assert not hasattr(error, "unset")
    error = odd(executor, "new")
    assert (type(error), error.args, error.code) == (NewWantsKeywords, (4,), 4)
    error = odd(executor, "state")
    assert (type(error), str(error), error.code) == (RefusesItsState, "text", 4)


def test_what_cannot_be_pickled_among_an_exceptions_args_is_told_in_words(
    executor: HybridExecutor,
) -> None:
    error = odd(executor, "argument")
    assert type(error) is ValueError
    assert error.args[0] == "text"
    assert "lock" in error.args[1].lower()
    error = odd(executor, "decoding")
    assert type(error) is UnicodeDecodeError
    assert (error.object, error.reason) == (b"\xff", "bad")
    assert "codec can't decode" in str(error)


def test_a_group_arrives_with_errors_that_their_pickles_cannot_rebuild(
    executor: HybridExecutor,
) -> None:
    error = odd(executor, "group")
    assert (type(error), error.message, error.number) == (NumberedGroup, "many", 7)
    first, second = error.exceptions
    assert (type(first), str(first), first.body) == (WantsKeywords, "a", 1)
    assert (type(second), second.args) == (KeyError, ("b",))


def test_what_such_an_error_was_raised_from_is_its_context(executor: HybridExecutor) -> None:
    error = odd(executor, "chain")
    assert (type(error), str(error)) == (WantsKeywords, "outer")
    assert type(error.__context__) is WorksOutItsText
    assert str(error.__context__) == "inner was not found"
    assert isinstance(error.__cause__, _RemoteTraceback)


class OnlyInWorkers(Exception):
    def __init__(self, code: int) -> None:
        if multiprocessing.parent_process() is None:
            raise RuntimeError("not here")
        super().__init__(code)
        self.code = code


def test_an_exception_whose_init_fails_in_the_parent_arrives(executor: HybridExecutor) -> None:
    error = executor.submit(fail_with, OnlyInWorkers, 7).exception(timeout=30)
    assert type(error) is OnlyInWorkers
    assert (error.args, error.code) == ((7,), 7)
    assert "in fail_with" in str(error.__cause__)


def fail_locally(code: int) -> None:
    class Local(Wordless):
        pass

    error = Local("text")
    error.code, error.lock = code, threading.Lock()
    raise error


def test_what_cannot_be_rebuilt_at_all_is_a_remote_error_with_what_it_had(
    executor: HybridExecutor,
) -> None:
    error = executor.submit(fail_locally, 5).exception(timeout=30)
    assert type(error) is RemoteError
    assert error.attributes["code"] == 5
    assert error.attributes["args"] == ("text",)
    assert "lock" not in error.attributes
    assert "text" in str(error)


def make_and_fail(folder: str) -> None:
    """Raise an error of a module that only this process can import."""
    sys.path.insert(0, folder)
    import only_in_the_worker

    raise only_in_the_worker.Refused("no", 5)


def test_an_error_whose_class_the_parent_does_not_know_is_a_remote_error(
    make_each: Make, tmp_path: Path
) -> None:
    (tmp_path / "only_in_the_worker.py").write_text("class Refused(Exception): pass\n")
    executor = make_each(max_workers=1)
    error = executor.submit(make_and_fail, str(tmp_path)).exception(timeout=30)
    assert type(error) is RemoteError
    assert error.type_name == "only_in_the_worker.Refused"
    assert "('no', 5)" in str(error)
    assert "only_in_the_worker" in str(error.__cause__)


def test_a_frozen_exception_that_can_be_rebuilt_arrives_with_its_history(
    executor: HybridExecutor,
) -> None:
    error = executor.submit(fail_with, FrozenButRebuilt, 7).exception(timeout=30)
    assert isinstance(error, FrozenButRebuilt)
    assert error.code == 7
    assert isinstance(error.__cause__, _RemoteTraceback)
    assert any("Raised in worker process" in note for note in error.__notes__)


def test_an_exception_that_nothing_can_be_said_of_becomes_a_remote_error(
    executor: HybridExecutor,
) -> None:
    error = executor.submit(fail_wordlessly).exception(timeout=30)
    assert isinstance(error, RemoteError)


def test_arguments_whose_repr_fails_do_not_hide_the_error(executor: HybridExecutor) -> None:
    error = executor.submit(fail_on_it, NoRepr()).exception(timeout=30)
    assert isinstance(error, ValueError)
    (outcome,) = executor.outcomes(fail_on_it, [NoRepr()])
    assert isinstance(outcome.error, ValueError)


class NoRepr:
    def __repr__(self) -> str:
        raise RuntimeError("no repr")


def fail_on_it(value: object) -> None:
    raise ValueError(type(value).__name__)


def test_an_exception_as_a_result_is_a_result(executor: HybridExecutor) -> None:
    result = executor.submit(identity, ValueError("kept")).result()
    assert isinstance(result, ValueError)
    assert result.__cause__ is None


@pytest.mark.parametrize(
    "error",
    [
        WorkerLost("died", 5, -9, 3),
        ExecutorBroken("broken"),
        CallTimeout("late"),
        RemoteError("x"),
        RemoteError("x", "module.Kind", {"code": 5}),
    ],
    ids=lambda error: type(error).__name__,
)
def test_our_own_errors_travel(error: Any) -> None:
    # A worker may use an executor too, and its errors must come home.
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is type(error)
    assert str(copy) == str(error)
    assert vars(copy) == vars(error)


class Indescribable(Exception):
    @property
    def __notes__(self) -> list[str]:
        raise RuntimeError("look away")

    def __str__(self) -> str:
        raise SystemExit


def raise_indescribable() -> None:
    raise Indescribable


def test_an_error_that_cannot_be_described_is_its_calls_alone(make: Make) -> None:
    executor = make(max_workers=1)
    assert executor.submit(raise_indescribable).exception(timeout=30) is not None
    assert executor.submit(square, 3).result(timeout=30) == 9

"""Every exception reaches its own future, with its history, and nothing else."""

from __future__ import annotations

import dataclasses
import multiprocessing
import pickle
import sys
import threading
import traceback
from concurrent.futures.process import _RemoteTraceback
from pathlib import Path
from typing import Any

import pytest

from hybridexec import CallTimeout, ExecutorBroken, HybridExecutor, RemoteError, WorkerLost

from .conftest import Make
from .helpers import Gate, identity, nap, pid_of, square


class Unusual(BaseException):
    """Not an Exception: escapes what catches only those."""


class NeedsTwo(Exception):
    """Cannot be rebuilt from its ``args``, which is how exceptions are pickled."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(f"{reason} ({code})")


class KeepsItsFields(Exception):
    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class HoldsAFrame(Exception):
    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.code = 5
        self.file = sys._getframe()


class NoText(Exception):
    def __init__(self, code: int, reason: str) -> None:
        super().__init__(code)

    def __str__(self) -> str:
        raise RuntimeError("no text either")


@dataclasses.dataclass(frozen=True)
class Frozen(Exception):
    """Refuses to have attributes set: those that unpickling sets, and ``__traceback__`` too."""

    code: int


class FrozenButRebuilt(Frozen):
    def __reduce__(self) -> Any:
        return type(self), (self.code,)


class _Wordless(type):
    def __getattribute__(cls, name: str) -> Any:
        if name == "__qualname__":
            raise RuntimeError("no name either")
        return super().__getattribute__(name)


class Wordless(Exception, metaclass=_Wordless):
    def __reduce__(self) -> Any:
        raise TypeError("not to be pickled")


def fail(error: BaseException) -> None:
    raise error


def fail_with(kind: type[BaseException], *args: Any) -> None:
    raise kind(*args)


def fail_wordlessly() -> None:
    raise Wordless


def fail_in_a_chain() -> None:
    try:
        {}["missing"]
    except KeyError as error:
        raise ValueError("outer") from error


def exit_with(code: object) -> None:
    sys.exit(code)


def leave_greenlet() -> None:
    import greenlet

    raise greenlet.GreenletExit("gone")


def time_out() -> None:
    import gevent

    with gevent.Timeout(0.01):
        gevent.sleep(60)


def kill_own_greenlet() -> None:
    import gevent

    gevent.kill(gevent.getcurrent())
    gevent.sleep(60)


def leave_a_timer_behind() -> None:
    import gevent

    gevent.Timeout.start_new(0.05)


def fail_on_even(n: int) -> int:
    if n % 2 == 0:
        raise Unusual(n)
    return n


def test_an_exception_arrives_as_it_was(executor: HybridExecutor) -> None:
    with pytest.raises(KeepsItsFields) as caught:
        executor.submit(fail, KeepsItsFields(5)).result()
    assert caught.value.args == (5,)
    assert caught.value.code == 5


def test_the_remote_traceback_is_the_cause(executor: HybridExecutor) -> None:
    error = executor.submit(fail_with, ValueError, "bad").exception()
    assert isinstance(error, ValueError)
    assert isinstance(error.__cause__, _RemoteTraceback)
    remote = str(error.__cause__)
    assert "in fail_with" in remote
    assert "ValueError: bad" in remote
    assert "fail_with" in "".join(traceback.format_exception(error))


def test_the_remote_traceback_shows_the_whole_chain(executor: HybridExecutor) -> None:
    error = executor.submit(fail_in_a_chain).exception()
    assert error is not None
    assert "KeyError: 'missing'" in str(error.__cause__)


def test_a_note_names_worker_and_call(executor: HybridExecutor) -> None:
    error = executor.submit(fail_with, ValueError, "bad").exception()
    assert error is not None
    (note,) = error.__notes__
    assert "fail_with(" in note
    assert any(str(pid) in note for pid in executor._processes)


def test_an_item_of_a_map_has_traceback_and_note_too(executor: HybridExecutor) -> None:
    (outcome,) = executor.outcomes(fail_with, [ValueError])
    assert outcome.error is not None
    assert "in fail_with" in str(outcome.error.__cause__)
    assert str(outcome.worker) in outcome.error.__notes__[0]


def test_notes_of_the_users_own_are_kept(executor: HybridExecutor) -> None:
    error = ValueError("bad")
    error.add_note("look at row 7")
    got = executor.submit(fail, error).exception()
    assert got is not None
    assert got.__notes__[0] == "look at row 7"
    assert len(got.__notes__) == 2


def test_exception_groups_arrive(executor: HybridExecutor) -> None:
    group = ExceptionGroup("two", [ValueError(1), KeyError(2)])
    got = executor.submit(fail, group).exception()
    assert isinstance(got, ExceptionGroup)
    assert [type(error) for error in got.exceptions] == [ValueError, KeyError]


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, Unusual, GeneratorExit])
def test_an_exception_that_is_none_reaches_its_own_future(
    executor: HybridExecutor, kind: type[BaseException]
) -> None:
    before = set(executor.map(pid_of, range(20)))
    error = executor.submit(fail_with, kind, 3).exception()
    assert type(error) is kind
    assert error.args == (3,)
    assert set(executor._processes) >= before


def test_stop_iteration_from_a_call_does_not_end_a_map(executor: HybridExecutor) -> None:
    outcomes = list(executor.outcomes(fail_with, [StopIteration, ValueError, StopIteration]))
    assert [type(o.error) for o in outcomes].count(StopIteration) == 2
    # A generator may not raise StopIteration, so it comes wrapped, as from any executor's map.
    with pytest.raises(RuntimeError):
        list(executor.map(fail_with, [StopIteration]))


@pytest.mark.parametrize("code", [None, 0, 1, "a message"])
def test_sys_exit_in_a_call_is_that_calls_error(executor: HybridExecutor, code: object) -> None:
    error = executor.submit(exit_with, code).exception()
    assert isinstance(error, SystemExit)
    assert error.code == code


def test_greenlet_exit_in_a_call_is_that_calls_error(executor: HybridExecutor) -> None:
    error = executor.submit(leave_greenlet).exception()
    assert type(error).__name__ == "GreenletExit"


def test_a_call_that_kills_its_own_greenlet_ends_with_that(executor: HybridExecutor) -> None:
    error = executor.submit(kill_own_greenlet).exception(timeout=30)
    assert type(error).__name__ == "GreenletExit"
    assert executor.submit(square, 3).result(timeout=30) == 9


def test_a_gevent_timeout_that_nobody_caught_is_that_calls_error(
    executor: HybridExecutor,
) -> None:
    error = executor.submit(time_out).exception(timeout=30)
    assert error is not None
    assert "Timeout" in type(error).__name__ + str(error)
    assert not isinstance(error, CallTimeout)


def test_a_timeout_that_a_call_leaves_behind_hits_no_later_call(make: Make) -> None:
    executor = make(max_workers=1, concurrency=1)
    first = executor.submit(leave_a_timer_behind)
    second = executor.submit(nap, 0.3)
    assert first.result(timeout=30) is None
    assert second.exception(timeout=30) is None


def test_no_neighbour_hears_of_an_exception(executor: HybridExecutor, gate: Gate) -> None:
    neighbours = [executor.submit(gate.wait, n) for n in range(4)]
    gate.wait_for(4)
    outcomes = list(executor.outcomes(fail_on_even, range(40)))
    assert sorted(o.value for o in outcomes if o.ok) == list(range(1, 40, 2))
    assert {type(o.error) for o in outcomes if not o.ok} == {Unusual}
    gate.open()
    assert [future.result() for future in neighbours] == [0, 1, 2, 3]


def test_each_call_gets_an_exception_object_of_its_own(executor: HybridExecutor) -> None:
    first, second = (executor.submit(fail_with, ValueError).exception() for _ in range(2))
    assert first is not second


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

"""What cannot travel fails its own call only and says why."""

from __future__ import annotations

import functools
import pickle
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest

from hybridexec import HybridExecutor

from .conftest import Make
from .helpers import identity, pid_of, square

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.every_lane]

# -- what cannot travel ---------------------------------------------------------------------------


def make_lock() -> Any:
    return threading.Lock()


def return_generator() -> Any:
    return (n for n in range(3))


def test_an_argument_that_cannot_be_pickled_fails_its_future(executor: HybridExecutor) -> None:
    error = executor.submit(identity, threading.Lock()).exception()
    assert isinstance(error, TypeError | pickle.PicklingError)
    assert "the arguments of identity could not be pickled: " in repr(error)
    assert any("could not be pickled" in note for note in error.__notes__)


def test_a_function_that_cannot_be_pickled_fails_its_future(executor: HybridExecutor) -> None:
    lock = threading.Lock()
    error = executor.submit(lambda: lock).exception()
    assert error is not None
    assert any("could not be pickled" in note for note in error.__notes__)
    # Not the lambda: that could travel.
    assert "lock" in " ".join([str(error), *error.__notes__]).replace("locks", "")


def test_a_function_that_cannot_be_pickled_fails_each_item(executor: HybridExecutor) -> None:
    lock = threading.Lock()
    outcomes = list(executor.outcomes(lambda n: (lock, n), range(3)))
    assert sorted(o.item for o in outcomes) == [0, 1, 2]
    assert all("could not be pickled" in o.error.__notes__[-1] for o in outcomes if o.error)
    assert not any(o.ok for o in outcomes)


@pytest.mark.parametrize(
    ("function", "remedy"),
    [(make_lock, "Return plain data"), (return_generator, "executor.stream yields the items")],
)
def test_a_result_that_cannot_be_pickled_fails_its_call(
    executor: HybridExecutor, function: Callable[[], Any], remedy: str
) -> None:
    error = executor.submit(function).exception(timeout=30)
    assert isinstance(error, TypeError | pickle.PicklingError)
    said = f"the result of {function.__name__}(), of type "
    assert said in repr(error)
    assert "could not be pickled: " in repr(error)
    assert remedy in str(error)
    assert any("result" in note and "could not be pickled" in note for note in error.__notes__)
    assert executor.submit(square, 2).result() == 4


class Node(str):
    """A text that knows its neighbour, as BeautifulSoup's do."""

    neighbour: Node | None = None


def make_chain(length: int) -> Node:
    node = Node("last")
    for _ in range(length):
        earlier = Node("earlier")
        earlier.neighbour, node = node, earlier
    return node


@pytest.mark.parametrize("how", ["submit", "outcomes"])
def test_a_result_that_is_too_deep_to_be_pickled_says_so(
    executor: HybridExecutor, how: str
) -> None:
    if how == "submit":
        error = executor.submit(make_chain, 100_000).exception(timeout=30)
    else:
        (outcome,) = executor.outcomes(make_chain, [100_000])
        error = outcome.error
    assert isinstance(error, RecursionError | pickle.PicklingError)
    assert "the result of make_chain(100000), of type Node, could not be pickled" in repr(error)


class NeedsAModule:
    def __reduce__(self) -> Any:
        return import_nothing, ()


def import_nothing() -> None:
    import there_is_no_such_module  # noqa: F401


def test_what_cannot_be_unpickled_says_so_itself(executor: HybridExecutor) -> None:
    error = executor.submit(identity, NeedsAModule()).exception(timeout=30)
    assert type(error) is ModuleNotFoundError
    assert "arguments of identity(...) could not be unpickled: No module named" in str(error)
    assert error.name == "there_is_no_such_module"
    error = executor.submit(NeedsAModule).exception(timeout=30)
    assert type(error) is ModuleNotFoundError
    assert "the result of this call, from worker process" in str(error)
    assert "could not be unpickled: No module named" in repr(error)


def test_an_item_that_cannot_be_pickled_fails_alone(executor: HybridExecutor) -> None:
    outcomes = list(executor.outcomes(type, [1, "a", threading.Lock(), [2], (3,)]))
    assert [o.value for o in outcomes if not o.ok] == [None]
    assert len(outcomes) == 5
    assert {o.value for o in outcomes if o.ok} == {int, str, list, tuple}


# -- payloads that misbehave on their way ---------------------------------------------------------


def blow_up(how: str) -> Any:
    if how == "raise":
        raise LookupError("on purpose")
    if how == "exit":
        sys.exit("on purpose")
    raise NotAnException("on purpose")


class NotAnException(BaseException):
    pass


ERRORS = {"raise": LookupError, "exit": SystemExit, "base": NotAnException}


class BadPickle:
    """Misbehaves when it is pickled."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        blow_up(self.how)


class BadUnpickle:
    """Misbehaves when it is unpickled."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return blow_up, (self.how,)


class RaisesBad(Exception):
    def __init__(self, kind: type, how: str) -> None:
        super().__init__(kind, how)
        self.payload = kind(how)

    def __reduce__(self) -> Any:
        return self.payload.__reduce__()


def bad_or_good(n: int, kind: type, how: str, bad: int) -> Any:
    return kind(how) if n == bad else [n]


def raise_bad(kind: type, how: str) -> None:
    raise RaisesBad(kind, how)


def bad_among(kind: type, how: str) -> list[Any]:
    return [[0], [1], kind(how), [3], [4]]


each_how = pytest.mark.parametrize("how", ERRORS)


each_kind = pytest.mark.parametrize("kind", [BadPickle, BadUnpickle])


@each_how
@each_kind
def test_a_bad_argument_fails_its_own_call(executor: HybridExecutor, kind: type, how: str) -> None:
    before, bad, after = (executor.submit(identity, x) for x in ([1], kind(how), [2]))
    assert isinstance(bad.exception(timeout=30), ERRORS[how])
    assert (before.result(timeout=30), after.result(timeout=30)) == ([1], [2])


@each_how
@each_kind
def test_a_bad_item_fails_alone_among_its_neighbours(
    executor: HybridExecutor, kind: type, how: str
) -> None:
    outcomes = list(executor.outcomes(identity, bad_among(kind, how)))
    assert sorted(o.value for o in outcomes if o.ok) == [[0], [1], [3], [4]]
    assert [type(o.error) for o in outcomes if not o.ok] == [ERRORS[how]]


@each_how
@each_kind
def test_a_bad_result_fails_alone_among_its_neighbours(
    executor: HybridExecutor, kind: type, how: str
) -> None:
    call = functools.partial(bad_or_good, kind=kind, how=how, bad=2)
    outcomes = list(executor.outcomes(call, range(5)))
    assert sorted(o.value for o in outcomes if o.ok) == [[0], [1], [3], [4]]
    (failed,) = (o for o in outcomes if not o.ok)
    assert isinstance(failed.error, ERRORS[how])
    assert any("could not be" in note for note in failed.error.__notes__)


@each_how
@each_kind
def test_a_bad_exception_fails_its_own_call(executor: HybridExecutor, kind: type, how: str) -> None:
    error = executor.submit(raise_bad, kind, how).exception(timeout=30)
    assert type(error) is RaisesBad
    assert not hasattr(error, "payload")
    assert executor.submit(square, 3).result(timeout=30) == 9


@each_how
@each_kind
def test_a_bad_function_fails_its_own_call(executor: HybridExecutor, kind: type, how: str) -> None:
    function = functools.partial(identity, kind(how))
    assert isinstance(executor.submit(function).exception(timeout=30), ERRORS[how])
    assert executor.submit(square, 3).result(timeout=30) == 9


@pytest.mark.every_lane(but=("cluster",))  # whose processes are not ours
def test_the_workers_outlive_all_of_it(make: Make) -> None:
    executor = make(max_workers=1)
    pid = {executor.submit(pid_of).result()}
    for how in ERRORS:
        executor.submit(identity, BadUnpickle(how)).exception(timeout=30)
        executor.submit(BadUnpickle, how).exception(timeout=30)
        executor.submit(BadPickle, how).exception(timeout=30)
    assert set(executor._processes) == pid

"""Errors go when nobody wants them any more: the garbage collector has nothing to do."""

from __future__ import annotations

import gc
import time
import traceback
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hybridexec import CallTimeout, HybridExecutor, WorkerLost

from .conftest import Make
from .helpers import leave, wait_until

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.every_lane]


class Failed(Exception):
    """Can be referred to weakly."""


def fail(_: object = None) -> None:
    raise Failed


class Unpicklable:
    def __reduce__(self) -> Any:
        raise Failed


class FunctionThatCannotTravel(Unpicklable):
    def __call__(self, _: object = None) -> None:
        raise AssertionError


class Spoiled:
    def __reduce__(self) -> Any:
        return fail, ()


def give_unpicklable(_: object = None) -> Unpicklable:
    return Unpicklable()


def give_spoiled(_: object = None) -> Spoiled:
    return Spoiled()


CASES: dict[str, Callable[[HybridExecutor], object]] = {
    "result": lambda e: e.submit(fail).result(),
    "map": lambda e: list(e.map(fail, [1, 2])),
    "lazy map": lambda e: list(e.map(fail, [1, 2], buffersize=1)),
    "map_unordered": lambda e: list(e.map_unordered(fail, [1, 2])),
    "outcomes": lambda e: next(e.outcomes(fail, [1])).result(),
    "retried": lambda e: e.options(retries=1, backoff=0).submit(fail).result(),
    "an argument": lambda e: e.submit(fail, Unpicklable()).result(),
    "an item": lambda e: list(e.map(fail, [Unpicklable()])),
    "a function": lambda e: e.submit(FunctionThatCannotTravel()).result(),
    "a map's function": lambda e: list(e.map(FunctionThatCannotTravel(), [1])),
    "a result": lambda e: e.submit(give_spoiled).result(),
    "a map's result": lambda e: list(e.map(give_spoiled, [1])),
}


@pytest.fixture
def uncollected() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def raised_by(action: Callable[[HybridExecutor], object], executor: HybridExecutor) -> Any:
    """A weak reference to what ``action`` raises, and its type."""
    try:
        action(executor)
    except BaseException as error:
        return weakref.ref(error), type(error)
    raise AssertionError


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("case", CASES)
def test_an_error_is_gone_when_its_handler_has_ended(executor: HybridExecutor, case: str) -> None:
    error, kind = raised_by(CASES[case], executor)
    assert kind is Failed
    wait_until(lambda: error() is None)


@pytest.mark.usefixtures("uncollected")
def test_so_are_errors_of_the_librarys_own(make: Make) -> None:
    executor = make(max_workers=1)

    def late(executor: HybridExecutor) -> None:
        executor.options(timeout=0.05).submit(time.sleep, 60).result()

    def lost(executor: HybridExecutor) -> None:
        executor.submit(leave, 3).result()

    for action, expected in ((late, CallTimeout), (lost, WorkerLost)):
        error, kind = raised_by(action, executor)
        assert kind is expected
        wait_until(lambda: error() is None)  # noqa: B023


def test_an_error_of_unpickling_a_result_tells_where_it_was_raised(
    executor: HybridExecutor,
) -> None:
    error = executor.submit(give_spoiled).exception(timeout=30)
    assert isinstance(error, Failed)
    text = "".join(traceback.format_exception(error))
    assert "in fail\n    raise Failed" in text
    assert "could not be unpickled" in text

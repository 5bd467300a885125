"""Wrong arguments of calls are refused with an error that says what to do instead."""

from __future__ import annotations

import functools
import pickle
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hybridexec import HybridExecutor

from .helpers import square


async def generator() -> Any:
    yield 1


class Generates:
    def method(self) -> Iterator[int]:
        yield 1

    def __call__(self) -> Iterator[int]:
        yield 1


WAYS: list[Callable[[HybridExecutor, Any], object]] = [
    lambda executor, fn: executor.submit(fn),
    lambda executor, fn: executor.map(fn, [1]),
    lambda executor, fn: executor.map(fn, [1], buffersize=1),
    lambda executor, fn: list(executor.map_unordered(fn, [1])),
    lambda executor, fn: list(executor.outcomes(fn, [1])),
]


each_way = pytest.mark.parametrize(
    "call", WAYS, ids=["submit", "map", "buffered", "map_unordered", "outcomes"]
)


@pytest.fixture(scope="module")
def one() -> Any:
    with HybridExecutor(1) as executor:
        yield executor


@each_way
@pytest.mark.parametrize("function", [None, 3, "print", [square]])
def test_what_is_not_callable_is_a_type_error(
    one: HybridExecutor, call: Callable[..., object], function: Any
) -> None:
    with pytest.raises(TypeError, match="callable"):
        call(one, function)


@each_way
@pytest.mark.parametrize(
    "function",
    [generator, Generates().method, Generates(), functools.partial(generator)],
    ids=["def", "method", "call", "partial"],
)
def test_a_generator_function_is_a_type_error_that_says_what_to_do(
    one: HybridExecutor, call: Callable[..., object], function: Any
) -> None:
    with pytest.raises(TypeError, match=r"executor\.stream"):
        call(one, function)


def test_submit_without_a_function_is_a_type_error(one: HybridExecutor) -> None:
    with pytest.raises(TypeError):
        one.submit()


WRONG_SIZES = [
    (0, ValueError),
    (-1, ValueError),
    ("1", TypeError),
    (1.0, TypeError),
    (True, TypeError),
]


@pytest.mark.parametrize(("chunksize", "kind"), WRONG_SIZES)
def test_a_wrong_chunksize_is_refused(
    one: HybridExecutor, chunksize: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match="chunksize"):
        one.map(square, [1], chunksize=chunksize)


@pytest.mark.parametrize(("buffersize", "kind"), WRONG_SIZES)
@pytest.mark.parametrize("way", ["map", "map_unordered", "outcomes"])
def test_a_wrong_buffersize_is_refused(
    one: HybridExecutor, way: str, buffersize: Any, kind: type[Exception]
) -> None:
    with pytest.raises(kind, match="buffersize"):
        getattr(one, way)(square, [1], buffersize=buffersize)


def test_items_that_are_not_iterable_are_a_type_error(one: HybridExecutor) -> None:
    with pytest.raises(TypeError, match="iterable"):
        one.map(square, 3)


def test_wrong_arguments_for_the_function_are_the_calls_error(one: HybridExecutor) -> None:
    with pytest.raises(TypeError, match="square"):
        one.submit(square).result()


UNKNOWN = [
    ("options", {"tiemout": 1}, "timeout, retries, retry_on, backoff, on_worker_loss"),
    ("map", {"chunk_size": 1}, "timeout, chunksize, buffersize, star"),
    ("map_unordered", {"timeout": 1}, "buffersize, return_exceptions, star"),
    ("outcomes", {"self": 1}, "buffersize, star"),
]


@pytest.mark.parametrize("view", [False, True], ids=["executor", "view"])
@pytest.mark.parametrize(("way", "arguments", "names"), UNKNOWN)
def test_an_argument_that_does_not_exist_is_refused_with_those_that_do(
    one: Any, way: str, arguments: dict[str, Any], names: str, view: bool
) -> None:
    method = getattr(one.options() if view else one, way)
    items = () if way == "options" else (square, [1])
    text = f"{way}\\(\\) got an unexpected keyword argument '{next(iter(arguments))}'.*{names}"
    with pytest.raises(TypeError, match=text):
        method(*items, **arguments)


def test_errors_name_the_class_that_users_know(one: Any) -> None:
    for wrong in (one.submit, one.map, one.outcomes, lambda: one.options(3)):
        with pytest.raises(TypeError, match=r"^HybridExecutor\.\w+\(\) "):
            wrong()


@pytest.mark.parametrize("started", [False, True], ids=["unstarted", "started"])
def test_an_executor_cannot_be_pickled(one: HybridExecutor, started: bool) -> None:
    executor = one if started else HybridExecutor(1)
    if started:
        assert executor.submit(square, 3).result(timeout=30) == 9
    for what in (executor, executor.options(timeout=1), {"kept": [executor]}):
        with pytest.raises(TypeError, match=r"cannot pickle 'Hyb.*__getstate__|'ExecutorView'"):
            pickle.dumps(what)
        error = one.submit(repr, what).exception(timeout=30)
        assert isinstance(error, TypeError)
        assert "an executor belongs to the process that made it" in str(error)

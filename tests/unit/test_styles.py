"""Which functions give a coroutine, and which give items."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any
from unittest.mock import MagicMock

import pytest

from hybridexec.styles import ASYNC, ASYNC_ITEMS, ITEMS, PLAIN, style_of


def plain() -> None: ...


async def coroutine() -> None: ...


def generator() -> Iterator[int]:
    yield 1


async def async_generator() -> AsyncIterator[int]:
    yield 1


@types.coroutine
def awaited() -> Iterator[None]:
    yield


class Async:
    async def __call__(self) -> None: ...

    async def method(self) -> None: ...

    @classmethod
    async def of_class(cls) -> None: ...

    @staticmethod
    async def static() -> None: ...


class Inherits(Async):
    pass


class Generates:
    def __call__(self) -> Iterator[int]:
        yield 1


class HasPartial:
    def __init__(self) -> None:
        self.__dict__["__call__"] = coroutine  # which calling the object does not call

    def __call__(self) -> None: ...


class MakesUp:
    """A proxy that has any attribute."""

    def __getattr__(self, name: str) -> Any:
        return self

    def __call__(self) -> None: ...


@functools.wraps(coroutine)
def decorated() -> Any:
    return coroutine()


def depth(function: Callable[..., Any]) -> Callable[..., Any]:
    return functools.partial(functools.partial(function), *())


@pytest.mark.parametrize(
    "function",
    [
        coroutine,
        awaited,
        Async(),
        Inherits(),
        Async().method,
        Async.of_class,
        Async.static,
        functools.partial(coroutine),
        depth(coroutine),
        depth(Async()),
        depth(Async().method),
    ],
)
def test_what_gives_a_coroutine(function: Any) -> None:
    assert style_of(function) == ASYNC


@pytest.mark.parametrize("function", [generator, Generates(), depth(generator), depth(Generates())])
def test_what_gives_items(function: Any) -> None:
    assert style_of(function) == ITEMS


@pytest.mark.parametrize("function", [async_generator, depth(async_generator)])
def test_what_gives_items_in_a_loop(function: Any) -> None:
    assert style_of(function) == ASYNC_ITEMS


@pytest.mark.parametrize(
    "function",
    [
        plain,
        len,
        [].append,
        dict,
        Async,
        Generates,
        HasPartial(),
        MakesUp(),
        MagicMock(),
        decorated,
        depth(plain),
        lambda: (coroutine(),),
        functools.lru_cache(coroutine),
        None,
        "coroutine",
    ],
)
def test_what_gives_a_value(function: Any) -> None:
    assert style_of(function) == PLAIN


@pytest.mark.skipif(not hasattr(inspect, "markcoroutinefunction"), reason="Python 3.12's")
def test_what_is_marked_gives_a_coroutine() -> None:
    @inspect.markcoroutinefunction
    def marked() -> Any:
        return coroutine()

    assert style_of(marked) == style_of(functools.partial(marked)) == ASYNC
    for made in (MakesUp(), HasPartial()):
        inspect.markcoroutinefunction(made)
        assert style_of(made) == ASYNC


def test_it_agrees_with_inspect() -> None:
    for function in (plain, coroutine, depth(coroutine), Async().method, MagicMock()):
        is_async = inspect.iscoroutinefunction(function)
        assert (style_of(function) == ASYNC) == is_async, function

"""Functions: which of them keep a number for good, and which are refused."""

from __future__ import annotations

import functools
from typing import Any

import pytest

from hybridexec.parent.work import session
from hybridexec.parent.work.function import Functions, refuse_items
from hybridexec.styles import ASYNC
from hybridexec.wire import payload
from hybridexec.wire.surrounded import Surrounded


def plain(x: int) -> int:
    return x


async def coroutine() -> None:
    pass


async def generator() -> Any:
    yield 1


class Callable:
    def __init__(self, value: int) -> None:
        self.value = value

    def __call__(self) -> int:
        return self.value

    def method(self) -> int:
        return self.value


class Unhashable(Callable):
    __hash__ = None


class Refuses(Callable):
    def __reduce__(self) -> Any:
        raise RuntimeError("leave me here")


@pytest.mark.parametrize("function", [plain, len, dict, Callable])
def test_a_function_named_by_reference_keeps_its_number(function: Any) -> None:
    functions = Functions()
    first = functions.intern(function)
    assert first.lasting
    assert functions.intern(function) is first
    assert payload.loads(first.payload) is function


class Proxy:
    """Does something else than what it wraps, and is equal to that, as wrapt's proxies are."""

    def __init__(self, wrapped: Any) -> None:
        self.wrapped = wrapped

    def __call__(self, x: int) -> str:
        return f"wrapped {self.wrapped(x)}"

    def __hash__(self) -> int:
        return hash(self.wrapped)

    def __eq__(self, other: object) -> bool:
        return bool(self.wrapped == other)


def test_what_is_equal_to_a_function_is_not_taken_for_it() -> None:
    functions = Functions()
    functions.intern(plain)
    assert payload.loads(functions.intern(Proxy(plain)).payload)(1) == "wrapped 1"


@pytest.mark.parametrize(
    "function",
    [lambda: 1, functools.partial(plain, 1), Callable(1), Callable(1).method, Unhashable(1)],
    ids=["lambda", "partial", "object", "method", "unhashable"],
)
def test_what_travels_by_value_is_pickled_anew_each_time(function: Any) -> None:
    functions = Functions()
    first, second = functions.intern(function), functions.intern(function)
    assert not first.lasting
    assert first.number != second.number


def test_a_change_between_two_calls_is_seen() -> None:
    functions = Functions()
    target = Callable(1)
    before = functions.intern(target)
    target.value = 2
    after = functions.intern(target)
    assert payload.loads(before.payload)() == 1
    assert payload.loads(after.payload)() == 2


def test_numbers_differ_between_functions_and_between_executors() -> None:
    numbers = {
        functions.intern(function).number
        for functions in (Functions(), Functions())
        for function in (plain, len)
    }
    assert len(numbers) == 4


@pytest.mark.parametrize("value", [None, 5, "print", [print]], ids=repr)
def test_what_is_not_callable_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=f"must be callable, not {type(value).__name__}$"):
        Functions().intern(value)


@pytest.mark.parametrize("function", [coroutine, functools.partial(coroutine)])
def test_what_is_async_is_known_to_be(function: Any) -> None:
    interned = Functions().intern(function)
    assert interned.style == ASYNC
    refuse_items(interned)


@pytest.mark.parametrize("function", [generator, functools.partial(generator)])
def test_a_generator_function_is_refused_with_a_way_out(function: Any) -> None:
    with pytest.raises(TypeError, match=r"is a generator function.*executor\.stream"):
        refuse_items(Functions().intern(function))


def test_a_refusal_to_be_pickled_is_raised() -> None:
    with pytest.raises(RuntimeError, match="leave me here"):
        Functions().intern(Refuses(1))


class Around(Surrounded):
    def __init__(self, function: Any, *needs: Any) -> None:
        super().__init__(function)
        self.needs = needs

    def __reduce__(self) -> Any:
        return Around, (self.function,)


class Constant(Around):
    constant = True


def test_what_is_around_a_function_has_its_name_and_passes_with_its_calls() -> None:
    functions = Functions()
    around = Around(functools.partial(plain, 1))
    around.listener = print
    interned = functions.intern(around)
    assert (interned.name, interned.lasting, interned.listener) == ("plain", False, print)
    assert functions.intern(around) is not interned
    assert payload.loads(interned.payload)() == 1


def test_what_always_pickles_to_the_same_is_not_pickled_again_in_a_row() -> None:
    functions = Functions()
    constant = Constant(plain)
    interned = functions.intern(constant)
    assert functions.last is interned
    assert interned.kept is constant
    assert not interned.lasting, "workers forget it after its calls"


def test_all_that_is_around_a_function_needs_comes_before_it() -> None:
    piece, other = session.Piece("name", 1, 0), session.Piece("other", 2, 0)
    interned = Functions().intern(Around(Around(plain, piece), other))
    assert set(interned.needs) == {piece, other}

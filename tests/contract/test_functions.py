"""Functions and classes of all kinds travel, and are each call's own."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable
from typing import Any

import pytest

from hybridexec import HybridExecutor

from .helpers import identity

pytestmark = pytest.mark.every_lane


class Adder:
    def __init__(self, amount: int) -> None:
        self.amount = amount

    def add(self, value: int) -> int:
        return value + self.amount

    def __call__(self, value: int) -> int:
        return value + self.amount

    @classmethod
    def default(cls) -> int:
        return cls(9).amount

    @staticmethod
    def double(value: int) -> int:
        return 2 * value


class Unhashable(Adder):
    __hash__ = None


@pytest.mark.parametrize(
    ("function", "arguments", "result"),
    [
        (functools.partial(pow, 2), (5,), 32),
        (Adder(3).add, (4,), 7),
        (Adder(3), (4,), 7),
        (Unhashable(3), (4,), 7),
        (Adder.default, (), 9),
        (Adder.double, (4,), 8),
        ("text".upper, (), "TEXT"),
        (operator.itemgetter(1), ([5, 6],), 6),
        (functools.partial(functools.partial, int)(base=2), ("101",), 5),
    ],
    ids=[
        "partial",
        "method",
        "callable",
        "unhashable",
        "classmethod",
        "static",
        "builtin-method",
        "itemgetter",
        "nested-partial",
    ],
)
def test_callables_of_all_kinds_travel(
    executor: HybridExecutor, function: Callable[..., Any], arguments: tuple[Any, ...], result: Any
) -> None:
    assert executor.submit(function, *arguments).result() == result


def test_lambdas_and_closures_travel(executor: HybridExecutor) -> None:
    offset = 10

    def local(value: int) -> int:
        return value + offset

    assert executor.submit(lambda value: value * 3, 5).result() == 15
    assert executor.submit(local, 5).result() == 15
    assert list(executor.map(lambda value: value + offset, [1, 2])) == [11, 12]


def test_a_closure_has_the_values_of_each_submit(executor: HybridExecutor) -> None:
    box = [0]

    def read() -> int:
        return box[0]

    first = executor.submit(read)
    box[0] = 1
    second = executor.submit(read)
    assert (first.result(), second.result()) == (0, 1)


def test_a_callable_object_has_the_state_of_each_submit(executor: HybridExecutor) -> None:
    adder = Adder(1)
    first = executor.submit(adder, 1)
    adder.amount = 100
    assert executor.submit(adder, 1).result() == 101
    assert first.result() == 2


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> int:
        self.count += 1
        return self.count


def test_what_a_call_does_to_its_function_no_other_sees(executor: HybridExecutor) -> None:
    counter = Counter()
    assert [executor.submit(counter).result() for _ in range(3)] == [1, 1, 1]
    assert {call.result() for call in [executor.submit(counter) for _ in range(10)]} == {1}


def test_a_local_class_travels_both_ways(executor: HybridExecutor) -> None:
    class Local:
        def __init__(self, value: int) -> None:
            self.value = value

    def bump(thing: Any) -> Any:
        thing.value += 1
        return thing

    assert executor.submit(bump, Local(4)).result().value == 5


def test_the_class_of_a_result_is_the_parents_own(executor: HybridExecutor) -> None:
    result = executor.submit(identity, Adder(2)).result()
    assert type(result) is Adder


def test_many_calls_of_one_lambda_in_a_map(executor: HybridExecutor) -> None:
    assert list(executor.map(lambda value: -value, range(1_000))) == [-n for n in range(1_000)]

"""Which values travel in a frame as they are."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import pytest

from hybridexec.wire import payload
from hybridexec.wire.payload import INLINE_LIMIT


@pytest.mark.parametrize("value", [0, -1, 2**100, 1.5, math.inf, 1j, True, None, "", "ü", b"x"])
def test_small_values_of_builtin_types_are_plain(value: object) -> None:
    assert payload.is_plain(value)
    assert payload.are_plain((value, value))


class Text(str):
    pass


@pytest.mark.parametrize(
    "value",
    [
        [], {}, {1}, Text("x"), np.float64(1), bytearray(b"x"), object(), int,
        "x" * (INLINE_LIMIT + 1), b"x" * (INLINE_LIMIT + 1),
    ],
    ids=lambda value: type(value).__name__,
)  # fmt: skip
def test_everything_else_is_not(value: object) -> None:
    assert not payload.is_plain(value)
    assert not payload.are_plain((1, value))


class Named(NamedTuple):
    one: int


@pytest.mark.parametrize("record", [(), (1,), ("a", 2, None, 1.5, b"x"), (1,) * 16])
def test_short_tuples_of_such_are_plain_as_arguments_and_results(record: tuple[Any, ...]) -> None:
    assert payload.is_record(record)
    assert payload.are_plain((1, record))
    assert payload.are_all_plain([record, record])
    assert payload.are_all_plain([record, record, ()])
    assert payload.are_all_plain([(1,) * len(record), record, ("x",) * len(record)])


@pytest.mark.parametrize(
    "value",
    [(1, []), ((),), (1, (2,)), (1,) * 17, ("x" * (INLINE_LIMIT + 1),), (Text("x"),), Named(1)],
)
def test_other_tuples_are_not(value: tuple[Any, ...]) -> None:
    assert not payload.are_plain((1, value))
    assert not payload.are_all_plain([value])
    assert not payload.are_all_plain([(), value])
    assert not payload.are_all_plain([(1,) * len(value), value])
    assert not payload.are_all_plain([1, (2,)])  # one by one, they are


def test_text_and_bytes_are_plain_up_to_the_limit() -> None:
    assert payload.is_plain("x" * INLINE_LIMIT)
    assert payload.is_plain(b"x" * INLINE_LIMIT)


def test_no_arguments_are_plain() -> None:
    assert payload.are_plain(())

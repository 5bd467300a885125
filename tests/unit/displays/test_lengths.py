"""How many calls there are to be."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import Any

import pytest

from hybridexec.displays.lengths import length


class Refusing:
    """Its length is the user's code, and fails."""

    def __iter__(self) -> Any:
        return iter("abc")

    def __len__(self) -> int:
        raise NotImplementedError


@pytest.mark.parametrize(
    ("iterables", "expected"),
    [
        ([range(7)], 7),
        ([[]], 0),
        ([range(7), "abc", range(5)], 3),
        ([(n for n in range(7))], None),
        ([range(7), (n for n in range(3))], None),
        ([Refusing()], None),
        ([range(7), itertools.repeat("x")], 7),
        ([range(7), itertools.repeat("x", 4)], 4),
        ([itertools.count(), range(7), itertools.cycle("ab")], 7),
        ([itertools.count()], None),
        ([itertools.repeat("x"), iter([1])], None),
        ([], None),
    ],
)
def test_the_shortest_counts(iterables: list[Iterable[Any]], expected: int | None) -> None:
    assert length(iterables) == expected

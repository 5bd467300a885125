"""Bytes and bytearrays: how large ones travel, and as what they arrive."""

from __future__ import annotations

import pickle
from typing import Any

import numpy as np
import pytest

from hybridexec.wire.payload import INLINE_LIMIT, Segments, dumps, flat, loads, unflat


def test_bytearrays_come_back_as_bytearrays() -> None:
    for size in (3, 2 * INLINE_LIMIT):
        back = loads(dumps(bytearray(size)))
        assert type(back) is bytearray
        assert back == bytearray(size)


LARGE = bytes(2 * INLINE_LIMIT)


@pytest.mark.parametrize(
    "value",
    [LARGE, ((LARGE,), {}), (("name", 3, LARGE, LARGE[1:]), {}), ((LARGE, b"small"), {})],
    ids=["result", "argument", "several", "beside a small one"],
)
def test_large_bytes_travel_out_of_band_as_they_are(value: Any) -> None:
    travelling = dumps(value)
    assert type(travelling) is Segments
    assert any(part is LARGE for part in travelling.parts)
    assert len(travelling.parts[0]) < 1000
    back = loads(unflat(pickle.loads(pickle.dumps(flat(travelling)))))
    assert back == value
    assert type(back) is type(value)


def test_what_only_looks_like_arguments_is_not_compared() -> None:
    first, array = loads(dumps(((LARGE,), np.zeros(3))))
    assert first == (LARGE,)
    assert not array.any()


class Bytes(bytes):
    pass


def test_bytes_of_a_class_of_ones_own_keep_it() -> None:
    assert type(loads(dumps(Bytes(LARGE)))) is Bytes


@pytest.mark.parametrize(
    "value",
    [((LARGE, LARGE), {}), ((LARGE, [LARGE]), {}), ((LARGE,), {"data": LARGE}), (LARGE, LARGE)],
    ids=["twice", "in a list", "by keyword", "in a result"],
)
def test_bytes_that_are_there_twice_stay_one_object(value: Any) -> None:
    def members(value: Any) -> list[int]:
        if isinstance(value, dict):
            value = tuple(value.values())
        if isinstance(value, bytes):
            return [id(value)]
        return [number for inner in value for number in members(inner)]

    back = loads(dumps(value))
    assert back == value
    assert len(set(members(back))) == 1


def test_identity_within_one_payload_is_kept() -> None:
    inner: list[int] = []
    first, second = loads(dumps((inner, inner)))
    assert first is second

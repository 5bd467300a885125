"""Payloads: what can travel, by which way, and whose failure it is when it cannot."""

from __future__ import annotations

import math
import pickle
import sys
import threading
import types
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hybridexec.wire import payload
from hybridexec.wire.payload import INLINE_LIMIT, Segments, dumps, flat, loads, unflat


def module_level(x: int) -> int:
    return x + 1


class Point:
    def __init__(self, x: int) -> None:
        self.x = x

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Point) and self.x == other.x

    __hash__ = None

    def double(self) -> int:
        return 2 * self.x


class RefusesToBePickled:
    def __reduce__(self) -> Any:
        raise RuntimeError("leave me here")


class Stopped(BaseException):
    """As what stops a call is."""


class StoppedWhileByValue:
    """Is refused when it is pickled for the first time, and being pickled again is stopped."""

    def __init__(self) -> None:
        self.tries = 0

    def __reduce__(self) -> Any:
        self.tries += 1
        raise TypeError if self.tries == 1 else Stopped


class RefusesToBeBuilt:
    def __reduce__(self) -> Any:
        return divmod, (1, 0)


@pytest.fixture
def main_by_value() -> Iterator[None]:
    """As in a REPL: __main__ cannot be imported by a worker."""
    before = payload.main_by_value
    payload.set_main_by_value(True)
    yield
    payload.set_main_by_value(before)


# -- plain values -----------------------------------------------------------------------------


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
    assert payload.are_all_plain([record, record, ()])


@pytest.mark.parametrize(
    "value",
    [(1, []), ((),), (1, (2,)), (1,) * 17, ("x" * (INLINE_LIMIT + 1),), (Text("x"),), Named(1)],
)
def test_other_tuples_are_not(value: tuple[Any, ...]) -> None:
    assert not payload.are_plain((1, value))
    assert not payload.are_all_plain([value])
    assert not payload.are_all_plain([(), value])
    assert not payload.are_all_plain([1, (2,)])  # one by one, they are


def test_text_and_bytes_are_plain_up_to_the_limit() -> None:
    assert payload.is_plain("x" * INLINE_LIMIT)
    assert payload.is_plain(b"x" * INLINE_LIMIT)


def test_no_arguments_are_plain() -> None:
    assert payload.are_plain(())


# -- pickles ----------------------------------------------------------------------------------

pickled = st.recursive(
    st.none() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.lists(inner).map(tuple),
)


@settings(deadline=None)
@given(value=pickled)
def test_what_goes_in_comes_out(value: object) -> None:
    assert loads(dumps(value)) == value


def test_a_small_pickle_is_bytes() -> None:
    assert type(dumps([1, 2])) is bytes


def test_a_large_pickle_travels_in_a_segment() -> None:
    value = ["x" * 2 * INLINE_LIMIT]
    travelling = dumps(value)
    assert type(travelling) is Segments
    assert len(travelling.parts) == 1
    assert loads(travelling) == value


@pytest.mark.parametrize("size", [1, 100_000])
def test_an_array_travels_out_of_band_and_stays_writable(size: int) -> None:
    array = np.arange(size)
    travelling = dumps(("name", array))
    assert type(travelling) is Segments
    assert len(travelling.parts) == 2
    assert len(travelling.parts[0]) < 1000, "the data is not in the pickle"
    received = Segments(tuple(bytearray(bytes(part)) for part in travelling.parts))
    name, back = loads(received)
    assert name == "name"
    assert np.array_equal(back, array)
    back[0] = 7
    assert back[0] == 7


@pytest.mark.parametrize(
    "array",
    [
        np.asfortranarray(np.arange(12.0).reshape(3, 4)),
        np.arange(100)[::3],
        np.zeros((0, 4)),
        np.array(5),
        np.array([{"an": "object"}, None], dtype=object),
    ],
    ids=["fortran", "strided", "empty", "scalar", "objects"],
)
def test_arrays_of_any_layout_come_back_equal(array: np.ndarray) -> None:
    back = loads(dumps(array))
    assert back.shape == array.shape
    assert back.dtype == array.dtype
    assert np.array_equal(back, array)


def test_an_array_is_copied_when_it_is_sent() -> None:
    array = np.zeros(1000)
    travelling = dumps(array)
    array[:] = 1
    assert not loads(travelling).any()


def test_a_pickle_buffer_travels_out_of_band() -> None:
    data = bytearray(b"0123456789")
    travelling = dumps(pickle.PickleBuffer(data))
    assert type(travelling) is Segments
    data[:] = b"----------"
    assert bytes(loads(travelling)) == b"0123456789"


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


# -- by value ---------------------------------------------------------------------------------


def test_lambdas_and_closures_travel_by_value() -> None:
    bonus = 5
    assert loads(dumps(lambda x: x + bonus))(1) == 6


def test_what_stops_pickling_by_value_is_not_taken_for_a_refusal(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(payload, "main_by_value", False)  # pytest's own may be by value
    with pytest.raises(Stopped):
        dumps(StoppedWhileByValue())


def test_a_class_of_a_function_travels_by_value() -> None:
    class Local:
        def speak(self) -> str:
            return "hello"

    assert loads(dumps(Local())).speak() == "hello"


def test_a_lambda_among_arrays_does_not_send_the_arrays_twice() -> None:
    travelling = dumps((np.arange(10_000), lambda: 1))
    assert type(travelling) is Segments
    assert len(travelling.parts) == 2
    array, function = loads(travelling)
    assert array.sum() == 49_995_000
    assert function() == 1


def test_importable_classes_stay_one_class_beside_a_lambda() -> None:
    point, _ = loads(dumps((Point(3), lambda: 1)))
    assert type(point) is Point


def test_what_nobody_can_pickle_raises_what_plain_pickle_said() -> None:
    with pytest.raises(TypeError) as plainly:
        pickle.dumps(threading.Lock())
    with pytest.raises(TypeError) as ours:
        dumps((threading.Lock(), 1))
    assert str(plainly.value).replace("'", "") in str(ours.value).replace("'", "")


def test_an_objects_own_refusal_is_raised_as_it_is() -> None:
    with pytest.raises(RuntimeError, match="leave me here"):
        dumps([RefusesToBePickled()])


def test_what_fails_to_be_built_raises_when_it_is_loaded() -> None:
    travelling = dumps(RefusesToBeBuilt())
    with pytest.raises(ZeroDivisionError):
        loads(travelling)


def test_what_multiprocessing_can_reduce_is_carried() -> None:
    # ForkingPickler has reducers of its own for methods and descriptors of C types.
    assert loads(dumps(list.append)) is list.append
    assert loads(dumps(Point(4).double))() == 8


def test_reducers_registered_later_are_seen() -> None:
    from multiprocessing.reduction import ForkingPickler

    class Registered:
        pass

    try:
        ForkingPickler.register(Registered, lambda value: (str, ("registered",)))
        assert loads(dumps(Registered())) == "registered"
        assert loads(dumps((Registered(), lambda: 1)))[0] == "registered"
    finally:
        del ForkingPickler._extra_reducers[Registered]


# -- by reference -----------------------------------------------------------------------------


@pytest.mark.parametrize("function", [module_level, Point, Point.double, len, dict, math.sqrt])
def test_what_a_worker_can_import_travels_by_reference(function: object) -> None:
    assert payload.travels_by_reference(function)


def nested() -> Any:
    def inner() -> None:
        pass

    return inner


def shadowed() -> None:
    pass


original_shadowed = shadowed
shadowed = module_level


@pytest.mark.parametrize(
    "function",
    [lambda: 1, nested(), Point(1).double, [].append, original_shadowed, "text", None],
    ids=["lambda", "nested", "method", "builtin method", "shadowed", "text", "none"],
)
def test_what_a_worker_cannot_import_does_not(function: object) -> None:
    assert not payload.travels_by_reference(function)


def test_a_function_of_main_travels_by_reference_where_main_can_be_imported(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(payload, "main_by_value", False)
    function = function_of_main(monkeypatch)
    assert payload.travels_by_reference(function)


def function_of_main(monkeypatch: pytest.MonkeyPatch) -> Any:
    """A function that says it is __main__'s, and is found there."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec("def of_main(x):\n    return x + 100\n", namespace)
    monkeypatch.setattr(sys.modules["__main__"], "of_main", namespace["of_main"], raising=False)
    return namespace["of_main"]


@pytest.mark.usefixtures("main_by_value")
def test_a_function_of_main_travels_by_value_where_it_cannot(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    function = function_of_main(monkeypatch)
    assert not payload.travels_by_reference(function)
    travelling = dumps(function)
    monkeypatch.delattr(sys.modules["__main__"], "of_main")
    back = loads(travelling)
    assert back is not function
    assert back(1) == 101


@pytest.mark.usefixtures("main_by_value")
def test_other_modules_functions_still_travel_by_reference() -> None:
    assert payload.travels_by_reference(module_level)
    assert loads(dumps(module_level)) is module_level


def test_a_module_that_is_gone_is_no_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    module = types.ModuleType("a_module_that_goes")
    exec("def function():\n    pass\n", module.__dict__)
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert payload.travels_by_reference(module.function)
    monkeypatch.delitem(sys.modules, module.__name__)
    assert not payload.travels_by_reference(module.function)

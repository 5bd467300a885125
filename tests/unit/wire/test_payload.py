"""Payloads: what can travel, by which way, and whose failure it is when it cannot."""

from __future__ import annotations

import math
import pickle
import sys
import threading
import types
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hybridexec.wire import payload
from hybridexec.wire.payload import INLINE_LIMIT, Segments, dumps, loads


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
def main_by_value(monkeypatch: pytest.MonkeyPatch) -> None:
    """As in a REPL: __main__ cannot be imported by a worker."""
    monkeypatch.setattr(payload, "main_by_value", True)


# -- pickles ----------------------------------------------------------------------------------

pickled = st.recursive(
    st.none() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner) | st.lists(inner).map(tuple),
)


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


def test_code_that_travels_by_value_keeps_the_name_of_its_file() -> None:
    there = loads(dumps(lambda: lambda: None))
    assert there.__code__.co_filename == __file__
    assert there().__code__.co_filename == __file__

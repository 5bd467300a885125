"""What of a ``__main__`` that workers cannot import is referred to, and what goes by value."""

from __future__ import annotations

import sys
import threading
import types
from collections.abc import Iterator
from typing import Any

import pytest

from hybridexec.parent.work.references import (
    Definition,
    References,
    ToKnownTypes,
    WithLocks,
    pickled,
)
from hybridexec.wire import mains, payload

CODE = """
class Class:
    def method(self): ...

def function(): ...

def outer():
    def inner(): ...
    return inner

value = 1
inner = outer()
"""


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """A notebook."""
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.setattr(payload, "main_by_value", True)
    exec(CODE, vars(module))
    yield module
    vars(module).clear()  # a module is in a circle with its functions


def test_a_function_is_referred_to_by_its_name(main: Any) -> None:
    references = References()
    assert references.refer(main.function) == (mains.attribute, ("function",))
    assert references.first == {"function": "function"}


def test_a_class_is_referred_to_by_a_key_of_its_own(main: Any) -> None:
    references = References()
    reference = references.refer(main.Class)
    assert reference is not None
    assert reference[0] is mains.known_class
    assert references.first == {main.Class: "Class"}
    assert References().refer(main.Class) == reference


def test_a_method_is_its_classs(main: Any) -> None:
    references = References()
    assert references.refer(main.Class.method) == (getattr, (main.Class, "method"))
    assert not references.first, "the class is referred to when it is pickled"


def test_what_is_being_pickled_is_not_referred_to(main: Any) -> None:
    references = References([main.Class, "function"])
    for inside in (main.Class, main.Class.method, main.function):
        assert references.refer(inside) is None
    assert not references.first


def test_what_has_no_name_there_goes_by_value(main: Any) -> None:
    references = References()
    assert references.refer(main.inner) is None
    main.Class, gone = None, main.Class
    assert references.refer(gone) is None
    assert references.refer(threading.Thread) is None
    assert not references.first


def test_nothing_is_referred_to_in_a_main_that_workers_import(
    main: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload, "main_by_value", False)
    assert References().refer(main.function) is None


def test_globals_that_functions_use_are_noted_but_not_what_each_module_has(main: Any) -> None:
    references = References()
    assert references.namespace_of(main.function) == 0
    references.use(0, ["value", "__name__", "__builtins__"], "function")
    assert references.uses == {"value": "function"}
    assert references.namespace_of(test_a_class_is_referred_to_by_a_key_of_its_own) is None


def test_locks_are_made_anew_where_that_is_asked_for(main: Any) -> None:
    lock = threading.Lock()
    assert References().make_anew(lock) is None
    assert References(is_global=True).make_anew(lock) is not None
    assert WithLocks().make_anew(lock) is not None
    assert WithLocks().make_anew(3) is None


def test_types_to_compare_with_need_not_be_sent(main: Any) -> None:
    reference = ToKnownTypes().refer(main.Class)
    assert reference is not None
    assert reference[0] is mains.perhaps_known
    assert ToKnownTypes().refer(threading.Thread) is None


def test_what_a_pickle_needs_comes_with_it(main: Any) -> None:
    sent = pickled([main.function, main.Class()], References())
    assert sent.first == {"function": "function", main.Class: "Class"}
    assert payload.loads(payload.packed(sent.pieces, sent.buffers))[0] is main.function


def test_a_definition_brings_the_class(main: Any) -> None:
    key = mains.key_for(main.Class)
    kind, (found, defined) = Definition(main.Class).__reduce__()
    assert (kind, found, defined) == (mains.define, key, main.Class)

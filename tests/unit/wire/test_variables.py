"""Context variables pickle as the names of globals."""

from __future__ import annotations

import importlib.util
import pickle
import sys
import types
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

import pytest

from hybridexec.wire import payload, variables

here: ContextVar[int] = ContextVar("named otherwise")


@pytest.fixture
def module(monkeypatch: pytest.MonkeyPatch) -> Iterator[types.ModuleType]:
    made = types.ModuleType("made_up")
    monkeypatch.setitem(sys.modules, "made_up", made)
    yield made
    variables._places.clear()


def test_a_global_is_found_by_module_and_name() -> None:
    assert variables.place_of(here) == (__name__, "here")
    assert pickle.loads(pickle.dumps(variables.Travelling(here))) is here
    assert variables.place_of(ContextVar("nowhere")) is None


def test_a_variable_that_was_bound_elsewhere_is_found_there(module: types.ModuleType) -> None:
    variable = module.first = ContextVar("variable")
    assert variables.place_of(variable) == ("made_up", "first")
    del module.first
    assert variables.place_of(variable) is None
    module.second = variable
    assert variables.place_of(variable) == ("made_up", "second")


def test_main_is_the_last_to_be_asked(
    module: types.ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    variable = module.first = ContextVar("variable")
    monkeypatch.setattr(sys.modules["__main__"], "again", variable, raising=False)
    assert variables.place_of(variable) == ("made_up", "first")
    del module.first
    assert variables.place_of(variable) == ("__main__", "again")
    monkeypatch.setattr(payload, "main_by_value", False)
    assert variables.reference(variable) is not None
    monkeypatch.setattr(payload, "main_by_value", True)
    assert variables.reference(variable) is None, "it goes as a name there, by the session"


def test_what_is_not_there_is_named(module: types.ModuleType) -> None:
    variable = module.first = ContextVar("variable")
    pickled = pickle.dumps(variables.Travelling(variable))
    del module.first
    with pytest.raises(AttributeError) as caught:
        pickle.loads(pickled)
    assert "the context variable made_up.first:" in caught.value.__notes__[0]
    module.first = 3
    with pytest.raises(TypeError, match=r"made_up\.first is no context variable"):
        pickle.loads(pickled)


def test_to_look_loads_no_lazy_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "lazy.py").write_text("raise AssertionError")
    spec = importlib.util.spec_from_file_location("lazy", tmp_path / "lazy.py")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    lazy = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "lazy", lazy)
    spec.loader.exec_module(lazy)
    assert variables.place_of(ContextVar("nowhere")) is None


def test_functions_by_value_may_use_one() -> None:
    function = payload.loads(payload.dumps(lambda: here))
    assert function() is here

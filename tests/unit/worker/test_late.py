"""Doing something to a module as soon as it is imported."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from hybridexec.worker import late

SOURCE = "def answer():\n    return 42\n"


@pytest.fixture
def name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The name of a module that can be imported and has not been."""
    name = "imported_late"
    (tmp_path / f"{name}.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(str(tmp_path))
    finders = sys.meta_path[:]
    yield name
    sys.meta_path[:] = finders
    sys.modules.pop(name, None)
    late._waiting.pop(name, None)


def test_it_is_done_before_the_importer_gets_the_module(name: str) -> None:
    late.after_import(name, lambda module: setattr(module, "answer", lambda: 43))
    assert name not in sys.modules
    assert importlib.import_module(name).answer() == 43


def test_a_finder_of_the_old_kind_is_passed_over(name: str) -> None:
    sys.meta_path.insert(0, object())
    late.after_import(name, lambda module: setattr(module, "answer", lambda: 43))
    assert importlib.import_module(name).answer() == 43


def test_it_is_done_at_once_to_a_module_that_is_there(name: str) -> None:
    module = importlib.import_module(name)
    seen: list[Any] = []
    late.after_import(name, seen.append)
    assert seen == [module]


def test_it_is_done_once(name: str) -> None:
    seen: list[Any] = []
    late.after_import(name, seen.append)
    module = importlib.import_module(name)
    importlib.reload(module)
    assert seen == [module]


def test_to_look_for_the_module_is_not_to_import_it(name: str) -> None:
    seen: list[Any] = []
    late.after_import(name, seen.append)
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert str(spec.origin).endswith(f"{name}.py")
    assert not seen
    assert importlib.import_module(name) is seen[0]


def test_the_module_has_its_own_loader_afterwards(name: str) -> None:
    late.after_import(name, lambda _: None)
    module = importlib.import_module(name)
    plain = importlib.util.find_spec(name)
    assert plain is not None
    assert module.__spec__ is not None
    assert type(module.__loader__) is type(module.__spec__.loader) is type(plain.loader)
    assert inspect.getsource(module) == SOURCE


def test_a_module_that_does_not_exist(name: str) -> None:
    late.after_import("exists_nowhere", print)
    try:
        with pytest.raises(ModuleNotFoundError, match="exists_nowhere"):
            importlib.import_module("exists_nowhere")
    finally:
        del late._waiting["exists_nowhere"]


def test_a_module_that_fails_is_waited_for_still(name: str, tmp_path: Path) -> None:
    seen: list[Any] = []
    late.after_import(name, seen.append)
    (tmp_path / f"{name}.py").write_text("1 / 0\n")
    with pytest.raises(ZeroDivisionError):
        importlib.import_module(name)
    assert not seen
    (tmp_path / f"{name}.py").write_text(SOURCE + "# longer\n")
    importlib.invalidate_caches()
    assert importlib.import_module(name) is seen[0]


def test_a_function_of_a_postponed_module_imports_it_when_it_is_called(name: str) -> None:
    with late.postponed(name):
        answer = importlib.import_module(name).answer
    assert name not in sys.modules
    assert answer() == 42
    assert name in sys.modules


def test_a_module_that_is_there_is_not_postponed(name: str) -> None:
    module = importlib.import_module(name)
    with late.postponed(name):
        assert importlib.import_module(name) is module
    assert sys.modules[name] is module

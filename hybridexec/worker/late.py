"""Does something to a module as soon as it is imported, before whoever imports it gets it.

Thread: main registers what is to be done, before user code runs; the import system does it on
whichever thread or greenlet imports.
Guarantees: nobody sees the module before that is done.

A worker that imported every module that it may have to mend would start late, and many of them it
never needs: loading ``ssl`` alone takes as long as a quarter of gevent.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any, ClassVar

_Do = Callable[[Any], object]


@contextlib.contextmanager
def postponed(*names: str) -> Iterator[None]:
    """Let those who are imported meanwhile have modules that are themselves imported when something
    of them is used.

    For those who call some of its functions, and seldom.
    """
    stand_ins = {name: _Postponed(name) for name in names if name not in sys.modules}
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


class _Postponed(ModuleType):
    """Stands for a module."""

    def __getattr__(self, name: str) -> _Part:
        if name.startswith("__"):
            raise AttributeError(name)
        return _Part(self.__name__, name)


class _Part:
    """Stands for a function or class in a module."""

    def __init__(self, module: str, name: str) -> None:
        self._where = module, name

    def __call__(self, *args: Any, **keywords: Any) -> Any:
        return self._found()(*args, **keywords)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._found(), name)

    def _found(self) -> Any:
        module, name = self._where
        return getattr(importlib.import_module(module), name)


_waiting: dict[str, list[_Do]] = {}


def after_import(name: str, do: _Do) -> None:
    """Call ``do`` with the module when it is imported; now, if that has happened."""
    if name in sys.modules:
        do(sys.modules[name])
        return
    _waiting.setdefault(name, []).append(do)
    if _Finder not in sys.meta_path:
        sys.meta_path.insert(0, _Finder)


class _Finder:
    """Finds nothing itself: it puts a loader of ours before that of a module that is waited for."""

    #: What other finders are being asked for: one of them may ask all others in its turn.
    _asked: ClassVar[set[str]] = set()

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name not in _waiting or name in cls._asked:
            return None
        cls._asked.add(name)
        try:
            for finder in sys.meta_path:
                if finder is not cls and hasattr(finder, "find_spec"):
                    spec: ModuleSpec | None = finder.find_spec(name, path, target)
                    if spec is not None:
                        spec.loader = _Loader(spec.loader)  # type: ignore[assignment]  # acts as one
                        return spec
        finally:
            cls._asked.discard(name)
        return None


class _Loader:
    """Loads as another loader does, and gives way to it."""

    def __init__(self, loader: Any) -> None:
        self._loader = loader

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def exec_module(self, module: ModuleType) -> None:
        """Run the module's code, then what waits for it."""
        module.__loader__ = self._loader
        assert module.__spec__ is not None
        module.__spec__.loader = self._loader
        name = module.__spec__.name  # the module may become another, as some of gevent's do
        self._loader.exec_module(module)
        for do in _waiting.pop(name, ()):
            do(module)

"""Has gevent's classes declare their interfaces only where somebody may ask for them.

gevent's event loop says with ``zope.interface`` what it implements. To import that takes a quarter
of the time that gevent takes, and only those who import it themselves ever learn what was said.

Thread: main, which imports gevent; then whichever imports ``zope.interface``.
Guarantees: who imports that finds all declared, before it gets the module.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

from ..late import after_import

_ZOPE, _INTERFACES = "zope.interface", "gevent._interfaces"


@contextlib.contextmanager
def postponed() -> Iterator[None]:
    """Postpone what gevent declares while it is imported here, unless it would take no time."""
    if "gevent" in sys.modules or _ZOPE in sys.modules:
        yield
        return
    zope = _Zope(_ZOPE)
    sys.modules[_ZOPE], sys.modules[_INTERFACES] = zope, _Interfaces(_INTERFACES)
    try:
        yield
    finally:
        del sys.modules[_ZOPE], sys.modules[_INTERFACES]
        after_import(_ZOPE, lambda _: importlib.import_module(_INTERFACES))
        # It is imported by that, or imports that.
        after_import(_INTERFACES, zope.declare)


class _Interfaces(ModuleType):
    """Has a name for each interface."""

    def __getattr__(self, name: str) -> str:
        if name.startswith("__"):
            raise AttributeError(name)
        return name


class _Zope(ModuleType):
    """Notes what is declared."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self._declared: list[tuple[type, tuple[str, ...]]] = []

    def classImplements(self, declared: type, *interfaces: str) -> None:  # as there
        self._declared.append((declared, interfaces))

    def implementer(self, *interfaces: str) -> Callable[[type], type]:
        def declare(declared: type) -> type:
            self.classImplements(declared, *interfaces)
            return declared

        return declare

    def declare(self, interfaces: Any) -> None:
        """Declare what was noted."""
        for declared, names in self._declared:
            found = [getattr(interfaces, name) for name in names]
            sys.modules[_ZOPE].classImplements(declared, *found)

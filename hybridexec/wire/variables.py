"""Context variables, which cannot be pickled: the other side finds its own by module and name.

Thread: as :mod:`.payload`.
Guarantees: what is found there is a context variable, or that fails with a text that says so.
"""

from __future__ import annotations

import importlib
import sys
import types
from contextvars import ContextVar
from typing import Any

from . import payload
from .wording import add_note

_MAINS = ("__main__", "__mp_main__")

# What was found before.
_places: dict[ContextVar[Any], tuple[str, str]] = {}


class Travelling:
    """A context variable that pickles as a reference."""

    def __init__(self, variable: ContextVar[Any]) -> None:
        self.variable = variable

    def __reduce__(self) -> tuple[Any, ...]:
        # That of a __main__ which workers cannot import is pickled as a name there.
        return reference(self.variable) or (_itself, (self.variable,))


def reference(variable: ContextVar[Any]) -> tuple[Any, ...] | None:
    """How to refer to a variable that is a global of a module which the other side can import; None
    if it is none. In the form that ``__reduce__`` returns."""
    place = place_of(variable)
    if place is None or (place[0] == "__main__" and payload.main_by_value):
        return None
    return _find, place


def place_of(variable: ContextVar[Any]) -> tuple[str, str] | None:
    """The module of which a variable is a global, and its name there; None if it is none."""
    place = _places.get(variable)
    if place is None or _globals(place[0]).get(place[1]) is not variable:
        place = _look_for(variable)
        if place is not None:
            _places[variable] = place
    return place


def explain(error: BaseException, variable: str) -> None:
    """Say in an error that it is about a context variable."""
    add_note(
        error,
        f"This is about the context variable {variable}: a worker must be able to import it, and "
        "to unpickle the value that options(propagate=...) sends along with the call.",
    )


def _look_for(variable: ContextVar[Any]) -> tuple[str, str] | None:
    modules = [module for module in list(sys.modules) if module not in _MAINS]
    for module in (*modules, "__main__"):
        for name, value in list(_globals(module).items()):
            if value is variable:
                return module, name
    return None


def _globals(module: str) -> dict[str, Any]:
    found = sys.modules.get(module)
    if not isinstance(found, types.ModuleType):
        return {}
    # Not by vars(): that would load a lazy module.
    try:
        names: dict[str, Any] = object.__getattribute__(found, "__dict__")
    except AttributeError:  # cffi's libraries say that they are modules, and have none
        return {}
    return names


def _find(module: str, name: str) -> ContextVar[Any]:
    try:
        variable = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError) as error:
        explain(error, f"{module}.{name}")
        raise
    if isinstance(variable, ContextVar):
        return variable
    raise TypeError(f"{module}.{name} is no context variable in this process")


def _itself(variable: ContextVar[Any]) -> ContextVar[Any]:
    return variable

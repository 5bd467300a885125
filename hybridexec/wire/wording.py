"""How a call is named to people: in errors, in the log, in statistics.

Runs on: whoever words a message, in the parent or in a worker.
Guarantees: naming a call runs no code of the user's and never raises; the text is short, whatever
the arguments.
"""

from __future__ import annotations

import functools
import reprlib
from typing import Any

_MAX_ARGUMENTS = 6

_repr = reprlib.Repr()
_repr.maxstring = _repr.maxother = 60  # the better part of a URL


def function_name(function: Any) -> str:
    """What to call ``function``: its qualified name, or its type's."""
    while isinstance(function, functools.partial):
        function = function.func
    name = getattr(function, "__qualname__", None)
    return name if type(name) is str else type(function).__qualname__


def call_text(name: str, item: Any) -> str:
    """A call of the function of that name; ``item`` is what travels: plain arguments or not."""
    if type(item) is not tuple:
        return f"{name}(...)"
    arguments = [_argument_text(argument) for argument in item[:_MAX_ARGUMENTS]]
    if len(item) > _MAX_ARGUMENTS:
        arguments.append("...")
    return f"{name}({', '.join(arguments)})"


def _argument_text(argument: object) -> str:
    try:
        return _repr.repr(argument)
    except ValueError:  # an int of thousands of digits
        return "..."

"""Detect functions and classes that were entered at a prompt into an importable ``__main__``.

Thread: the one that pickles, in the parent.

``python -i script.py``, ``code.interact(local=globals())`` and pdb add functions and classes that
the script's file does not define, so workers do not find them there. A function's code says where
it comes from. So do a class's methods; one whose only methods were made by decorators was entered
if the file does not name it.
"""

from __future__ import annotations

import functools
import os
import sys
import types
from typing import Any

_PROMPTS = (
    "<stdin",
    "<console",
    "<python-input",
    "<ipython-input",
    "<bpython-input",
    "<input",
    "<pyshell",
)

_SYSTEM = vars(sys)

#: Whether something that was entered at a prompt has been seen.
seen = False
# The script's path, which Python forgets when its last line has run.
_script: str | None = None


def remember(script: str | None) -> None:
    """Remember the path of ``__main__``'s script."""
    global _script
    _script = script or _script


def is_open() -> bool:
    """Whether something may have been entered at a prompt."""
    return seen or "ps1" in _SYSTEM or ("bdb" in sys.modules and _is_debugged())


def _is_debugged() -> bool:
    bdb: Any = sys.modules["bdb"]
    return isinstance(getattr(sys.gettrace(), "__self__", None), bdb.Bdb)


def entered(value: Any) -> bool:
    """Whether a function or class of ``__main__`` was entered at a prompt."""
    global seen
    if isinstance(value, type):
        found = is_open() and _class_entered(value)
    else:
        found = _function_entered(value) or (is_open() and _made_for_entered(value))
    seen = seen or found
    return found


def _function_entered(function: Any) -> bool:
    for _ in range(100):
        code = getattr(function, "__code__", None)
        if isinstance(code, types.CodeType):
            name = code.co_filename
            if name.startswith(_PROMPTS) or "/ipykernel_" in name:
                return True
        function = getattr(function, "__wrapped__", None)
        if function is None:
            break
    return False


def _made_for_entered(function: Any) -> bool:
    """Whether it is a method that a decorator (dataclass, say) made for an entered class."""
    owner: Any = sys.modules["__main__"]
    *path, name = function.__qualname__.split(".")
    for part in path:
        owner = getattr(owner, part, None)
    return (
        isinstance(owner, type)
        and owner.__module__ == "__main__"
        and getattr(owner, name, None) is function
        and _class_entered(owner)
    )


def _class_entered(kind: type) -> bool:
    members = [getattr(member, "__func__", member) for member in vars(kind).values()]
    functions = [
        member
        for member in members
        if isinstance(member, types.FunctionType) and member.__module__ == "__main__"
    ]
    if any(map(_function_entered, functions)):
        return True
    # The code of methods that a decorator made is from neither the file nor a prompt.
    file = os.path.basename(_script or "")
    if not file or any(os.path.basename(each.__code__.co_filename) == file for each in functions):
        return False
    return kind.__qualname__.partition(".")[0] not in _names_in(_script)


@functools.cache
def _names_in(path: str | None) -> frozenset[str]:
    """The names that a script binds to classes, or may bind to them."""
    import ast  # slow to load

    try:
        with open(path or "", "rb") as file:
            tree = ast.parse(file.read())
    except (OSError, SyntaxError, ValueError):
        return frozenset()
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.alias):
            names.add((node.asname or node.name).partition(".")[0])
    return frozenset(names)

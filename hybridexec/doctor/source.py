"""Reads a program's source: what it imports and calls, and which of it a worker would run.

Guarantees: nothing of the program is run or imported, its packages included.
"""

from __future__ import annotations

import ast
import os
import sys
import sysconfig
import tokenize
from collections.abc import Iterator
from importlib.machinery import PathFinder, SourceFileLoader
from typing import NamedTuple

_Function = ast.FunctionDef | ast.AsyncFunctionDef


class Import(NamedTuple):
    """A module that is imported."""

    module: str
    #: A name that is taken out of it; empty if it is the module itself.
    name: str
    #: What it is called in the file.
    alias: str
    line: int
    #: Whether that happens when the file is imported, before anything else is called.
    at_top: bool


class Use(NamedTuple):
    """A call of a function."""

    name: str
    node: ast.Call
    #: Whether a worker makes this call when it imports the file.
    at_import: bool


class Source:
    """One file of a program."""

    def __init__(self, path: str, module: str) -> None:
        """
        Raises:
            SyntaxError: it is not Python, or of another version.
            OSError: it cannot be read.
        """
        with tokenize.open(path) as file:
            self.tree = ast.parse(file.read(), path)
        self.path = path
        #: The module's name, to resolve relative imports.
        self.module = module
        self._package = (
            module if os.path.basename(path) == "__init__.py" else module.rpartition(".")[0]
        )
        self.imports = list(self._imports())
        self.uses = list(_uses(self.tree))
        self.texts = [
            (node.value, node.lineno)
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        ]

    def at(self, line: int) -> str:
        """A place in this file, for people."""
        return f"{os.path.relpath(self.path)}:{line}"

    def _imports(self) -> Iterator[Import]:
        top = set(map(id, _at_import(self.tree.body, guarded=True)))
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    called = alias.asname or alias.name
                    yield Import(alias.name, "", called, node.lineno, id(node) in top)
            elif isinstance(node, ast.ImportFrom):
                module = self._resolve(node)
                for alias in node.names:
                    called = alias.asname or alias.name
                    yield Import(module, alias.name, called, node.lineno, id(node) in top)

    def _resolve(self, node: ast.ImportFrom) -> str:
        """The module that something is imported from."""
        if not node.level:
            return node.module or ""
        parts = self._package.split(".")
        kept = parts[: len(parts) - node.level + 1]
        return ".".join([*kept, node.module] if node.module else kept)

    def calls_at_import(self, names: set[str]) -> list[ast.Call]:
        """The calls that importing this file leads to, of functions with these names: directly, or
        by way of functions of this file."""
        functions = {node.name: node for node in ast.walk(self.tree) if isinstance(node, _Function)}
        leading = set(names)
        while True:
            more = {
                name
                for name, function in functions.items()
                if name not in leading
                and any(_name_of(node) in leading for node in _calls([function]))
            }
            if not more:
                break
            leading |= more
        return [node for node in _calls(_at_import(self.tree.body)) if _name_of(node) in leading]


def _calls(nodes: Iterator[ast.stmt] | list[_Function]) -> Iterator[ast.Call]:
    for top in nodes:
        for node in ast.walk(top):
            if isinstance(node, ast.Call):
                yield node


def _uses(tree: ast.Module) -> Iterator[Use]:
    at_import = {id(node) for node in _calls(_at_import(tree.body))}
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield Use(_name_of(node), node, id(node) in at_import)


def _name_of(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _at_import(body: list[ast.stmt], guarded: bool = False) -> Iterator[ast.stmt]:
    """The simple statements that run when a worker imports the file; with ``guarded``, those that
    run in the program only, too.

    Of compound statements, the parts that are expressions count as statements of their own.
    """
    for node in body:
        if isinstance(node, _Function | ast.ClassDef):
            for decorator in node.decorator_list:
                yield ast.Expr(decorator)
            if isinstance(node, ast.ClassDef):
                yield from _at_import(node.body, guarded)
        elif isinstance(node, ast.If):
            guards = _is_guard(node.test)
            if guarded or guards is not True:
                yield from _at_import(node.body, guarded)
            if guarded or guards is not False:
                yield from _at_import(node.orelse, guarded)
            yield ast.Expr(node.test)
        else:
            inner = [
                child
                for field in ("body", "orelse", "finalbody")
                for child in getattr(node, field, [])
            ]
            handlers = getattr(node, "handlers", [])
            inner += [child for handler in handlers for child in handler.body]
            cases = getattr(node, "cases", [])
            inner += [child for case in cases for child in case.body]
            if not inner:
                yield node
                continue
            for field in ("items", "iter", "test", "subject"):
                value = getattr(node, field, None)
                for part in value if isinstance(value, list) else [value]:
                    expression = getattr(part, "context_expr", part)
                    if isinstance(expression, ast.expr):
                        yield ast.Expr(expression)
            yield from _at_import(inner, guarded)


def _is_guard(test: ast.expr) -> bool | None:
    """Whether a condition is true in the program and false in a worker, or the other way round;
    None if neither is known."""
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return True if any(_is_guard(value) is True for value in test.values) else None
    if not isinstance(test, ast.Compare) or len(test.ops) != 1:
        return None
    sides = test.left, test.comparators[0]
    names = [side.id for side in sides if isinstance(side, ast.Name)]
    values = [side.value for side in sides if isinstance(side, ast.Constant)]
    if names != ["__name__"] or values != ["__main__"]:
        return None
    return {ast.Eq: True, ast.NotEq: False}.get(type(test.ops[0]))


# -- finding files ---------------------------------------------------------------------------------


def locate(target: str) -> tuple[str, str]:
    """The file and the module's name of a script or module.

    Raises:
        FileNotFoundError: there is none, or none with a source.
    """
    path = find(target, [os.getcwd(), *sys.path])
    for script in (target, os.path.join(target, "__main__.py")):
        if path is None and os.path.isfile(script):
            return os.path.abspath(script), "__main__"
    if path is None:
        raise FileNotFoundError(f"there is no script or module {target!r}")
    if os.path.basename(path) == "__init__.py":
        main = os.path.join(os.path.dirname(path), "__main__.py")
        if os.path.isfile(main):
            return main, f"{target}.__main__"
    return path, target


def find(module: str, places: list[str]) -> str | None:
    """The source file of a module, without importing its packages."""
    path: list[str] | None = places
    spec, name = None, ""
    for part in module.split("."):
        name = f"{name}.{part}" if name else part
        if path is None:
            return None
        spec = PathFinder.find_spec(name, path)
        if spec is None:
            return None
        inside = spec.submodule_search_locations
        path = None if inside is None else [*inside]
    if spec is None or not isinstance(spec.loader, SourceFileLoader):
        return None
    return spec.origin


def prefixes(name: str) -> list[str]:
    """A module's packages, and the module."""
    parts = name.split(".")
    return [".".join(parts[:count]) for count in range(1, len(parts) + 1)]


def read_program(target: str) -> tuple[list[Source], list[tuple[str, str]]]:
    """The files of a program that are its own, its script first; and which of them could not be
    read, and why.

    Raises:
        FileNotFoundError: see :func:`locate`.
    """
    path, module = locate(target)
    places = [os.path.dirname(path), os.getcwd(), *sys.path]
    sources: list[Source] = []
    unread: list[tuple[str, str]] = []
    seen = {path}
    looked_for = {module}
    waiting = [(path, module)]
    while waiting:
        path, module = waiting.pop()
        try:
            source = Source(path, module)
        except (SyntaxError, OSError, ValueError) as error:
            unread.append((path, str(error)))
            continue
        sources.append(source)
        # A name may be a module of the package; and a module's packages are imported, too.
        imported = {f"{each.module}.{each.name}".strip(".") for each in source.imports}
        names = {prefix for name in imported for prefix in prefixes(name)} - looked_for
        looked_for |= names
        for name in sorted(names):
            found = find(name, places)
            if found is not None and found not in seen and _is_own(found):
                seen.add(found)
                waiting.append((found, name))
    return sources, unread


def _is_own(file: str) -> bool:
    """Whether a file is neither Python's, nor an installed package's, nor of this library."""
    known = sysconfig.get_paths()
    folders = [known[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    folders.append(os.path.dirname(os.path.dirname(__file__)))
    return not (
        file.startswith(tuple(os.path.join(folder, "") for folder in folders))
        or f"{os.sep}site-packages{os.sep}" in file
    )

"""What the modules of a package import. Every import counts, those inside functions too.

Those under `if TYPE_CHECKING:` never run, and do not.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple


class Import(NamedTuple):
    """One of them."""

    #: File and line, for a message.
    where: str
    #: Who imports what: dotted names.
    module: str
    target: str


def imports(package: Path) -> Iterator[Import]:
    """All of the package's."""
    for module, path in modules(package).items():
        found = _Imports(package, module, path.name == "__init__.py")
        found.visit(ast.parse(path.read_text(encoding="utf-8"), str(path)))
        for line, target in found.found:
            yield Import(f"{path.relative_to(package.parent)}:{line}", module, target)


def _last_name(node: ast.expr) -> str | None:
    """`b` of the expressions `a.b` and `b`."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else None


class _Imports(ast.NodeVisitor):
    """Collects (line, dotted name) of each import that can run."""

    def __init__(self, package: Path, module: str, is_package: bool) -> None:
        self.package = package
        self.found: list[tuple[int, str]] = []
        #: What a relative import with one dot starts from.
        self.here = module.split(".") if is_package else module.split(".")[:-1]

    def visit_If(self, node: ast.If) -> None:
        if _last_name(node.test) == "TYPE_CHECKING":
            for child in node.orelse:
                self.visit(child)
        else:
            self.generic_visit(node)

    def visit_Import(self, node: ast.Import) -> None:
        for alias in node.names:
            self.found.append((node.lineno, alias.name))

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        base = self.absolute(node.module or "", node.level)
        for alias in node.names:
            name = f"{base}.{alias.name}"
            self.found.append((node.lineno, name if self.is_module(name) else base))

    def visit_Call(self, node: ast.Call) -> None:
        """`importlib.import_module("...")` and `__import__("...")` with the name written out."""
        if _last_name(node.func) in {"import_module", "__import__"} and node.args:
            name = node.args[0]
            if isinstance(name, ast.Constant) and isinstance(name.value, str):
                level = len(name.value) - len(name.value.lstrip("."))
                self.found.append((node.lineno, self.absolute(name.value[level:], level)))
        self.generic_visit(node)

    def absolute(self, name: str, level: int) -> str:
        if not level:
            return name
        base = self.here[: len(self.here) - level + 1]
        return ".".join([*base, name] if name else base)

    def is_module(self, name: str) -> bool:
        path = self.package.parent.joinpath(*name.split("."))
        return path.is_dir() or path.with_suffix(".py").is_file()


def modules(package: Path, name: str = "") -> dict[str, Path]:
    """Every module of the package, with its file."""
    name, found = name or package.name, {}
    for path in sorted(package.iterdir()):
        if path.name == "__init__.py":
            found[name] = path
        elif path.suffix == ".py":
            found[f"{name}.{path.stem}"] = path
        elif (path / "__init__.py").exists():
            found |= modules(path, f"{name}.{path.name}")
    return found

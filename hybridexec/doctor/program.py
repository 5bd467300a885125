"""What may be wrong with a program, going by its source."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from ..drivers import DRIVERS, Driver, of_module
from .finding import Finding
from .source import Import, Source, prefixes

_CLASS = "HybridExecutor"
#: What keeps something from before patching, and so must be imported after that: all of a module,
#: or names that are taken out of it.
_KEEPS_SSL = ("ssl", "requests", "urllib3", "httpx", "aiohttp", "botocore", "boto3", "pymongo")
_KEEPS_NAMES = {
    "time": {"sleep"},
    "socket": {"socket", "create_connection", "getaddrinfo"},
    "subprocess": {"run", "Popen", "call", "check_call", "check_output"},
    "queue": {"Queue", "LifoQueue", "PriorityQueue", "SimpleQueue"},
    "sqlite3": {"connect", "Connection"},
    "select": {"select", "poll"},
    "fcntl": {"flock", "lockf"},
}
_KEEPS_LOCKS = ("filelock", "portalocker")
_KEEPS_LOOPS = ("asyncio", "trio")
#: The drivers that SQLAlchemy takes for a URL that names none, or this one.
_BY_URL = (
    (re.compile(r"postgresql(\+psycopg2)?://"), "psycopg2"),
    (re.compile(r"mysql(\+mysqldb)?://"), "mysqlclient"),
    (re.compile(r"mysql\+mysqlconnector://"), "mysql-connector"),
    (re.compile(r"oracle(\+cx_oracle)?://"), "cx-oracle"),
    (re.compile(r"mssql(\+pyodbc)?://"), "pyodbc"),
)


def examine(sources: list[Source]) -> Iterator[Finding]:
    """What is wrong with the program that these files are; the first is its script."""
    yield from _drivers(sources)
    for source in sources:
        yield from _main_guard(source)
        yield from _patched_too_late(source)
    if any(_forks(source) for source in sources):
        for source in sources:
            yield from _kept_from_before_the_fork(source)


def concurrency(sources: list[Source]) -> list[tuple[int, str]]:
    """The numbers given as ``concurrency``, where they are plain, and where."""
    found = []
    for source in sources:
        for use in source.uses:
            if use.name == _CLASS:
                value = _keyword(use.node, "concurrency")
                if isinstance(value, ast.Constant) and type(value.value) is int:
                    found.append((value.value, source.at(use.node.lineno)))
    return found


def _keyword(call: ast.Call, name: str) -> ast.expr | None:
    return next((keyword.value for keyword in call.keywords if keyword.arg == name), None)


def _drivers(sources: list[Source]) -> Iterator[Finding]:
    known = _names(sources)
    found: dict[str, tuple[Driver, str]] = {}
    for source in sources:
        for imported in source.imports:
            driver = of_module(_full(imported)) or of_module(imported.module)
            if driver is not None:
                found.setdefault(driver.name, (driver, source.at(imported.line)))
        for text, line in source.texts if "sqlalchemy" in known else ():
            for pattern, name in _BY_URL:
                if pattern.match(text):
                    (driver,) = (driver for driver in DRIVERS if driver.name == name)
                    found.setdefault(name, (driver, source.at(line)))
    for driver, where in found.values():
        if not known.isdisjoint(driver.cured_by) or (driver.called and driver.called not in known):
            continue
        what = f"{driver.waits}, in C: meanwhile no other call of that worker runs"
        yield Finding(driver.name, where, f"{driver.modules[0]}: {what}", driver.cure)


def _names(sources: list[Source]) -> set[str]:
    """What is imported, called, and given as keywords."""
    names: set[str] = set()
    for source in sources:
        for imported in source.imports:
            names.update(prefixes(_full(imported)))
        for use in source.uses:
            names.add(use.name)
            names.update(keyword.arg for keyword in use.node.keywords if keyword.arg)
    return names


def _full(imported: Import) -> str:
    return f"{imported.module}.{imported.name}" if imported.name else imported.module


def _main_guard(source: Source) -> Iterator[Finding]:
    names = {imported.alias for imported in source.imports if imported.name == _CLASS}
    for call in source.calls_at_import({_CLASS, *names}):
        if not _is_fork(call):
            yield Finding(
                "main-guard",
                source.at(call.lineno),
                "a worker imports this file to find its functions, and so would make the executor "
                "that this line makes, which then refuses to work",
                'put it under  if __name__ == "__main__":',
            )
            return


def _forks(source: Source) -> bool:
    return any(use.name == _CLASS and _is_fork(use.node) for use in source.uses)


def _is_fork(call: ast.Call) -> bool:
    """Whether an executor is made with a context that is plainly that of "fork"."""
    context = _keyword(call, "mp_context") or next(iter(call.args[1:2]), None)
    return (
        isinstance(context, ast.Call)
        and bool(context.args)
        and isinstance(context.args[0], ast.Constant)
        and context.args[0].value == "fork"
    )


def _patched_too_late(source: Source) -> Iterator[Finding]:
    patches = [use.node.lineno for use in source.uses if use.name == "patch_all"]
    if not patches:
        return
    for imported in source.imports:
        if imported.at_top and imported.line < min(patches) and _root(imported) in _KEEPS_SSL:
            yield Finding(
                "patched-too-late",
                source.at(imported.line),
                f"{_root(imported)} is imported before line {min(patches)} patches, and keeps the "
                "ssl that is not patched: https fails with RecursionError",
                "patch first, before anything else is imported",
            )
            return


def _kept_from_before_the_fork(source: Source) -> Iterator[Finding]:
    for imported in source.imports:
        root = _root(imported)
        if not imported.at_top:
            continue
        if root in _KEEPS_SSL:
            what = f"{root} keeps an ssl that is not patched: https may fail with RecursionError"
        elif root in _KEEPS_LOOPS:
            what = f"{root} is not made fit for many calls: two that run it at once fail"
        elif root in _KEEPS_LOCKS or imported.name in _KEEPS_NAMES.get(imported.module, ()):
            what = f"{_full(imported)} is not patched, and holds up all calls of a worker"
        else:
            continue
        yield Finding(
            "fork",
            source.at(imported.line),
            f'with "fork", it is imported before a worker is patched: {what}',
            'use "forkserver", the default, or import it in the functions that are called',
        )


def _root(imported: Import) -> str:
    return imported.module.partition(".")[0]

"""What may be wrong with where a program runs: Python, installed versions, limits, bytecode."""

from __future__ import annotations

import os
import platform
import resource
import sys
from collections.abc import Iterator
from importlib import metadata
from importlib.util import cache_from_source, find_spec

from .. import checks
from .finding import Finding
from .source import Source, find

_NAME = "hybridexec"
_NEEDED = ("gevent", "greenlet", "cloudpickle")
#: From so many calls at once on, ten look-ups at a time are few.
_MANY = 200
#: Those that look names up.
_CLIENTS = ("aiohttp", "httpx", "http", "requests", "socket", "urllib", "urllib3")


def facts() -> dict[str, str]:
    """What anybody who helps would ask first."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    told = {"python": f"{platform.python_implementation()} {platform.python_version()}"}
    told |= {name: version(name) or "not installed" for name in (_NAME, *_NEEDED)}
    return {
        **told,
        "system": f"{platform.system()} {platform.machine()}",
        "cpus": str(checks.usable_cpus()),
        "open files": f"{soft:,} (hard limit {hard:,})",
        "resolver": os.environ.get("GEVENT_RESOLVER", "thread"),
    }


def version(name: str) -> str | None:
    """The installed version of a distribution."""
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def examine(sources: list[Source], concurrency: list[tuple[int, str]]) -> Iterator[Finding]:
    """What is wrong here for the program that these files are, if any."""
    yield from _interpreter()
    yield from _versions()
    for number, where in concurrency or [(100, "by default")]:
        yield from _open_files(number, where)
        yield from _resolver(sources, number, where)
    yield from _bytecode([source.path for source in sources])


def _interpreter() -> Iterator[Finding]:
    try:
        checks.interpreter()
    except NotImplementedError as error:
        yield Finding("interpreter", sys.executable, str(error), "use another build of Python")
    if platform.python_implementation() != "CPython":
        what = "only CPython is supported, because gevent's workers are tested there only"
        yield Finding("interpreter", sys.executable, what, "use CPython")


def _versions() -> Iterator[Finding]:
    try:
        from packaging.requirements import Requirement
    except ImportError:  # mostly it is there
        return
    try:
        wanted = [Requirement(text) for text in metadata.requires(_NAME) or ()]
    except metadata.PackageNotFoundError:
        return
    for requirement in wanted:
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        have = version(requirement.name)
        if have is None:
            what = "it is needed, and not installed"
        elif not requirement.specifier.contains(have, prereleases=True):
            what = f"version {have} is not one that works here: {requirement.specifier}"
        else:
            continue
        cure = f"pip install '{requirement.name}{requirement.specifier}'"
        yield Finding("versions", requirement.name, what, cure)


def _open_files(concurrency: int, where: str) -> Iterator[Finding]:
    most = checks.most_concurrency()
    if most is not None and concurrency > most:
        yield Finding(
            "open-files",
            where,
            f"concurrency={concurrency:,}, and the hard limit of open files allows {most:,} calls "
            "that open one each",
            "raise it (ulimit -Hn, or LimitNOFILE= of a systemd unit), or use more workers",
        )


def _resolver(sources: list[Source], concurrency: int, where: str) -> Iterator[Finding]:
    chosen = os.environ.get("GEVENT_RESOLVER", "thread")
    needed = {"ares": ("gevent.resolver.cares", ""), "dnspython": ("dns", "pip install dnspython")}
    if chosen in needed:
        module, cure = needed[chosen]
        if _is_missing(module):
            what = f"GEVENT_RESOLVER={chosen}, and there is no {module}: workers cannot start"
            yield Finding("resolver", "GEVENT_RESOLVER", what, cure or "unset it")
        return
    roots = {imported.module.partition(".")[0] for source in sources for imported in source.imports}
    if concurrency >= _MANY and not roots.isdisjoint(_CLIENTS):
        yield Finding(
            "resolver",
            where,
            f"concurrency={concurrency:,}, and each worker looks up ten names at a time: at 50 ms "
            "a look-up, 200 per second",
            "give it more threads for that (dns_threads=100), or resolver='ares'",
        )


def _is_missing(module: str) -> bool:
    package, _, rest = module.partition(".")
    spec = find_spec(package)
    if spec is None or not rest or spec.submodule_search_locations is None:
        return spec is None
    folder = os.path.join(spec.submodule_search_locations[0], *rest.split(".")[:-1])
    name = rest.rpartition(".")[2]
    return not any(entry.startswith(f"{name}.") for entry in os.listdir(folder))


def _bytecode(files: list[str]) -> Iterator[Finding]:
    """Modules that each start would compile anew."""
    own = [find(name, sys.path) for name in (f"{_NAME}.worker.main", "gevent.hub", "cloudpickle")]
    folders = {
        os.path.dirname(file)
        for file in filter(None, [*own, *files[1:]])  # a script's own is never kept
        if not _is_compiled(file) and not _could_be_kept(file)
    }
    if folders:
        why = "PYTHONDONTWRITEBYTECODE is set" if sys.dont_write_bytecode else "cannot be written"
        yield Finding(
            "bytecode",
            ", ".join(sorted(folders)),
            f"there is no bytecode, and none is kept ({why}): each start compiles these modules "
            "anew",
            "compile them once: python -m compileall, in the image's build say",
        )


def _is_compiled(file: str) -> bool:
    compiled = cache_from_source(file)
    try:
        return os.stat(compiled).st_size > 0
    except OSError:
        return False


def _could_be_kept(file: str) -> bool:
    if sys.dont_write_bytecode:
        return False
    folder = os.path.dirname(cache_from_source(file))
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    return os.access(folder, os.W_OK)

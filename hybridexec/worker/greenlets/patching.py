"""Patches this process with gevent, and mends what gevent's patching leaves broken.

Thread: main, once, before any user code; in the fork server, for all workers forked from it.
Guarantees: what ``patch_all`` patches is patched when user code first sees it.

It does as little as possible, because the first result waits for it: modules that a program may
never use are patched when they are imported (:mod:`hybridexec.worker.late`).
"""

from __future__ import annotations

import contextlib
import importlib
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from functools import partial, wraps
from types import ModuleType
from typing import Any

from ... import native
from ..late import after_import
from . import declarations

#: What gevent represents the context of an error with. By default it is ``pprint.saferepr``, and
#: every hub imports that with all it needs: half of a worker's start.
_FORMAT_CONTEXT = "hybridexec.worker.greenlets.patching.represent"

_patched = False


def patch(
    switches: bool | Mapping[str, bool], locks_held: bool = True, copied: bool = False
) -> None:
    """Patch this process with gevent, once: all of it, by ``switches``, or not at all.

    Args:
        locks_held: whether this thread may hold locks. gevent looks for them among all objects.
        copied: whether this process is a copy of one that has imported what it liked, unpatched.
    """
    global _patched
    if _patched or switches is False:
        return
    _patched = True
    if "asyncio" not in sys.modules:
        # asyncio's C module keeps the running loop per OS thread, which all greenlets share. The
        # pure-Python one keeps it in a threading.local, which patching makes per greenlet: so
        # asyncio.run works in many calls at once.
        sys.modules["_asyncio"] = None  # type: ignore[assignment]  # importing it fails now
    # While it is imported it tries what select offers, and gevent's would make a hub.
    importlib.import_module("selectors")
    with declarations.postponed(), _quietly():
        from gevent import monkey

    with _without_plugins(), _sparingly(monkey, locks_held), warnings.catch_warnings():
        # Only a forked process has imported ssl before this; docs/gevent-traps.md says what then.
        warnings.simplefilter("ignore", monkey.MonkeyPatchWarning)
        monkey.patch_all(**({} if switches is True else switches))
    _mend_close()
    from . import blocking, cooperative, waits

    cooperative.install()
    waits.install()
    blocking.install()
    if copied:
        from . import threads

        threads.mend()


def _mend_close() -> None:
    """Have ``os.close`` make no hub, as that of gevent 25.8 to 26.5 does: it leaves the descriptor
    to a hub that may never run, as in a child where Python's own hooks close what they inherit."""
    import gevent.os
    from gevent._hub_local import get_hub_if_exists

    close: Any = os.close
    # Before, it is the system's; later, it looks whether there is a hub.
    code = getattr(close, "__code__", None)
    if code is None or "get_hub" not in code.co_names:
        return

    @wraps(close)
    def close_fd(fd: int) -> None:
        if get_hub_if_exists() is None:
            native.close(fd)
        else:
            close(fd)

    os.close = gevent.os.close = close_fd


def prepare_hub() -> None:
    """Have this process's hub, when it is made, import no more than it needs."""
    import gevent

    gevent.config.settings["format_context"].default = _FORMAT_CONTEXT


def revive_hub() -> None:
    """Make a hub usable that a preloaded module made before this process was forked."""
    import gevent
    from gevent._hub_local import get_hub_if_exists

    if get_hub_if_exists() is not None:
        gevent.reinit()


def represent(value: object) -> str:
    """``pprint.saferepr``, imported when it is needed."""
    import pprint

    return pprint.saferepr(value)


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """Let gevent be imported without what makes its own messages: two loggers that it does not
    use, and the layout of its settings' descriptions."""
    stand_ins = {
        name: kind(name)
        for name, kind in (("logging", _Logging), ("textwrap", _Textwrap))
        if name not in sys.modules
    }
    sys.modules.update(stand_ins)
    try:
        yield
    finally:
        for name in stand_ins:
            del sys.modules[name]


class _Logging(ModuleType):
    """Stands for ``logging``."""

    class getLogger:  # as there
        """A logger, which is looked for when it is used."""

        def __init__(self, name: str) -> None:
            self._name = name

        def __getattr__(self, name: str) -> Any:
            return getattr(importlib.import_module("logging").getLogger(self._name), name)


class _Textwrap(ModuleType):
    """Stands for ``textwrap``."""

    @staticmethod
    def dedent(text: str) -> str:
        """The text as it is."""
        return text

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(importlib.import_module("textwrap"), name)


@contextlib.contextmanager
def _without_plugins() -> Iterator[None]:
    """Keep gevent from looking for plugins of its patching among all installed distributions.

    It would read all their metadata for each of its 25 events, most of the time that patching
    takes. Subscribers of the events are told as ever; where there can be none, because nobody has
    imported what they subscribe with, not even the events are loaded.
    """
    if "gevent.events" not in sys.modules and "zope.event" not in sys.modules:
        sys.modules["gevent.events"] = _NoEvents("gevent.events")
        try:
            yield
        finally:
            del sys.modules["gevent.events"]
        return
    events: Any = importlib.import_module("gevent.events")
    look = events.notify_and_call_entry_points
    events.notify_and_call_entry_points = events.notify
    try:
        yield
    finally:
        events.notify_and_call_entry_points = look


class _NoEvents(ModuleType):
    """Stands for ``gevent.events`` while nobody listens."""

    class DoNotPatch(BaseException):
        """Never raised."""

    @staticmethod
    def notify(event: object) -> None:
        """Tell nobody."""

    notify_and_call_entry_points = notify

    def __getattr__(self, name: str) -> Any:
        if not name.endswith("Event"):
            raise AttributeError(name)
        return _Event


class _Event:
    """Any event."""

    def __init__(self, *arguments: object) -> None:
        pass


@contextlib.contextmanager
def _sparingly(monkey: Any, locks_held: bool) -> Iterator[None]:
    """Have some modules patched when they are imported, if they have not been; look for held locks
    only if there may be some."""
    later = {
        # Nobody has seen the module by then: gevent need not look for those who have.
        "ssl": partial(monkey.patch_ssl, _first_time=False),
        "subprocess": partial(_patch_subprocess, monkey.patch_subprocess),
        "queue": monkey.patch_queue,
        "socket": monkey.patch_socket,
    }
    ours = {
        f"patch_{name}": partial(_patch_when_imported, name, patch_it)
        for name, patch_it in later.items()
        if name not in sys.modules
    }
    ours.setdefault("patch_subprocess", later["subprocess"])
    if not locks_held:
        ours["patch_thread"] = partial(monkey.patch_thread, existing_locks=False)
    theirs = {name: getattr(monkey, name) for name in ours}
    vars(monkey).update(ours)
    try:
        yield
    finally:
        vars(monkey).update(theirs)


def _patch_when_imported(name: str, patch_it: Callable[..., object], **switches: object) -> None:
    def patch_now(gevents: ModuleType) -> None:
        # The import system would do that only after this.
        setattr(sys.modules["gevent"], name, gevents)
        with _without_plugins():
            patch_it(**{name: on for name, on in switches.items() if not name.startswith("_")})

    sys.modules["gevent.monkey"].saved[name] = _Originals(name)
    # Whichever of the two is imported first imports the other.
    after_import(f"gevent.{name}", patch_now)
    after_import(name, lambda _: importlib.import_module(f"gevent.{name}"))


def _patch_subprocess(patch_it: Callable[[], object]) -> None:
    """Patch it, and leave multiprocessing as it is.

    From Python 3.14 on, and on macOS, gevent makes "fork" the start method, which would undo what
    the user's code has chosen; for the other methods :mod:`.cooperative` does what they need.
    """
    gevents: Any = importlib.import_module("gevent.subprocess")
    gevents._gevent_did_monkey_patch = lambda *_, **__: None
    patch_it()


class _Originals(dict[str, object]):
    """What was in a module before it was patched, as gevent keeps it: whoever asks for some of it
    imports the module."""

    def __init__(self, name: str) -> None:
        super().__init__()
        self._name = name

    def __contains__(self, item: object) -> bool:
        importlib.import_module(self._name)
        return super().__contains__(item)

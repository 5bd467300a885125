"""What a worker process is given when it starts, whatever the start method.

Thread: in the parent, the one that starts a process pickles these objects; in the worker, the main
thread unpickles them. The worker's code is named here by strings only, because the parent must not
import it.
"""

# Without `annotations` from `__future__`: a NamedTuple would compile each of its own, see
# tests/test_layers.py.
import importlib
from collections.abc import Callable, Mapping
from multiprocessing import context
from typing import Any, NamedTuple, Self

# The worker's main module, imported in the worker only.
_WORKER = "hybridexec.worker.main"

#: The environment variable that tells a worker the name of its node, if it is on one of a cluster.
NODE = "HYBRIDEXEC_NODE"


class InheritedFd:
    """A descriptor that the worker inherits, under whatever number."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._duplicated: tuple[Any, int] = (None, -1)

    def duplicate(self, popen: Any) -> int:
        """What the worker that ``popen`` starts finds the descriptor by; duplicated only once."""
        if self._duplicated[0] is not popen:
            self._duplicated = (popen, popen.duplicate_for_child(self.fd))
        return self._duplicated[1]

    def __reduce__(self) -> tuple[Any, ...]:
        popen: Any = context.get_spawning_popen()
        return _receive_fd, (popen.DupFd(self.duplicate(popen)),)


def _receive_fd(duplicate: Any) -> InheritedFd:
    return InheritedFd(duplicate.detach())


#: A payload in a form that any pickle can hold, see :func:`.payload.flat`; and with its pieces.
Flat = bytes | list[bytes | bytearray]
FlatPickle = tuple[Flat, list[tuple[int, str, Flat]]]


class Boot(NamedTuple):
    """What a process needs to know before it imports the user's ``__main__``."""

    #: Of which kind the worker is: "greenlet", "async" or "thread".
    lane: str
    #: True, False, or the switches of ``gevent.monkey.patch_all``; of the greenlet lane only.
    monkey_patch: bool | Mapping[str, bool]
    #: Modules to import once patched.
    preload: tuple[str, ...]
    #: Whether ``__main__`` cannot be imported, so that its functions and classes go by value.
    main_by_value: bool
    #: ``settings.Settings``, if anything was asked for: the ``affinity`` is that of all workers.
    settings: Any = None


class Setup:
    """The initializer and its arguments. They are pickled while a process is being started, because
    locks and queues can be pickled only then."""

    def __init__(
        self,
        initializer: Callable[..., object] | None,
        initargs: tuple[Any, ...],
        dumps: Callable[[object], FlatPickle],
    ) -> None:
        self.initializer = initializer
        self.initargs = initargs
        #: The pieces of ``__main__`` that the initializer needs and a forked process has: numbers
        #: and names.
        self.needs: list[tuple[int, str]] = []
        self._dumps = dumps

    def __reduce__(self) -> tuple[Any, ...]:
        if self.initializer is None:
            return Setup, (None, (), _nothing)
        return PickledSetup, self._dumps((self.initializer, self.initargs))


def _nothing(value: object) -> FlatPickle:
    return b"", []


class PickledSetup:
    """A :class:`Setup` in a worker that was not forked; unpickled when it is used."""

    def __init__(self, pickled: Flat, pieces: list[tuple[int, str, Flat]]) -> None:
        self.pickled = pickled
        #: The pieces that it needs of a ``__main__`` that cannot be imported: numbers, names,
        #: payloads.
        self.pieces = pieces


class Setups(NamedTuple):
    """What a worker is set up with."""

    setup: Setup | PickledSetup
    #: What makes the event loop of a worker of the async lane, as an initializer would be called.
    loop_factory: Setup | PickledSetup
    #: What makes the worker's state, if it is to have one.
    worker_state: Setup | PickledSetup | None


class WorkerStart(NamedTuple):
    """What a worker needs to run, sent as the target of its ``multiprocessing.Process``, because
    ``initargs`` must be sent so: see :class:`Setup`.
    """

    boot: Boot
    calls: InheritedFd
    bell: InheritedFd
    results: InheritedFd
    status: InheritedFd
    channel: InheritedFd
    lifeline: InheritedFd
    #: Which of the workers' places it has; see ``Settings.affinity``.
    place: int
    concurrency: int
    #: How many files the parent may open; -1 for no limit.
    open_files: int
    setups: Setups
    #: What the parent's logging is like (``log_tree.Tree``), if log records are to be sent.
    log_tree: tuple[Any, ...] | None

    def __call__(self) -> None:
        """Run the worker, until the parent stops it or is gone."""
        importlib.import_module(_WORKER).run(self)


class BootName(str):
    """A worker process's name, whose unpickling patches the process if its lane needs that.

    The name is part of the preparation data, which a spawned process reads first: so this runs
    before the process imports the user's ``__main__``, and with it ``requests``, say, which must
    find ``ssl`` patched already.
    """

    _arguments: tuple[Any, ...]

    def __new__(
        cls,
        name: str,
        boot: Boot,
        results: InheritedFd,
        lifeline: InheritedFd,
        path: list[str],
    ) -> Self:
        self = super().__new__(cls, name)
        self._arguments = (boot, results, lifeline, path)
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        boot, results, lifeline, path = self._arguments
        popen = context.get_spawning_popen()
        switches = boot.monkey_patch
        begin = {
            "name": str(self),
            "lane": boot.lane,
            "monkey_patch": switches if isinstance(switches, bool) else dict(switches),
            "preload": boot.preload,
            "main_by_value": boot.main_by_value,
            "environment": boot.settings.environment if boot.settings is not None else {},
            "results": results.duplicate(popen),
            "lifeline": lifeline.duplicate(popen),
        }
        # An expression, not a reference to one of our functions: in a bare interpreter sys.path is
        # not the parent's yet, and our module could not be found.
        return eval, (
            f"__import__('sys').path.__setitem__(slice(None), {path!r}) or "
            "__import__('hybridexec.worker.boot', fromlist=['begin'])"
            f".begin(**{begin!r})",
        )

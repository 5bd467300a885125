"""Globals of a notebook that a worker makes anew, because they cannot be pickled or shared.

Thread: in the parent, the one that pickles a global; in the worker, the one that unpickles it.
Guarantees: no worker uses a connection that is open here.

Each worker that imports a module makes the module's locks, thread-local data and clients for
itself. So it does with those that are bound in a notebook.
"""

from __future__ import annotations

import contextvars
import functools
import queue
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Executor
from typing import Any

Reduced = tuple[Any, ...]


def reduce(value: Any) -> Reduced | None:
    """How a worker makes a value of its own, in the form that ``__reduce__`` returns; None if it is
    to be pickled as usual.

    Raises:
        TypeError: a worker cannot make one.
    """
    kind: Any = type(value)  # mypy takes types for unhashable
    known = _known(kind)
    return None if known is None else known(value)


def make(module: str, name: str, *args: Any) -> Any:
    """Call what this process has under that name, which gevent may have replaced."""
    found: Any = functools.reduce(getattr, name.split("."), __import__(module))
    return found(*args)


def make_variable(name: str, *default: Any) -> Any:
    """A context variable."""
    return (
        contextvars.ContextVar(name, default=default[0])
        if default
        else contextvars.ContextVar(name)
    )


def make_tls_context(protocol: Any, settings: dict[str, Any], certificates: bytes) -> Any:
    """A TLS context with these settings and trusted certificates."""
    import ssl

    context = ssl.SSLContext(protocol)
    context.check_hostname = False
    for name, value in settings.items():
        setattr(context, name, value)
    if certificates:
        context.load_verify_locations(cadata=certificates)
    return context


def make_pool_manager(kind: type[Any], size: int, attributes: dict[str, Any]) -> Any:
    """A urllib3.PoolManager without connections."""
    manager = kind(size)
    vars(manager).update(attributes)
    return manager


def _made(name: str, *attributes: str) -> Callable[[Any], Reduced]:
    """A reducer to a call of a class of threading or queue with these attributes of the value."""
    module, _, name = name.partition(".")

    def reduce_it(value: Any) -> Reduced:
        return make, (module, name, *(getattr(value, each) for each in attributes))

    return reduce_it


def _event(event: Any) -> Reduced:
    return _set_event, (event.is_set(),)


def _set_event(is_set: bool) -> Any:
    event = threading.Event()
    if is_set:
        event.set()
    return event


def _queue(waiting: Any) -> Reduced:
    return _fill_queue, (type(waiting).__name__, waiting.maxsize, list(waiting.queue))


def _fill_queue(name: str, size: int, items: list[Any]) -> Any:
    made = make("queue", name, size)
    for item in items:
        made.put(item)
    return made


def _variable(variable: Any) -> Reduced:
    try:
        return make_variable, (variable.name, contextvars.Context().run(variable.get))
    except LookupError:
        return make_variable, (variable.name,)


def _tls_context(context: Any) -> Reduced:
    names = ("options", "verify_flags", "minimum_version", "maximum_version", "verify_mode")
    settings = {name: getattr(context, name) for name in (*names, "check_hostname")}
    certificates = b"".join(context.get_ca_certs(binary_form=True))
    if not certificates and context.verify_mode:
        raise TypeError("cannot pickle 'SSLContext' object whose certificates are in a folder")
    return make_tls_context, (context.protocol, settings, certificates)


def _unused_pool(pool: Any) -> Reduced:
    attributes = {**vars(pool), "_connections": [], "_requests": []}
    return object.__new__, (type(pool),), attributes


def _pool_manager(manager: Any) -> Reduced:
    attributes = {name: each for name, each in vars(manager).items() if name != "pools"}
    return make_pool_manager, (type(manager), manager.pools._maxsize, attributes)


def _refuse(value: Any) -> Reduced:
    raise TypeError(f"cannot pickle {type(value).__qualname__!r} object")


_BY_NAME: dict[str, Callable[[Any], Reduced]] = {
    "_contextvars.ContextVar": _variable,
    "_thread.lock": _made("threading.Lock"),
    "_thread.RLock": _made("threading.RLock"),
    "gevent.thread.LockType": _made("threading.Lock"),
    "ssl.SSLContext": _tls_context,
    "httpcore._sync.connection_pool.ConnectionPool": _unused_pool,
    "httpcore._sync.http_proxy.HTTPProxy": _unused_pool,
    "httpcore._async.connection_pool.AsyncConnectionPool": _unused_pool,
    "httpcore._async.http_proxy.AsyncHTTPProxy": _unused_pool,
    "urllib3.poolmanager.PoolManager": _pool_manager,
}


@functools.lru_cache(1024)
def _known(kind: Any) -> Callable[[Any], Reduced] | None:
    known = _BY_NAME.get(f"{kind.__module__}.{kind.__qualname__}") or _by_type().get(kind)
    if known is None:
        if issubclass(kind, threading.local):
            return lambda local: (type(local), ())
        if issubclass(kind, Executor | threading.Thread | socket.socket):
            return _refuse
    return known


@functools.cache
def _by_type() -> dict[Any, Callable[[Any], Reduced]]:
    """Reducers for types that gevent may have replaced in this process."""
    return {
        type(threading.Lock()): _made("threading.Lock"),
        type(threading.RLock()): _made("threading.RLock"),
        threading.local: _made("threading.local"),
        threading.Condition: _made("threading.Condition", "_lock"),
        threading.Semaphore: _made("threading.Semaphore", "_value"),
        threading.BoundedSemaphore: _made("threading.BoundedSemaphore", "_initial_value"),
        threading.Barrier: _made("threading.Barrier", "parties", "_action", "_timeout"),
        threading.Event: _event,
        queue.SimpleQueue: _made("queue.SimpleQueue"),
        **dict.fromkeys((queue.Queue, queue.LifoQueue, queue.PriorityQueue), _queue),
    }

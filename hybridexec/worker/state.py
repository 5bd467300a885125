"""Makes a worker's state, which its calls share, before the first, and closes it after the last.

Thread: main.
Guarantees: what was made is closed once, if the parent has said stop, after the last call; if
closing takes longer than :data:`CLOSE_SECONDS`, the process ends. What it raises is logged.

A context manager is entered, and left at the end; of anything else that has a ``close`` method,
that is called. An asynchronous context manager is entered and left in one task, as some need it,
which ends when the loop does: so it belongs to the async lane only.
"""

from __future__ import annotations

import contextvars
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from inspect import isawaitable, iscoroutinefunction
from typing import Any

from .. import native, shared_state

#: How long, in seconds, closing may take.
CLOSE_SECONDS = 10.0
_ASYNC = (
    "the worker_state of this executor is asynchronous, so only workers for async functions have "
    "it: use it in an async def, or give this executor's other calls an executor of their own"
)


class State:
    """What is made in this worker."""

    def __init__(self, is_async: bool) -> None:
        """
        Args:
            is_async: whether this worker's calls are tasks.
        """
        self._is_async = is_async
        self._context = contextvars.Context()
        self._stack = ExitStack()
        #: Whether it was begun to make it, so that an error is that of ``worker_state``.
        self.begun = False
        self._open = False

    # -- the beginning ------------------------------------------------------------------------

    def open(self, factory: Callable[[], Any], before: object) -> object:
        """Make the state; where calls are tasks, that is what a coroutine does that is returned.

        Args:
            before: what the initializer has returned; awaited, where it can be.
        """
        if self._is_async:
            return self._open_async(factory, before)
        self.begun = True
        if iscoroutinefunction(factory):
            shared_state.lack(_ASYNC)
            return None
        made = factory()
        if isawaitable(made) or (_has(made, "__aenter__") and not _has(made, "__enter__")):
            close = getattr(made, "close", None)
            if isawaitable(made) and close is not None:
                close()  # a coroutine that will not run says so otherwise
            shared_state.lack(_ASYNC)
            return None
        self._enter(made)
        return None

    def _enter(self, made: Any) -> None:
        self._open = True
        if _has(made, "__enter__") and _has(made, "__exit__"):
            shared_state.hold(self._stack.enter_context(made))
        else:
            shared_state.hold(made)
            close = getattr(made, "close", None)
            if callable(close):
                self._stack.callback(close)
        self._context = contextvars.copy_context()

    async def _open_async(self, factory: Callable[[], Any], before: object) -> None:
        import asyncio

        if isawaitable(before):
            await before
        self.begun = True
        made = factory()
        if isawaitable(made) and not _has(made, "__aenter__"):
            made = await made
        if _has(made, "__aenter__") or _closes_async(made):
            entered: asyncio.Future[object] = asyncio.get_running_loop().create_future()
            # Kept here: a loop does not keep tasks alive.
            self._holder = asyncio.create_task(_hold(made, entered))
            shared_state.hold(await entered)
        else:
            self._enter(made)

    # -- the end ------------------------------------------------------------------------------

    def close(self) -> None:
        """Close it. (What is asynchronous has been closed by now, with its loop.)"""
        shared_state.lack("this worker's state is closed: the worker is about to end")
        if not self._open:
            return
        with _bounded():
            self._context.run(self._stack.close)


def _has(made: object, method: str) -> bool:
    return hasattr(type(made), method)


def _closes_async(made: object) -> bool:
    return callable(getattr(made, "aclose", None)) or iscoroutinefunction(
        getattr(made, "close", None)
    )


async def _hold(made: Any, entered: Any) -> None:
    """Enter ``made``, and leave it when this task is cancelled: at the end of the loop."""
    import asyncio
    from contextlib import AsyncExitStack

    stack = AsyncExitStack()
    try:
        if _has(made, "__aenter__"):
            value = await stack.enter_async_context(made)
        else:
            value = made
            close: Callable[[], Awaitable[object]] = getattr(made, "aclose", None) or made.close
            stack.push_async_callback(close)
    except BaseException as error:
        entered.set_exception(error)
        return
    entered.set_result(value)
    try:
        await asyncio.get_running_loop().create_future()
    except asyncio.CancelledError:
        pass
    with _bounded():
        await stack.aclose()


@contextmanager
def _bounded() -> Iterator[None]:
    """Close something: what that raises is logged, and if it takes too long, the process ends."""
    ended = native.original("_thread", "allocate_lock")()
    ended.acquire()
    native.start_thread(partial(_give_up, ended), "hybridexec-close", deaf=True)
    try:
        yield
    except BaseException as error:
        import logging  # few need it

        text = "Exception when a worker's state was closed:"
        logging.getLogger("hybridexec").error(text, exc_info=error)
    finally:
        ended.release()


def _give_up(ended: Any) -> None:
    """On a thread of its own, which may not use what gevent has patched, logging included."""
    if not ended.acquire(timeout=CLOSE_SECONDS):
        text = f"hybridexec: a worker's state was not closed within {CLOSE_SECONDS:g} s\n"
        os.write(2, text.encode())
        os._exit(1)

"""What a coroutine awaits of an executor: a call's result, room for a call, the executor's end.

Thread: that of the event loop.
Guarantees: nothing blocks it; who is cancelled while it awaits a call's result cancels the call.
"""

from __future__ import annotations

import asyncio
import signal
import threading
from collections.abc import Callable
from concurrent.futures import CancelledError, Future
from typing import TYPE_CHECKING, TypeVar

from .. import lifecycle
from ..work import mailbox
from ..work.future import CallFuture
from .room import Room

if TYPE_CHECKING:
    from ..assembly import Assembly

T = TypeVar("T")


async def submitted(room: Room, submit: Callable[[], Future[T]]) -> Future[T]:
    """The future that ``submit`` returns, which is called when there is room."""
    letter = mailbox.Letter(asyncio.get_running_loop())
    if not room.queue(letter):
        try:
            await letter.waiter
        except BaseException:
            room.withdraw(letter)
            raise
    return room.spend(submit)


async def result(future: Future[T]) -> T:
    """The call's result."""
    letter = mailbox.Letter(asyncio.get_running_loop())

    def told(_: object) -> None:
        letter.release()
        mailbox.deliver()

    if not isinstance(future, CallFuture) or not future.tell(letter):
        future.add_done_callback(told)
    try:
        await letter.waiter
    except BaseException:
        future.cancel()
        raise
    try:
        return future.result()
    except CancelledError:
        if future.cancelled():
            raise asyncio.CancelledError from None
        raise
    finally:
        del future  # this frame is in the traceback of what it raises


async def end(
    shutdown: Callable[[], object], assembly: Assembly, kind: type[BaseException] | None
) -> None:
    """The end of an ``async with`` block, as :meth:`HybridExecutor.__exit__`; but the cancellation
    of the task that is in the block, or waits for its end, counts as Ctrl-C does there."""

    def leave() -> None:
        lifecycle.leave([assembly.engine])
        assembly.end_reports()

    assembly.engine.consumers.leave(awaits=True)
    leaves = kind is not None and issubclass(kind, (KeyboardInterrupt, asyncio.CancelledError))
    try:
        await _in_thread(leave if leaves else shutdown)
    except asyncio.CancelledError:
        if leaves:
            assembly.engine.kill(signal.SIGKILL)
        else:
            await end(shutdown, assembly, asyncio.CancelledError)
        raise


async def _in_thread(function: Callable[[], object]) -> None:
    """Call ``function`` in a thread of its own."""
    letter = mailbox.Letter(asyncio.get_running_loop())
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)
        finally:
            letter.release()
            mailbox.deliver()

    # Not to_thread: the threads of the loop's executor may all be busy.
    threading.Thread(target=run, name="hybridexec-end", daemon=True).start()
    await letter.waiter
    if errors:
        raise errors.pop()

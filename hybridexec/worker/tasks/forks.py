"""A process that a call forks is no worker: it takes and answers no calls, and ends with its call.

Thread: the one that has forked, in the child, before any other code runs there; :func:`leave` where
the user's code has ended.
Guarantees: in a child that a call or the initializer has forked, nothing is read from the call
pipe, and nothing written to the result pipe or the status page; no other call goes on. When the
call's code ends, so does the process (see :mod:`hybridexec.worker.forked`).

The child has a copy of the worker's event loop, and with it of all that runs there: if that went
on, calls would run twice. So the loop never gets control: what would wait for it ends the process.
``asyncio.run`` makes a loop of the child's own. (A profile function sees to that, so that the
child's code is a little slower, and no profiler works there.)
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from multiprocessing import process
from types import CodeType, FrameType
from typing import Any

from ... import native
from .. import atfork, forked

# Whether this is a child.
_in_child = False


def install(
    let_go: Callable[[], None], run_codes: frozenset[CodeType], loop_codes: frozenset[CodeType]
) -> None:
    """From now on, have children let go of what is the worker's; on the main thread.

    Args:
        let_go: does that.
        run_codes: what the user's code is called from.
        loop_codes: what runs the loop.
    """
    atfork.be_first()
    atfork.react_with(functools.partial(_let_go, let_go, run_codes, loop_codes, native.ident()))


def leave(error: BaseException | None = None) -> None:
    """The user's code has ended, and has raised ``error``, if any: if this is a child, end it."""
    if _in_child:
        sys.setprofile(None)
        forked.end(error)


def _let_go(
    let_go: Callable[[], None],
    run_codes: frozenset[CodeType],
    loop_codes: frozenset[CodeType],
    main: int,
) -> None:
    global _in_child
    if _in_child:
        return  # a child of a child
    let_go()
    # Those of other calls are not the child's, which would end them when it exits.
    process._children.clear()  # type: ignore[attr-defined]  # private
    if native.ident() != main:
        return  # a thread, whose code knows nothing of the loop
    _in_child = True
    outermost: FrameType | None = None
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code not in loop_codes:
        if not str(frame.f_globals.get("__name__")).startswith("asyncio."):
            outermost = frame
        if frame.f_code in run_codes:
            break
        frame = frame.f_back

    def watch(frame: FrameType, event: str, argument: Any) -> None:
        if event == "return" and frame is outermost:
            leave(_refusal() if _waits(frame) else None)

    sys.setprofile(watch)


def _waits(frame: FrameType) -> bool:
    """Whether a frame that has given control back will go on."""
    from opcode import opname

    # From Python 3.13 on, such a frame is where it will go on.
    return opname[frame.f_code.co_code[frame.f_lasti]] in {"YIELD_VALUE", "RESUME"}


def _refusal() -> RuntimeError:
    return RuntimeError(
        "a process that a call in the async lane has forked cannot wait on its worker's event "
        "loop: run what it is to wait for by asyncio.run(), or start it with 'spawn' or a "
        "subprocess"
    )

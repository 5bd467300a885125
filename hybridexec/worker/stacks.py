"""Tells what the main thread is doing, without its help: the call that has the CPU, and its stack.

Thread: main calls ``record_faults``, once; the helper thread calls the rest, while main is busy. It
looks at main from outside and changes nothing there.

There are three ways to know what a worker is doing, for ever harder cases:

- it burns CPU in Python, or waits in C code that has released the GIL: the helper thread walks the
  main thread's frames, and finds the call by the frame of our function that runs it;
- C code holds the GIL: no Python thread runs, but a signal handler in C does. faulthandler
  registers one that writes the main thread's stack to the fault log, which the parent reads;
- it dies of a segmentation fault or the like: faulthandler writes to the fault log, too, whose
  memory outlives the process.
"""

from __future__ import annotations

import faulthandler
import functools
import os
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from types import CodeType, FrameType

from .. import native
from ..wire.messages import StackGroup
from ..wire.page import DUMP_SIGNAL

#: A frame's file, line and function.
Place = tuple[str, int, str]

#: Frames shown; a deep recursion has thousands.
_MAX_FRAMES = 100
#: Of all calls: how many are looked at, how many different stacks are told, and how many calls of
#: each are named.
_MAX_CALLS, _MAX_GROUPS, _MAX_NAMED = 1000, 50, 5


def record_faults(log_fd: int) -> None:
    """Have faulthandler write to the descriptor of the fault log, which must stay open.

    Where the user has enabled it (``-X faulthandler``, ``PYTHONFAULTHANDLER``), it goes on writing
    where they want it, and so it does if the initializer or a call enables it later.
    """
    if not faulthandler.is_enabled():
        faulthandler.enable(log_fd, all_threads=False)
    os.register_at_fork(after_in_child=functools.partial(_let_go, log_fd))
    if DUMP_SIGNAL is not None:
        # Interrupted system calls are restarted (SA_RESTART), where the system can.
        faulthandler.register(DUMP_SIGNAL, log_fd, all_threads=False, chain=False)


def dump_all_threads(log_fd: int) -> None:
    """When the parent asks faulthandler, have it write the stacks of all threads: where calls run
    in threads, any of them may hold the GIL."""
    if DUMP_SIGNAL is not None:
        faulthandler.register(DUMP_SIGNAL, log_fd, all_threads=True, chain=False)


def _let_go(log_fd: int) -> None:
    """A child that a call has forked: if it crashes, that is no part of the worker's log."""
    nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
    os.dup2(nowhere, log_fd, inheritable=False)
    native.close(nowhere)


def whereabouts(thread: int, run_code: CodeType, runs: Callable[[int], bool]) -> tuple[int, str]:
    """The call that has the CPU, and the main thread's stack.

    Args:
        thread: the main thread.
        run_code: what calls are called from; it has a call's id as its local variable ``call``.
        runs: whether a call is running.

    The call's id is 0 if none has the CPU, but the hub, say, or a greenlet that a call has
    started. The stack, as text, is of the call's own frames, without those of our function that
    runs it and what is under it. By the time the caller looks at them, the main thread may have
    gone on.
    """
    call, places = _look(thread, run_code, runs)
    # The lines of the source are read from files only now, when the main thread may run on.
    frames = [
        traceback.FrameSummary(file, line, name, lookup_line=False) for file, line, name in places
    ]
    return call, "".join(traceback.StackSummary.from_list(frames[::-1]).format())


def all_stacks(
    thread: int | None,
    waiting: Iterable[tuple[int, FrameType | Callable[[], list[Place]] | None]],
    run_code: CodeType,
    runs: Callable[[int], bool],
) -> tuple[int, list[StackGroup], int]:
    """Where calls are, in groups: see :meth:`.lane.Lane.stacks`.

    Args:
        thread: the main thread, if something keeps it; None if it asks itself.
        waiting: other calls, each with its innermost frame, or what finds the places of its frames,
            the innermost first; None for one that has ended or has the main thread.
        run_code, runs: as for :func:`whereabouts`.
    """
    # By its places, how many calls have a stack, and the first of them.
    told: dict[tuple[Place, ...], list[int]] = {}
    counts: Counter[tuple[Place, ...]] = Counter()
    current = more = 0
    left = _MAX_CALLS
    if thread is not None:
        current, places = _look(thread, run_code, runs)
        counts[tuple(places)] = 1
        told[tuple(places)] = [current]
    for call, frame in waiting:
        if frame is None or call == current:
            continue
        left -= 1
        key = tuple(_places_of(frame, run_code)) if left >= 0 else None
        if key is None or (key not in told and len(told) >= _MAX_GROUPS):
            more += 1
            continue
        counts[key] += 1
        named = told.setdefault(key, [])
        if len(named) < _MAX_NAMED:
            named.append(call)
    return current, [(counts[key], told[key], list(key[::-1])) for key in told], more


def _places_of(frame: FrameType | Callable[[], list[Place]], run_code: CodeType) -> list[Place]:
    return frame()[:_MAX_FRAMES] if callable(frame) else _places(frame, run_code)[1]


def place(frame: FrameType) -> Place:
    """Where a frame is."""
    return frame.f_code.co_filename, frame.f_lineno or 0, frame.f_code.co_name


def _look(thread: int, run_code: CodeType, runs: Callable[[int], bool]) -> tuple[int, list[Place]]:
    """The call, and the places of the main thread's frames, the innermost first."""
    below, places = _places(sys._current_frames().get(thread), run_code)
    call = 0 if below is None else _local(below, "call")
    return (call if runs(call) else 0), places


def _places(frame: FrameType | None, run_code: CodeType) -> tuple[FrameType | None, list[Place]]:
    """The frame of our function that runs the call, if there is one, and the places of those above
    it, the innermost first."""
    places: list[Place] = []
    while frame is not None and frame.f_code is not run_code:
        if len(places) < _MAX_FRAMES:
            places.append(place(frame))
        frame = frame.f_back
    return frame, places


def _local(frame: FrameType, name: str) -> int:
    """A local variable of a frame that another thread is running."""
    variables = frame.f_locals
    value: int = variables.get(name, 0)
    if sys.version_info < (3, 13):
        # A copy that the frame would keep, and with it the call's arguments.
        variables.clear()
    return value

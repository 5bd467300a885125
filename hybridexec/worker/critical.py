"""Critical sections: where nothing may be raised in a call from outside, because it would leave
something half done.

Thread: main, in the signal handler that interrupts a call.
Guarantees: a lock, semaphore or condition is taken and owned, or neither; releasing it is not cut
short. To find out, the call's frames are looked at, so a call pays nothing while it runs.

An exception between two bytecodes can come between "taken" and "owned": when ``acquire`` has
returned and the ``try`` that releases the lock has not been entered. And it can come in that
``finally``, before ``release`` has done anything. Programs with threads never see that; those with
signal handlers do. So a call that has the CPU is left alone

- in a method that takes or releases (``acquire``, ``release``, ``__enter__``, ``__exit__``), in a
  finalizer, whose errors are swallowed, and in whatever these call;
- in code of the modules that are made of locks, but not in what that calls, a handler's ``emit``,
  say: there, a ``finally`` is in place;
- in an import;
- when a C function has just returned to code that takes locks by hand. (``with`` needs none of
  that before Python 3.14: it calls and enters in one bytecode.)

And it is left alone, if there is another place soon, at a jump back that no ``try`` around its loop
sees: see :func:`is_unseen`.
"""

from __future__ import annotations

import sys
from functools import lru_cache
from types import CodeType, FrameType
from typing import Any

#: Where Python says that the code is which imports modules; and all that has to do with that.
_IMPORTS = "<frozen importlib._bootstrap>"
_IMPORTING = "<frozen importlib."
#: Methods that take or give back, and finalizers.
_TAKE = frozenset({"acquire", "__enter__", "__aenter__"})
GIVE_BACK = frozenset({"release", "_release_save", "_acquire_restore"})
_METHODS = _TAKE | GIVE_BACK | {"__exit__", "__aexit__", "__del__"}
#: Modules and packages that are made of locks, with what is in them.
LOCKS = frozenset(
    {
        "_threading_local",
        "_weakrefset",
        "concurrent",
        "contextlib",
        "hybridexec",
        "logging",
        "multiprocessing",
        "queue",
        "subprocess",
        "threading",
        "weakref",
    }
)
#: Names by which code takes locks by hand.
_BY_HAND = frozenset({"acquire", "__enter__", "flock", "lockf"})

# The numbers of bytecodes that call, of the one that jumps back and sees to signals, and of the one
# that has looked `__enter__` up for a call.
_calls: frozenset[int] = frozenset()
_jump = _special = -1


def is_running(
    frame: FrameType, end: FrameType | None, made_of_locks: frozenset[str] = LOCKS
) -> bool:
    """Whether the current call is in a critical section.

    Args:
        frame: where it is.
        end: what has called its first frame.
        made_of_locks: packages.
    """
    if _is_of(frame, made_of_locks) or _has_called(frame):
        return True
    at: FrameType | None = frame
    while at is not None and at is not end:
        code = at.f_code
        if code.co_filename == _IMPORTS:
            return True
        if code.co_name in _METHODS and at.f_back is not end and is_method(code):
            return True
        at = at.f_back
    return False


def is_taking_by_hand(frame: FrameType) -> bool:
    """Whether ``frame`` is where a lock may be taken, or just was, that nothing releases yet if
    something is raised."""
    taking = _has_called(frame) or may_take_next(frame)
    return taking and not _is_of(frame, LOCKS)


def _is_of(frame: FrameType, packages: frozenset[str]) -> bool:
    name = frame.f_globals.get("__name__", "")
    return (
        type(name) is str
        and name.partition(".")[0] in packages
        and frame.f_code.co_filename != "<string>"  # submit(eval, ...): its globals are ours
    )


def may_take_next(frame: FrameType) -> bool:
    """Whether ``frame`` may take a lock before the next place where something is raised in it.

    From Python 3.13 on, what another thread has asked for is not raised where a thread has waited
    for the GIL, but at the next such place.
    """
    code = frame.f_code
    if sys.version_info < (3, 13):
        return False
    if not _BY_HAND.isdisjoint(code.co_names):
        return True
    if not _calls:
        _learn()
    bytecodes = code.co_code
    for at in range(frame.f_lasti + 2, len(bytecodes), 2):
        if bytecodes[at] in _calls:
            return bytecodes[at - 2] == _special
    return False


def is_unseen(frame: FrameType) -> bool:
    """Whether what is raised in ``frame`` now would pass by a ``with`` or ``try`` that it is in.

    In Python 3.12 and 3.13, these do not see an exception at the jump back of some loops, such as
    ``while busy(): pass`` and ``for x in y: if x: ...`` (python/cpython#130279). A lock would stay
    taken.
    """
    code, at = frame.f_code, frame.f_lasti
    if not _calls:
        _learn()
    return at >= 0 and code.co_code[at] == _jump and at in _unseen_jumps(code)


@lru_cache(maxsize=100)
def _unseen_jumps(code: CodeType) -> frozenset[int]:
    from dis import Bytecode  # few calls are ever interrupted

    bytecode: Any = Bytecode(code)  # the table is not in its stub
    spans = [range(each.start, each.end) for each in bytecode.exception_entries]

    def is_seen(place: int) -> bool:
        return any(place in span for span in spans)

    # What it jumps to is in the same loop.
    return frozenset(
        each.offset
        for each in bytecode
        if each.opcode == _jump and not is_seen(each.offset) and is_seen(each.argval)
    )


def is_at_call(frame: FrameType) -> bool:
    """Whether a C function may be running that ``frame`` has called."""
    if not _calls:
        _learn()
    return frame.f_code.co_code[frame.f_lasti] in _calls


def is_importing(frame: FrameType) -> bool:
    """Whether ``frame`` is of what imports modules, and reads their files, not of a module."""
    return frame.f_code.co_filename.startswith(_IMPORTING)


def is_method(code: CodeType) -> bool:
    """Whether it is that of a method, going by its arguments."""
    return code.co_argcount > 0 and code.co_varnames[0] == "self"


def _has_called(frame: FrameType) -> bool:
    """Whether a frame is where a C function has just returned that may have taken a lock."""
    code, at = frame.f_code, frame.f_lasti
    if not _calls:
        _learn()
    if at < 2 or code.co_code[at] not in _calls:
        return False
    return code.co_code[at - 2] == _special or not _BY_HAND.isdisjoint(code.co_names)


def _learn() -> None:
    global _calls, _jump, _special
    from opcode import opmap  # few calls are ever interrupted

    # Python 3.11 has a bytecode before the one that calls, which does that itself for C functions.
    calling = ("CALL", "PRECALL")
    _calls = frozenset(number for name, number in opmap.items() if name.startswith(calling))
    _jump = opmap["JUMP_BACKWARD"]
    _special = opmap.get("LOAD_SPECIAL", -1)

"""``hybridexec.state()``: what ``worker_state`` has made in this worker, for the calls there.

Thread: any; the main thread of a worker, before its first call, says what it returns.
"""

from __future__ import annotations

# Not typing's: see __init__.py.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_NONE = (
    "there is no state here: hybridexec.state() is for calls that run in a worker, of an executor "
    "that was made with worker_state=..., when the initializer has ended"
)
#: The state, or why there is none.
_held: tuple[Any] | str = _NONE


def state() -> Any:
    """Return what the executor's ``worker_state`` has made in this worker.

    Every call in the same worker gets the same object.

    Raises:
        RuntimeError: this is no worker, or one that has no state.
    """
    if isinstance(_held, str):
        raise RuntimeError(_held)
    return _held[0]


def hold(value: object) -> None:
    """From now on, this is the state."""
    global _held
    _held = (value,)


def lack(why: str = _NONE) -> None:
    """From now on there is none."""
    global _held
    _held = why

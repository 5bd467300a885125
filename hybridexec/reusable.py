"""``get_reusable_executor``: one executor for the whole process, whose idle workers end.

Thread: any; a fork's child has an executor of its own.
Guarantees: nobody waits for calls: an executor that is replaced finishes its calls while its
successor already takes new ones. Each executor that was returned takes calls until it is shut down,
breaks, or is replaced. What ends executors at the process's exit ends this one.

The name and the meaning are loky's. What differs: it is one executor for the process and not one
for each thread; it is resized while calls run, without waiting for them; and one that is replaced
is not waited for either, so that this may be called where no call may be waited for, such as in a
future's callback.
"""

from __future__ import annotations

import os
import threading
from multiprocessing import get_context
from typing import TYPE_CHECKING, Any, Literal

from .executor import HybridExecutor

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.context import BaseContext

    from .parent.assembly import Plan


class Kept:
    """An executor that is kept for whoever asks next."""

    def __init__(self) -> None:
        self._forget()
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        # A reentrant one: a signal handler that interrupts its holder may ask, too.
        self._lock = threading.RLock()
        self._executor: HybridExecutor | None = None

    def replace(
        self, wanted: HybridExecutor, reuse: bool | None = None, resize: bool = True
    ) -> tuple[HybridExecutor, HybridExecutor | None]:
        """Keep ``wanted`` from now on, unless the executor that is kept will do.

        Args:
            reuse: whether that will do; None if it was asked to be what ``wanted`` was.
            resize: whether it is to have as many workers as that.

        Returns:
            The executor that is kept now, and the one that is not kept any more, if that is so.
        """
        with self._lock:
            kept = self._executor
            if kept is not None and _will_do(kept, wanted, reuse):
                size = wanted._assembly.plan.max_workers
                if resize and kept._assembly.plan.max_workers != size:
                    kept._assembly.resize(size)
                return kept, None
            self._executor = wanted
            return wanted, kept


_kept = Kept()


def get_reusable_executor(
    max_workers: int | None = None,
    context: BaseContext | str | None = None,
    timeout: float | None = 10,
    kill_workers: bool = False,
    reuse: Literal["auto"] | bool = "auto",
    *,
    initializer: Callable[..., object] | None = None,
    initargs: tuple[Any, ...] = (),
    **options: Any,
) -> HybridExecutor:
    """Return the process's executor; made, resized or replaced if it has to be.

    It is there until the process ends, but its workers only for as long as there are calls, and
    ``timeout`` seconds more. It is loky's function of that name; here, too, an executor is kept if
    it was asked for with the same arguments, and resized if only ``max_workers`` differs. It is
    replaced otherwise, and when it is broken or was shut down. One that is replaced takes no more
    calls, and finishes those it has.

    Args:
        max_workers: number of worker processes; by default one per usable CPU, or with
            ``reuse=True`` as many as there may be already. With fewer than before, those that are
            too many finish what they run.
        context: the same as the executor's ``mp_context``, by which name it may be given, too; or
            the name of a start method.
        timeout: seconds after which a worker that has had no calls ends, None for never: the
            executor's ``idle_timeout``, by which name it may be given, too.
        kill_workers: whether one that is replaced has its workers killed: calls that they run fail
            with :class:`WorkerLost`, others are cancelled.
        reuse: True keeps the executor, whatever it was made with; False replaces it.
        initializer: as the executor's.
        initargs: as the executor's.
        options: any other of :class:`HybridExecutor`'s keyword arguments.

    Raises:
        TypeError, ValueError: an argument is of a wrong type or out of range.
    """
    if reuse not in ("auto", True, False):
        raise ValueError(f"reuse must be 'auto', True or False, not {reuse!r}")
    context = options.pop("mp_context", context)
    if isinstance(context, str):
        context = get_context(context)
    arguments = {
        "mp_context": context,
        "initializer": initializer,
        "initargs": initargs,
        "idle_timeout": timeout,
        **options,
    }
    wanted = HybridExecutor(
        max_workers, **arguments
    )  # which takes next to no time, as no call came
    executor, replaced = _kept.replace(
        wanted,
        reuse if isinstance(reuse, bool) else None,
        resize=max_workers is not None or reuse is not True,
    )
    if replaced is not None:
        if kill_workers:
            replaced.kill_workers()
        replaced.shutdown(wait=False)
    return executor


def _will_do(kept: HybridExecutor, wanted: HybridExecutor, reuse: bool | None) -> bool:
    if not kept._assembly.usable:
        return False
    return _is_like(kept, wanted) if reuse is None else reuse


def _is_like(one: HybridExecutor, other: HybridExecutor) -> bool:
    """Whether both were asked to be the same, but for the number of workers."""
    try:
        return bool(_sense(one) == _sense(other))
    except Exception:  # arrays among the initargs, say, do not tell
        return False


def _sense(executor: HybridExecutor) -> tuple[object, ...]:
    plan: Plan = executor._assembly.plan
    beginning = plan.beginning
    alike = plan._replace(max_workers=0, beginning=None)  # type: ignore[arg-type]  # compared apart
    return alike, vars(beginning), executor._options

"""The future of a submitted call.

Thread: any.
Guarantees: it is a ``concurrent.futures.Future``, so ``wait``, ``as_completed``,
``asyncio.wrap_future`` and callbacks work with it; it ends exactly once.

It is cheap: most futures end before a thread waits for them, or have one thread that waits in
``result()``, for which a plain lock is enough. They never need the condition and the lists that
``Future.__init__`` makes, so these are made on first use. One lock for all futures orders an
outcome that arrives and a waiter that comes; once a future has a condition, everything but the
plain lock goes through that, as in the base class.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, InvalidStateError
from typing import TYPE_CHECKING, Any, TypeVar

from ... import native
from ...limits import Key
from ...options import CallOptions
from ...wire import messages
from . import mailbox
from .batch import UNPICKLABLE, Batch, Ended, Item, Values, deliver
from .decode import decode
from .function import Function
from .loops import outside

if TYPE_CHECKING:
    from .keeper import Keeper

T = TypeVar("T")

# concurrent.futures' names for the states; it has no public ones.
_PENDING, _CANCELLED, _CANCELLED_AND_NOTIFIED, _FINISHED = (
    "PENDING",
    "CANCELLED",
    "CANCELLED_AND_NOTIFIED",
    "FINISHED",
)
_DONE = frozenset({_CANCELLED, _CANCELLED_AND_NOTIFIED, _FINISHED})

# Native, and held for a few assignments only: no greenlet ever switches inside.
_allocate_lock = native.original("_thread", "allocate_lock")
_making_conditions = _allocate_lock()


def _after_fork_in_child() -> None:
    global _making_conditions
    _making_conditions = _allocate_lock()  # it may have been held


os.register_at_fork(after_in_child=_after_fork_in_child)


class CallFuture(Future[T]):
    """What ``submit`` returns."""

    # Slots for all that most futures ever have: an instance dict would cost as much again.
    __slots__ = (
        "_exception",
        "_keeper",
        "_made_condition",
        "_only_waiter",
        "_result",
        "_state",
        "arguments",
        "batch",
        "function",
        "item",
        "key",
        "options",
        "place",
        "prelude",
    )

    size = 1

    def __init__(
        self,
        keeper: Keeper,
        function: Function,
        item: Item | None,
        options: CallOptions,
        prelude: bytes | None = None,
    ) -> None:
        self._keeper = keeper
        self.function = function
        #: What will be sent; None once the batch has it.
        self.item = item
        #: See :attr:`Batch.prelude`.
        self.prelude = prelude
        self.options = options
        #: What the item was made from: see :attr:`Batch.arguments`.
        self.arguments: object = None
        #: The call's batch and place, from when the engine has it until it has ended.
        self.batch: Batch | None = None
        self.place = 0
        #: What the call is limited by, if that is anything; unset if calls like it have no limits.
        self.key: Key | None
        self._state = _PENDING
        self._result: T | None = None
        self._exception: BaseException | None = None
        # Invariant: None, or the condition of all waiters and of the outcome; never replaced.
        self._made_condition: threading.Condition | None = None
        # Invariant: None, or a lock that is released when the future ends; never replaced.
        self._only_waiter: Any = None

    @property
    def keeper(self) -> Keeper:
        """Who runs the call."""
        return self._keeper

    @property
    def _condition(self) -> threading.Condition:  # type: ignore[override]  # an attribute there
        condition = self._made_condition
        if condition is None:
            self._keeper.follow(self)
            fresh = threading.Condition()
            waiters: list[Any] = []
            callbacks: list[Callable[[Future[T]], Any]] = []
            with _making_conditions:
                condition = self._made_condition
                if condition is None:
                    self._waiters = waiters
                    self._done_callbacks = callbacks
                    condition = self._made_condition = fresh
        return condition

    def result(self, timeout: float | None = None) -> T:
        """Return what the call returned; wait up to ``timeout`` seconds for it.

        Raises:
            TimeoutError: it had not ended by then.
            CancelledError: it was cancelled.
            RuntimeError: it had not ended when this process was forked.
            Exception: whatever the call raised.
        """
        if self._state == _PENDING and self._keeper.inert:
            self._keeper.check_open()
        left = timeout
        if self._state == _PENDING and self._keeper.blocking_waits:
            self._keeper.lead(self, timeout)
            if self._state == _PENDING:
                left = self._wait_alone(timeout)
        if self._state == _FINISHED and self._exception is None:
            return self._result  # type: ignore[return-value]  # it is there by now
        try:
            return super().result(left)
        finally:
            del self  # as the base class does: this frame is in the traceback of what is raised

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Return what the call raised, or None; wait up to ``timeout`` seconds for its end.

        Raises:
            TimeoutError: it had not ended by then.
            CancelledError: it was cancelled.
            RuntimeError: it had not ended when this process was forked.
        """
        if self._state == _FINISHED:
            return self._exception
        if self._state == _PENDING and self._keeper.inert:
            self._keeper.check_open()
        return super().exception(timeout)

    def _wait_alone(self, timeout: float | None) -> float | None:
        """Wait on a plain lock, if no other thread waits; returns what is left of ``timeout``."""
        self._keeper.follow(self)
        waiter = _allocate_lock()
        waiter.acquire()
        with _making_conditions:
            if self._state != _PENDING or self._made_condition or self._only_waiter:
                return timeout
            self._only_waiter = waiter

        def acquire(seconds: float) -> bool:
            if waiter.acquire(timeout=seconds):
                return True
            self._keeper.callbacks.look()
            return False

        native.wait(acquire, timeout)
        return None if timeout is None else 0

    def tell(self, waiter: mailbox.Letter) -> bool:
        """Have ``waiter`` released when the call ends, or at once if it has. False, and nothing is
        done, if it must be told by a callback, because others wait as well.

        The cheapest way to hear of the end: see :mod:`.mailbox`.
        """
        self._keeper.follow(self)
        with _making_conditions:
            if self._made_condition or self._only_waiter:
                return False
            if self._state == _PENDING:
                self._only_waiter = waiter
            else:
                waiter.release()
        mailbox.deliver()
        return True

    def done(self) -> bool:
        """Whether the call has ended or was cancelled."""
        if self._state == _PENDING:
            self._keeper.follow(self)
        return self._state in _DONE

    def running(self) -> bool:
        """Whether the call is being run by a worker right now (read from its status page)."""
        batch = self.batch
        if self._state != _PENDING or batch is None:
            return False
        return self._keeper.is_running(batch.first + self.place)

    def cancel(self) -> bool:
        """Cancel the call: drop it if it has not started, stop it if it has.

        A running call gets a ``GreenletExit`` at the point where it waits (or will wait next), so
        its ``finally`` blocks run; its worker and the other calls there are not disturbed. The
        future is cancelled at once, whatever the call does with that.

        Returns:
            False if the call had ended, True otherwise.
        """
        if self.cancel_quietly():
            self._keeper.cancel_call(self)
        return self._state != _FINISHED

    def cancel_quietly(self) -> bool:
        """Become cancelled and notify waiters, but not the pool; False if it had ended before."""
        with _making_conditions:
            alone = self._made_condition is None
            if alone:
                # There are no callbacks, and no waiter but perhaps the one with a plain lock.
                if self._state != _PENDING:
                    return False
                self._state = _CANCELLED_AND_NOTIFIED
                if self._only_waiter is not None:
                    self._only_waiter.release()
        if alone:
            mailbox.deliver()
            return True
        with self._condition:
            if self._state != _PENDING:
                return False
            # Both steps of the base class at once: no executor calls set_running_or_notify_cancel.
            self._state = _CANCELLED_AND_NOTIFIED
            for waiter in self._waiters:
                waiter.add_cancelled(self)
            self._condition.notify_all()
        self._invoke_callbacks()
        return True

    def add_done_callback(self, fn: Callable[[Future[T]], object]) -> None:
        """Have ``fn`` called with this future when it has ended; at once, if it has."""
        super().add_done_callback(fn if self._keeper.blocking_waits else outside(fn))

    def _invoke_callbacks(self) -> None:
        # It has ended through the condition, whose waiters are notified by now. The only waiter
        # must be, too, before callbacks run, which may wait for its thread.
        if self._only_waiter is not None:
            self._only_waiter.release()
            mailbox.deliver()
        if self._done_callbacks:
            self._keeper.callbacks.call(self._done_callbacks, self)

    def fail(self, error: BaseException) -> None:
        """End with ``error``, because the call could not be sent."""
        self._finish(None, error)

    def deliver(self, ended: Sequence[Ended] | Values) -> None:
        """Take the outcome; see :meth:`.batch.Sink.deliver`."""
        if isinstance(ended, Values) and ended.prelude is None:
            self._finish(ended.values[0], None)
        else:
            if isinstance(ended, Values):
                ended = ended.singly()
            _, status, value, _, process, history = ended[0]
            if status == messages.VALUE:
                self._finish(value, None)
            elif status == messages.CANCELLED:
                self.cancel_quietly()
            else:
                self._finish(*decode(status, value, process, history))
        self.leave()

    def deliver_here(self, ended: Sequence[Ended] | Values) -> Sequence[Ended] | Values | None:
        """As :meth:`deliver`, but on a user's thread, which may hold a lock that callbacks need. If
        there may be callbacks, returns what a thread of ours must deliver."""
        if self._made_condition is not None:
            return ended
        if isinstance(ended, Values) and ended.prelude is None:
            result, error = ended.values[0], None
        else:
            if isinstance(ended, Values):
                ended = ended.singly()
            _, status, value, _, process, history = ended[0]
            if status == messages.CANCELLED:
                return ended
            if status == messages.VALUE:
                result, error = value, None
            else:
                result, error = decode(status, value, process, history)
        if not self._finish_alone(result, error):
            outcome = (messages.VALUE, result) if error is None else (UNPICKLABLE, error)
            return [(0, *outcome, None, None, None)]
        self.leave()
        return None

    def leave(self) -> None:
        """Drop all references to the call, which is over."""
        if self.batch is not None:
            self.batch.items[self.place] = None
        self.batch = self.arguments = None

    def _finish(self, result: Any, error: BaseException | None) -> None:
        if self._finish_alone(result, error):
            return
        try:
            if error is None:
                self.set_result(result)
            else:
                self.set_exception(error)
        except InvalidStateError:
            return  # it was cancelled at the same moment, and stays so

    def _finish_alone(self, result: Any, error: BaseException | None) -> bool:
        """End, unless there is a condition; whether there was none."""
        with _making_conditions:
            if self._made_condition is not None:
                return False
            # As in cancel_quietly(); if that came first, the future stays cancelled.
            if self._state == _PENDING:
                self._result = result
                self._exception = error
                self._state = _FINISHED
                if self._only_waiter is not None:
                    self._only_waiter.release()
        if mailbox.due:  # the call takes longer
            mailbox.deliver()
        return True


def finish_all(futures: Sequence[CallFuture[Any]], values: list[Any]) -> None:
    """End consecutive calls of a batch with these values.

    Those without a condition, as most are, end together under one lock: a fast path.
    """
    batch, place = futures[0].batch, futures[0].place
    assert batch is not None, "none has ended"
    batch.forget(place, place + len(futures))
    observed: list[CallFuture[Any]] = []
    pairs = zip(futures, values, strict=True)
    # Under the lock, nothing is released and no container made: no user's finalizer may run there.
    with _making_conditions:
        for future, value in pairs:
            if future._made_condition is not None:
                observed.append(future)
                continue
            if future._state != _PENDING:
                continue
            future._result = value
            future._state = _FINISHED
            if future._only_waiter is not None:
                future._only_waiter.release()
    mailbox.deliver()
    for future in observed:
        deliver(future, [(0, messages.VALUE, values[future.place - place], None, None, None)])
    for future in futures:
        future.batch = future.arguments = None

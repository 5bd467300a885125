"""What an agent on another machine would use: an executor's engine, fed with calls that are pickled
already, whose results are handed back still pickled.

It is the sink of its batches, so there is no future for a call, and nothing of a call is unpickled
in this process. All that it needs is there: a function is known by its pickle, items of a batch may
be payloads, and a sink gets outcomes as they came from the wire.
"""

from __future__ import annotations

import pickle
import threading
from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from hybridexec.options import CallOptions
from hybridexec.parent.engine.engine import Engine
from hybridexec.parent.work import decode
from hybridexec.parent.work.batch import LOST, UNPICKLABLE, AttemptHistory, Batch, Ended, Values
from hybridexec.parent.work.function import Function
from hybridexec.process import Process
from hybridexec.wire import exceptions, messages, payload

#: A pickle, or one and its buffers: bytes in any case. See :func:`payload.flat`.
Pickled = bytes | list[bytes | bytearray]
#: How a call ended: its id, whether it returned, and a pickle of what it returned, or, for
#: :func:`error_of`, of what ended it.
Outcome = tuple[int, bool, Pickled]

_OPTIONS = CallOptions()


class Feeder:
    """A way in to an engine for calls that have ids and are pickled."""

    def __init__(self, engine: Engine, take: Callable[[Sequence[Outcome]], None]) -> None:
        """
        Args:
            take: takes outcomes, each call's once; on the I/O thread, or on one that cancels.
        """
        self._engine = engine
        self._take = take
        self._ids: dict[int, int] = {}  # by place among all calls
        # Those that have not ended, by id. Who takes one out tells of its end.
        self._open: dict[int, tuple[Batch, int]] = {}
        self._next = 0
        self._submitting = threading.Lock()

    def function(self, pickled: Pickled, lasting: bool, name: str) -> Function:
        """A function to call. ``lasting``: its pickle merely names it, so that workers may keep it;
        else they forget it after each :meth:`submit`. Errors call it by its ``name``."""
        return Function(payload.unflat(pickled), lasting, name)

    def submit(
        self,
        function: Function,
        calls: Collection[tuple[int, Pickled]],
        options: CallOptions = _OPTIONS,
    ) -> None:
        """Have ``function`` called for each of these: an id of its own, and a
        pickle of ``(args, kwargs)``."""
        items = [payload.unflat(arguments) for _, arguments in calls]
        with self._submitting:
            batch = Batch(function, items, self, options, self._next)
            self._next += batch.size
            for place, (number, _) in enumerate(calls):
                self._ids[batch.offset + place] = number
                self._open[number] = batch, place
            self._engine.submit(batch)

    def cancel(self, ids: Iterable[int]) -> None:
        """Cancel those of these calls that have not ended, started or not."""
        cancelled: list[Outcome] = []
        for number in ids:
            batch, place = self._open.pop(number, (None, 0))
            if batch is not None:
                self._ids.pop(batch.offset + place, None)
                self._engine.cancel(batch, [place], running=True)
                cancelled.append((number, *_pickled(messages.CANCELLED, None, None, None)))
        self._take(cancelled)

    def deliver(self, ended: Sequence[Ended] | Values) -> None:
        """See :meth:`Sink.deliver`."""
        outcomes: list[Outcome] = []
        if isinstance(ended, Values):
            for place, status, value, *_ in ended.singly():
                if status == messages.VALUE:
                    value = pickle.dumps(value, payload.PROTOCOL)
                else:  # a pickle is a prelude, a fragment, and the end
                    value = b"".join((*value, pickle.STOP))
                self._note(outcomes, place, True, value)
        else:
            for place, status, value, _, process, history in ended:
                self._note(outcomes, place, *_pickled(status, value, process, history))
        if outcomes:
            self._take(outcomes)

    def _note(self, outcomes: list[Outcome], place: int, returned: bool, what: Pickled) -> None:
        number = self._ids.pop(place, None)
        if number is not None and self._open.pop(number, None) is not None:
            outcomes.append((number, returned, what))


def _pickled(
    status: int, value: Any, process: Process | None, history: AttemptHistory | None
) -> tuple[bool, Pickled]:
    """An outcome as it may travel on."""
    if status == messages.VALUE:
        return True, pickle.dumps(value, payload.PROTOCOL)
    if status == messages.PICKLED:
        return True, payload.flat(value)
    if status == messages.ERROR:
        value = (payload.flat(value[0]), *value[1:])
    elif status in (LOST, UNPICKLABLE):  # an exception of this process, no pickle yet
        _, error = decode.decode(status, value, process)
        assert error is not None
        value = payload.flat(exceptions.pack(error))
    texts = history.texts if history is not None else []
    return False, pickle.dumps((status, value, process, texts), payload.PROTOCOL)


# -- in the process that has the futures ----------------------------------------------------------


def value_of(pickled: Pickled) -> Any:
    """What a call returned."""
    return payload.loads(payload.unflat(pickled))


def error_of(pickled: Pickled) -> BaseException | None:
    """What ended a call."""
    assert isinstance(pickled, bytes)
    status, value, pid, texts = pickle.loads(pickled)
    history = AttemptHistory()
    history.texts = texts
    if status == messages.ERROR:
        value = (payload.unflat(value[0]), *value[1:])
    elif status in (LOST, UNPICKLABLE):
        status, value = UNPICKLABLE, exceptions.unpack(payload.unflat(value))
    return decode.decode(status, value, pid, history)[1]

"""The results of one runner's calls, on their way into the outbox.

Thread: the runner.
Guarantees: a result leaves in the thread that has made it, whatever others do: at once if none has
left just before, else together with those of the next calls. While it waits for these, the helper
thread looks, which lets it leave if the next call takes long.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ... import native
from ...wire import messages, payload
from ..inbox import Job
from ..outbox import Outbox
from ..rows import BY_ITSELF, PLAIN, Entry, Row

#: For how many seconds a result waits for others.
PATIENCE = 0.002

#: How a call has ended: the status, what is told, and the form of that, see :mod:`..rows`.
Answer = tuple[int, Any, Any]


def pack(value: object, job: Job, follows: bool) -> Answer:
    """The result of a call as it travels.

    ``follows`` is whether it may join the one before it, so that a fragment is of use.

    Raises:
        Whatever pickling the result raises.
    """
    if payload.are_plain((value,)):
        return messages.VALUE, value, BY_ITSELF if job.special else PLAIN
    if follows and not job.special:
        packer = job.packer or job.new_packer()
        prelude, fragment = packer.prelude, packer.pack(value)
        if fragment is not None and packer.prelude is prelude:
            return messages.PICKLED, fragment, prelude
    return messages.PICKLED, payload.dumps(value), BY_ITSELF


class Answers:
    """One runner's."""

    def __init__(self, outbox: Outbox, call_helper: Callable[[], None]) -> None:
        self._outbox = outbox
        self._call_helper = call_helper
        self._row = Row(0)
        self._form = BY_ITSELF
        self._next = 0  # the call whose result may join the last one
        self._sent_at = 0.0

    def follows(self, call: int) -> bool:
        """Whether the result of this call may join the last one."""
        return call == self._next

    def add(
        self, call: int, status: int, value: Any, form: Any, seconds: float | None, now: float
    ) -> None:
        """A call has ended."""
        if form is BY_ITSELF or call != self._next or seconds is not None:
            self._outbox.add((call, status, value, seconds))
            self._form = BY_ITSELF
        elif form is self._form:
            values = self._row.values
            values.append(value)
            if len(values) == 1:
                self._outbox.add(self._row)
        else:
            self._row, self._form = Row(call, form), form
            self._row.values.append(value)
            self._outbox.add(self._row)
        self._next = call + 1
        if now - self._sent_at > PATIENCE:
            self.send(now)
        else:
            self._call_helper()

    def yielded(self, entry: Entry) -> None:
        """The call has yielded the first of some items."""
        self._outbox.add(entry)
        now = native.monotonic()
        if now - self._sent_at > PATIENCE:
            self.send(now)
        else:
            self._call_helper()

    def send(self, now: float) -> None:
        """Let leave what there is, as far as that cannot block."""
        self._outbox.push()
        self._sent_at = now

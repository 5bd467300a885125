"""Puts out how calls have ended, those in a row together.

Thread: main; whichever thread writes takes values out of a row.
Guarantees: the first result of a turn of the loop, maybe its only one, leaves at once; results of
calls with consecutive ids leave in one row, if they are plain or alike.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...wire import messages, payload
from ..inbox import Job
from ..rows import BY_ITSELF, NO_ROW, PLAIN, Entry, Put, Row

_PLAIN_NUMBERS, _PLAIN_TEXT = payload._PLAIN_NUMBERS, payload._PLAIN_TEXT
_INLINE_LIMIT = payload.INLINE_LIMIT


class Answers:
    """What the parent is told of calls that have ended."""

    def __init__(
        self,
        put: Put,
        put_first: Put,
        put_late: Callable[[Entry, float], None],
        at_end_of_turn: Callable[[Callable[[], None]], object],
    ) -> None:
        """
        Args:
            put: takes what the parent shall get.
            put_first: the same for the first result in a turn of the loop.
            put_late: the same for that of a call that has waited since then, as many others do.
            at_end_of_turn: has something called when the loop has come round.
        """
        self._put = put
        self._put_first = put_first
        self._put_late = put_late
        self._at_end_of_turn = at_end_of_turn
        # Whether this turn has had a result.
        self._in_turn = False
        # The row, its form, and the id of the call whose result can be put to it.
        self._row = Row(0)
        self._form = NO_ROW
        self._next = 0
        # Makes the row's fragments.
        self._press: Callable[[object], bytes | None] | None = None

    def begin_turn(self) -> None:
        """What comes now is to leave at once, though the loop has not come round."""
        self._in_turn = False

    def _end_turn(self) -> None:
        self._in_turn = False

    def pack(self, call: int, job: Job, value: Any, alone: bool) -> tuple[int, Any, Any]:
        """How a value travels: its status, its form and what is sent.

        Args:
            alone: whether it may be in no row, unless it is plain.

        Raises:
            Whatever its pickling raises.
        """
        kind = type(value)
        if (
            kind in _PLAIN_NUMBERS
            or (kind in _PLAIN_TEXT and len(value) <= _INLINE_LIMIT)
            or (kind is tuple and payload.is_record(value))
        ):
            return messages.VALUE, PLAIN, value
        fragment = None
        if not alone and self._in_turn:
            packer = job.packer or job.new_packer()
            form = packer.prelude
            if self._press is not None and form is self._form and call == self._next:
                try:
                    fragment = self._press(value)
                except (ValueError, StopIteration):
                    self._press = None  # see Packer.press
            else:
                fragment = packer.pack(value)
            if fragment is not None:
                return messages.PICKLED, form, fragment
        return messages.PICKLED, BY_ITSELF, payload.dumps(value)

    def answer(self, result: messages.Result, form: Any, job: Job) -> None:
        """A call that never waited has ended, or one that waited while few others do."""
        call = result[0]
        if form is self._form and call == self._next:
            self._next = call + 1
            values = self._row.values
            values.append(result[2])
            if len(values) == 1:  # a thread that writes has just emptied it
                self._put(self._row)
        elif not self._in_turn:
            self._in_turn = True
            self._at_end_of_turn(self._end_turn)
            self._form = NO_ROW
            self._put_first(result)
        elif form is BY_ITSELF:
            self._form = NO_ROW
            self._put(result)
        else:
            self._row = row = Row(call, form)
            row.values.append(result[2])
            self._form, self._next = form, call + 1
            self._press = job.press(form)
            self._put(row)

    def answer_late(self, result: messages.Result, form: Any, since: float) -> None:
        """A call has ended that has waited since then, as many others still do."""
        call = result[0]
        if form is PLAIN and form is self._form and call == self._next and self._row.values:
            self._next = call + 1
            self._row.values.append(result[2])
            if len(self._row.values) == 1:  # as above
                self._put(self._row)
        elif form is PLAIN:
            self._row = row = Row(call)
            row.values.append(result[2])
            self._form, self._next, self._press = form, call + 1, None
            self._put_late(row, since)
        else:
            self._form = NO_ROW
            self._put_late(result, since)

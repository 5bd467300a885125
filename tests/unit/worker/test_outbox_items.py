"""Items of streaming calls, on their way out among what else leaves."""

from __future__ import annotations

import os
from typing import Any

from hybridexec.wire import frames, messages, payload
from hybridexec.worker.rows import Yields

from .outbox_ends import Ends, result


def yields(call: int, *values: Any, packed: bool = False) -> Yields:
    row = Yields(call, packed)
    row.values += values
    return row


def test_items_leave_in_their_order_among_what_else_leaves(ends: Ends) -> None:
    ends.outbox.put(result(1))
    ends.outbox.put(yields(5, 1, 2))
    ends.outbox.put(yields(6, 3))
    ends.outbox.put(messages.LowWatermark())
    ends.outbox.put(yields(5, 4))
    ends.outbox.put(result(5))
    ends.end_turn()
    assert ends.read() == [
        messages.Results([result(1)], []).head,
        messages.Items([(5, False, [1, 2]), (6, False, [3])]).head,
        messages.LowWatermark().head,
        messages.Items([(5, False, [4])]).head,
        messages.Results([result(5)], []).head,
    ]


def test_large_items_go_beside_their_frames_in_order(ends: Ends) -> None:
    large = [bytes([n]) * (1 << 20) for n in range(4)]
    ends.outbox.put((1, messages.PICKLED, payload.dumps(large[0]), None))
    ends.outbox.put(yields(5, payload.dumps(large[1]), payload.dumps({}), packed=True))
    ends.outbox.put(yields(6, payload.dumps(large[2]), packed=True))
    ends.outbox.put((6, messages.PICKLED, payload.dumps(large[3]), None))
    ends.end_turn()
    got: list[Any] = []
    os.set_blocking(ends.read_fd, False)
    while len(got) < 5:
        for (kind, content, *_), segments in ends.reader.read() or []:
            embedded = (
                [value for _, _, values in content for value in values]
                if kind == messages.Items.kind
                else [each[2] for each in content]
            )
            got += [payload.loads(frames.extract(each, segments)) for each in embedded]
    assert got == [large[0], large[1], {}, large[2], large[3]]


def test_a_row_of_items_that_is_there_twice_is_sent_once(ends: Ends) -> None:
    row = yields(5, 1)
    ends.outbox.put(row)
    ends.outbox.put(row)
    ends.end_turn()
    assert ends.read() == [messages.Items([(5, False, [1])]).head]
    row.values.append(2)
    ends.outbox.put(row)
    ends.end_turn()
    assert ends.read() == [messages.Items([(5, False, [2])]).head]

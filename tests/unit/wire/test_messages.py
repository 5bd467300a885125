"""Messages: each is told apart, and its receiver has a handler that takes its fields."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable
from typing import Any

import pytest

from hybridexec.parent.engine.entry_queue import EntryQueue
from hybridexec.parent.engine.supervisor import Supervisor
from hybridexec.parent.pool.pool import Pool
from hybridexec.wire import messages
from hybridexec.wire.messages import Message, ToParent, ToWorker
from hybridexec.worker.greenlets.lane import GreenletLane
from hybridexec.worker.inbound import Inbound
from hybridexec.worker.inbox import Inbox
from hybridexec.worker.late_logs import LateLogs

Handlers = dict[int, Callable[..., object]]


def handlers_of_worker() -> Handlers:
    lane = GreenletLane.__new__(GreenletLane)
    nothing: Any = None
    read_fd, write_fd = os.pipe()
    try:
        channel: Any = type("Channel", (), {"take": None})
        page: Any = type("Page", (), {"words": None})
        return Inbound(
            read_fd, channel, page, Inbox(), nothing, nothing, lane, LateLogs()
        )._handlers
    finally:
        os.close(read_fd)
        os.close(write_fd)


def handlers_of_parent() -> Handlers:
    launcher: Any = None
    return Supervisor(Pool(1, {}), launcher, EntryQueue())._handlers


def fields(function: Callable[..., object]) -> list[str]:
    return list(inspect.signature(function).parameters)


@pytest.mark.parametrize(
    ("direction", "handlers", "before", "apart"),
    [
        (ToWorker, handlers_of_worker, [], {messages.Calls}),
        (ToParent, handlers_of_parent, ["number", "now"], {messages.Results, messages.Items}),
    ],
)
def test_each_message_has_a_handler_that_takes_its_fields(
    direction: type[Message],
    handlers: Callable[[], Handlers],
    before: list[str],
    apart: set[type[Message]],
) -> None:
    kinds = {kind.kind: kind for kind in direction.__subclasses__()}
    assert len(kinds) == len(direction.__subclasses__()), "kinds are distinct"
    for message in apart:
        del kinds[message.kind]
    table = handlers()
    assert set(table) == set(kinds)
    for kind, message in kinds.items():
        assert fields(table[kind]) == [*before, *fields(message)], message


@pytest.mark.parametrize("message", [*ToWorker.__subclasses__(), *ToParent.__subclasses__()])
def test_a_head_is_the_kind_and_the_fields_in_their_order(message: type[Message]) -> None:
    names = fields(message)
    assert message(*names).head == (message.kind, *names)


def test_ways_to_end_are_distinct() -> None:
    ends = {
        messages.VALUE,
        messages.PICKLED,
        messages.ERROR,
        messages.CANCELLED,
        messages.TIMED_OUT,
        messages.RETRIABLE,
    }
    assert len(ends) == 6

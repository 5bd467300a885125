"""The client's end of the way to a worker on another machine."""

from __future__ import annotations

import os
import signal
from typing import Any

import pytest

pytest.importorskip("distributed")

from hybridexec.cluster.link import RemoteLink
from hybridexec.cluster.nodes import Node
from hybridexec.cluster.post import PROTOCOL, SILENT_SECONDS
from hybridexec.parent import lifecycle
from hybridexec.wire import messages


class Sent:
    """What would be sent to the node."""

    def __init__(self) -> None:
        self.items: list[list[Any]] = []

    def send(self, item: list[Any], size: int = 0) -> None:
        self.items.append(item)


@pytest.fixture
def node() -> Node:
    hello = {"protocol": PROTOCOL, "name": "n", "cpus": 2, "machine": "", "clock": 0.0}
    made = Node("tcp://n:1", {**hello, "leaving": False}, None)
    made.post = Sent()  # type: ignore[assignment]  # as far as it is used
    return made


def test_a_link_closes_no_descriptor_that_another_has_by_then(node: Node) -> None:
    ended = RemoteLink(node, 1, "greenlet", 3)
    ended.cut("cut")
    others = [RemoteLink(node, number, "greenlet", 3) for number in range(2, 5)]
    ended.close()
    for other in others:
        for fd in (other.results_fd, other.calls_fd, *other.ends):
            os.fstat(fd)
        other.cut("too")
        assert os.read(next(iter(other.ends)), 1)  # it is told that it has ended
        other.close()


def test_a_large_payload_is_handed_over_in_pieces_that_a_slow_network_takes_in_seconds(
    node: Node,
) -> None:
    link = RemoteLink(node, 1, "greenlet", 3)
    link.write(messages.Stop(), [b"x" * 8_000_000])
    link.flush()
    pieces = [item[3] for item in node.post.items]  # type: ignore[attr-defined]  # it is Sent
    assert sum(map(len, pieces)) > 8_000_000
    slow = 32 * 1024  # bytes a second
    assert max(map(len, pieces)) / slow <= SILENT_SECONDS / 2
    link.close()


def test_a_link_that_was_cut_ends_once(node: Node) -> None:
    link = RemoteLink(node, 1, "greenlet", 3)
    link.cut("once")
    read, write = os.pipe()
    lifecycle.keep_from_children(read, write)
    link.cut("twice")
    os.fstat(read)
    os.fstat(write)
    lifecycle.close(read, write)
    link.close()


def test_a_worker_whose_start_was_given_up_is_killed_when_it_tells_of_itself(node: Node) -> None:
    link = RemoteLink(node, 1, "greenlet", 3)
    node.add(link, 1)
    link.close()
    node.receive(["started", 1, 4711])
    assert node.post.items == [["kill", 1, signal.SIGKILL]]  # type: ignore[attr-defined]
    assert node.load("greenlet") == 0

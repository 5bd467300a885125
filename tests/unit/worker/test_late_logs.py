"""When a worker begins to send log records."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from typing import Any

import pytest

from hybridexec.wire.log_ring import LogRing, records
from hybridexec.wire.log_tree import Tree
from hybridexec.worker import late_logs, logs
from hybridexec.worker.late_logs import LateLogs

from ..fakes import own_logging

NOTHING: Any = None


def tree(level: int) -> Tree:
    return 0, level, (("", level, True, False, ()),)


class Side:
    """A worker in which logging is yet to be imported."""

    def __init__(self) -> None:
        self.ring = LogRing(memoryview(bytearray(1 << 16)))
        self.logs = LateLogs()
        self.imported: list[Callable[[Any], object]] = []

    def after_import(self, name: str, do: Callable[[Any], object]) -> None:
        assert name == "logging"
        self.imported.append(do)

    def begin(self, tree: Tree) -> None:
        outbox: Any = self
        self.logs.begin(tree, self.ring, outbox, NOTHING, lambda: "f(1)")

    def put(self, news: Any) -> None:
        assert news.head

    def import_it(self) -> None:
        for do in self.imported:
            do(logging)

    def sent(self) -> int:
        return len(list(records(self.ring.take())))


@pytest.fixture
def side(monkeypatch: pytest.MonkeyPatch) -> Side:
    side = Side()
    own_logging(monkeypatch)
    monkeypatch.setattr(logging.Logger, "callHandlers", logging.Logger.callHandlers)
    monkeypatch.setattr(late_logs, "after_import", side.after_import)
    monkeypatch.setattr(logs, "_logs", None)
    return side


def test_records_are_sent_from_when_logging_is_imported(side: Side) -> None:
    side.begin(tree(30))
    side.import_it()
    logging.getLogger("app").warning("one")
    assert side.sent() == 1


def test_what_has_changed_before_is_followed(side: Side) -> None:
    side.begin(tree(30))
    side.logs.follow(tree(40))
    side.import_it()
    logging.getLogger("app").warning("not taken")
    logging.getLogger("app").error("one")
    assert side.sent() == 1
    side.logs.follow(tree(30))
    logging.getLogger("app").warning("two")
    assert side.sent() == 1


def test_a_process_that_was_forked_before_sends_none(side: Side) -> None:
    side.begin(tree(30))
    pid = os.fork()
    if not pid:
        side.import_it()
        os._exit(logs._logs is not None)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

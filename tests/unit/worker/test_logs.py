"""Which records a worker sends, and which of its own handlers get them."""

from __future__ import annotations

import logging
import logging.handlers
import multiprocessing
import os
import queue
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from hybridexec.wire.log_records import unpack
from hybridexec.wire.log_ring import LogRing, records
from hybridexec.wire.log_tree import Tree
from hybridexec.worker import logs

from ..fakes import own_logging

STDERR = (0, "<stderr>", "logging.StreamHandler")


def tree_of(*takers: Any, level: int = logging.INFO, last: int | None = 30) -> Tree:
    return 0, last, (("", level, True, False, takers),)


class FakeOutbox:
    def __init__(self) -> None:
        self.entries: list[Any] = []
        self.flushed = 0

    def put(self, entry: Any) -> None:
        self.entries.append(entry)

    add = put

    def flush(self) -> None:
        self.flushed += 1
        self.told()

    def told(self) -> list[int]:
        """What the parent gets when all leaves."""
        heads = [entry.head for entry in self.entries]
        self.entries.clear()
        return [end for _, end in heads]


class Keeping(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.kept: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.kept.append(record.getMessage())


class Side:
    """The worker's side, in this process."""

    def __init__(self) -> None:
        self.ring = LogRing(memoryview(bytearray(1 << 20)))
        self.outbox = FakeOutbox()
        self.called = 0
        self.log = logging.getLogger("app")

    def begin(self, tree: Tree) -> logs.Logs:
        outbox: Any = self.outbox
        made = logs.Logs(
            tree, self.ring, outbox, self.call_helper, lambda: "f(1)", threading.get_ident()
        )
        made.install()
        return made

    def call_helper(self) -> None:
        self.called += 1

    def sent(self) -> list[str]:
        """The messages of the records that were sent since the last time."""
        return [unpack(packed, 1).getMessage() for packed in records(self.ring.take())]


@pytest.fixture
def side(monkeypatch: pytest.MonkeyPatch) -> Side:
    own_logging(monkeypatch)
    monkeypatch.setattr(logging.Logger, "callHandlers", logging.Logger.callHandlers)
    monkeypatch.setattr(logs, "_logs", None)
    return Side()


def test_what_the_parent_takes_is_sent_and_nothing_else(side: Side) -> None:
    side.begin(tree_of(STDERR))
    side.log.debug("not enabled")
    side.log.info("one")
    side.log.setLevel(logging.DEBUG)
    side.log.debug("made, and not taken")
    assert side.sent() == ["one"]


def test_the_last_resort_here_is_not_used(side: Side, capsys: pytest.CaptureFixture[str]) -> None:
    side.begin(tree_of())
    side.log.warning("one")
    assert side.sent() == ["one"]
    side.begin(tree_of((logging.ERROR, "/a/file", "logging.FileHandler")))
    side.log.warning("in the parent nobody would take it")
    assert side.sent() == []
    assert capsys.readouterr().err == ""


def test_own_handlers_get_all_their_records(side: Side) -> None:
    side.begin(tree_of(STDERR, level=logging.WARNING))
    own = Keeping()
    logging.basicConfig(level=logging.DEBUG, handlers=[own])
    side.log.debug("own")
    side.log.warning("both")
    assert own.kept == ["own", "both"]
    assert side.sent() == ["both"]


def test_what_an_own_handler_takes_is_no_case_for_the_last_resort(side: Side) -> None:
    side.begin(tree_of())
    own = Keeping()
    logging.root.addHandler(own)
    side.log.warning("one")
    assert own.kept == ["one"]
    assert side.sent() == []


def test_one_place_gets_a_record_once(side: Side, tmp_path: Path) -> None:
    path = str(tmp_path / "log")
    side.begin(tree_of((logging.WARNING, path, "logging.FileHandler")))
    with open(path, "w"):
        logging.basicConfig(filename=path, level=logging.INFO, format="%(message)s")
    side.log.info("here")
    side.log.warning("there")
    assert side.sent() == ["there"]
    assert Path(path).read_text() == "here\n"
    logging.root.handlers[0].close()


def test_a_handler_of_the_parents_class_counts_if_it_was_there_before(side: Side) -> None:
    before, later = Keeping(), Keeping()
    logging.root.addHandler(before)
    module = Keeping.__module__
    side.begin(tree_of((0, None, f"{module}.Keeping")))
    logging.root.addHandler(later)
    side.log.info("one")
    assert side.sent() == ["one"]
    assert (before.kept, later.kept) == ([], ["one"])


def test_what_a_queue_handler_forwards_is_not_sent(side: Side) -> None:
    side.begin(tree_of(STDERR))
    forwarded: Any = multiprocessing.get_context("spawn").SimpleQueue()
    handler = logging.handlers.QueueHandler(forwarded)
    handler.enqueue = lambda record: None  # type: ignore[method-assign]
    logging.root.addHandler(handler)
    side.log.info("forwarded")
    assert side.sent() == []
    logging.root.removeHandler(handler)
    logging.root.addHandler(logging.handlers.QueueHandler(queue.Queue()))
    side.log.info("kept in this process")
    assert side.sent() == ["kept in this process"]
    forwarded.close()


def test_a_record_that_cannot_be_made_is_printed(
    side: Side, capsys: pytest.CaptureFixture[str]
) -> None:
    side.begin(tree_of(STDERR))
    side.log.info("%d", "no number")
    assert side.sent() == []
    assert "--- Logging error ---" in capsys.readouterr().err


def test_the_parent_is_told_once_a_turn_and_how_far(side: Side) -> None:
    side.begin(tree_of(STDERR))
    side.log.info("one")
    side.log.info("two")
    assert len(side.outbox.entries) == 1
    assert side.outbox.told() == [side.ring.written]
    side.log.info("three")
    assert side.outbox.told() == [side.ring.written]


def test_the_parent_is_told_at_once_of_much(side: Side) -> None:
    side.begin(tree_of(STDERR))
    for _ in range(100):
        side.log.info("x" * 4000)
    assert side.outbox.flushed == 3
    assert side.called == 0


def test_a_thread_leaves_it_to_the_helper_to_tell(side: Side) -> None:
    side.begin(tree_of(STDERR))
    thread = threading.Thread(target=side.log.info, args=("one",))
    thread.start()
    thread.join()
    assert (side.sent(), side.called) == (["one"], 1)


def test_a_signal_handler_that_logs_meanwhile_waits_for_nobody(side: Side) -> None:
    made = side.begin(tree_of(STDERR))
    put = side.ring.put

    def interrupted(packed: bytes) -> None:
        side.ring.put = put  # type: ignore[method-assign]
        side.log.info("from the handler")
        put(packed)

    side.ring.put = interrupted  # type: ignore[method-assign]
    side.log.info("one")
    assert side.sent() == ["one", "from the handler"]
    assert not made._lock.locked()


def test_a_forked_process_sends_nothing(side: Side, monkeypatch: pytest.MonkeyPatch) -> None:
    side.begin(tree_of(STDERR))
    own = Keeping()
    logging.root.addHandler(own)
    monkeypatch.setattr(os, "getpid", lambda: -1)
    side.log.info("in the child")
    monkeypatch.undo()
    assert own.kept == ["in the child"]
    assert list(records(side.ring.take())) == []


def test_changes_of_the_parents_are_followed(side: Side) -> None:
    side.begin(tree_of(STDERR)).follow(
        (0, 30, (("", 40, True, False, (STDERR,)), ("new", 10, True, False, ())))
    )
    side.log.warning("not taken any more")
    side.log.error("one")
    logging.getLogger("new").debug("two")
    assert side.sent() == ["one", "two"]


def test_the_levels_are_the_parents(side: Side) -> None:
    side.begin((20, None, (("", 5, True, False, ()), ("app", 50, True, False, ()))))
    assert (logging.root.level, side.log.level) == (5, 50)
    assert logging.root.manager.disable == 20
    assert sys.modules["logging"] is logging

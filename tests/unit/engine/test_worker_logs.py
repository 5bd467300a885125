"""How the parent handles what workers log."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hybridexec.parent.engine import worker_logs
from hybridexec.parent.engine.worker_logs import WorkerLogs
from hybridexec.wire.log_records import pack
from hybridexec.wire.log_ring import LogRing

PATIENCE = 30


def data_of(*messages: str, name: str = "made.up", level: int = logging.WARNING) -> bytes:
    ring = LogRing(memoryview(bytearray(1 << 20)))
    for message in messages:
        record = logging.LogRecord(name, level, "", 1, message, (), None)
        ring.put(pack(record, "f()"))
    return ring.take()


class Waiting(logging.Handler):
    """Keeps messages, once it may."""

    def __init__(self) -> None:
        super().__init__()
        self.kept: list[str] = []
        self.entered, self.open = threading.Event(), threading.Event()
        self.threads: set[int] = set()

    def emit(self, record: logging.LogRecord) -> None:
        self.threads.add(threading.get_ident())
        self.entered.set()
        assert self.open.wait(PATIENCE)
        self.kept.append(record.getMessage())


@pytest.fixture
def handler() -> Iterator[Waiting]:
    handler = Waiting()
    logger = logging.getLogger("made.up")
    logger.addHandler(handler)
    logger.propagate = False
    yield handler
    handler.open.set()
    logger.removeHandler(handler)
    logger.propagate = True
    logger.filters.clear()


def finish(logs: WorkerLogs) -> None:
    ended = threading.Event()
    logs.finish(ended.set)
    assert ended.wait(PATIENCE)


def test_records_are_handled_elsewhere_in_order_and_before_the_end(handler: Waiting) -> None:
    logs = WorkerLogs(None)
    logs.receive(1, data_of("one", "two"), 0)
    assert handler.entered.wait(PATIENCE)
    logs.receive(2, data_of("three"), 0)
    assert not logs.is_current()
    assert handler.kept == [], "its handler waits, and nobody else does"
    handler.open.set()
    finish(logs)
    assert handler.kept == ["one", "two", "three"]
    assert threading.get_ident() not in handler.threads


def test_without_records_there_is_no_thread() -> None:
    logs = WorkerLogs(None)
    logs.receive(1, b"", 0)
    finish(logs)
    assert logs._thread is None


def test_filters_and_levels_of_this_process_count(handler: Waiting) -> None:
    handler.open.set()
    logger = logging.getLogger("made.up")
    logger.addFilter(lambda record: "bad" not in record.getMessage())
    logs = WorkerLogs(None)
    logs.receive(1, data_of("bad", "good"), 0)
    logs.receive(1, data_of("not enabled", level=logging.DEBUG), 0)
    finish(logs)
    assert handler.kept == ["good"]


def test_a_filter_that_raises_hurts_no_other_record(
    handler: Waiting, capsys: pytest.CaptureFixture[str]
) -> None:
    handler.open.set()

    def refuse(record: logging.LogRecord) -> bool:
        if record.getMessage() == "bad":
            raise SystemExit("no")
        return True

    logging.getLogger("made.up").addFilter(refuse)
    logs = WorkerLogs(None)
    logs.receive(1, data_of("bad", "good"), 0)
    finish(logs)
    assert handler.kept == ["good"]
    assert "SystemExit: no" in capsys.readouterr().err


def test_what_is_no_record_any_more_is_dropped(handler: Waiting) -> None:
    handler.open.set()
    logs = WorkerLogs(None)
    logs.receive(1, b"\x05\0\0\0rubbish", 0)
    logs.receive(1, data_of("good"), 0)
    finish(logs)
    assert handler.kept == ["good"]
    assert logs.dropped == 1


def test_what_is_too_much_is_dropped_counted_and_reported(
    handler: Waiting, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(worker_logs, "_MOST_WAITING", 1)
    logs = WorkerLogs(None)
    logs.receive(1, data_of("one"), 2)
    assert handler.entered.wait(PATIENCE)
    logs.receive(1, data_of("two", "three"), 2)
    logs.receive(2, b"", 1)
    assert logs.dropped == 5
    handler.open.set()
    finish(logs)
    assert handler.kept == ["one"]
    (report,) = [record.getMessage() for record in caplog.records if record.name == "hybridexec"]
    assert report.startswith("5 log records of workers were dropped")


def test_a_handler_that_raises_at_the_report_does_not_keep_the_end_waiting(
    handler: Waiting,
) -> None:
    def refuse(_: object) -> bool:
        raise RuntimeError("a filter's own")

    handler.open.set()
    logs = WorkerLogs(None)
    logger = logging.getLogger("hybridexec")
    logger.addFilter(refuse)
    try:
        logs.receive(1, data_of("one"), 5)
        finish(logs)
    finally:
        logger.removeFilter(refuse)
    assert handler.kept == ["one"]
    assert logs.dropped == 5


def test_without_a_thread_to_be_had_records_are_handled_at_the_end(
    handler: Waiting, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> None:
        raise RuntimeError("can't start new thread")

    logs = WorkerLogs(None)
    with monkeypatch.context() as patch:
        patch.setattr(worker_logs.native, "start_thread", refuse)
        logs.receive(1, data_of("one", "two"), 0)
        assert not handler.kept
        handler.open.set()
        finish(logs)
    assert handler.kept == ["one", "two"]
    assert logs.dropped == 0


def test_changes_of_levels_are_seen_now_and_then() -> None:
    logs = WorkerLogs(None)
    assert logs.look(10.0) is None
    logger = logging.getLogger("made.up.level")
    logger.setLevel(logging.ERROR)
    try:
        assert logs.look(10.5) is None, "it is too early"
        tree = logs.look(11.5)
        assert tree is not None
        assert tree is logs.changed
        assert "made.up.level" in [state[0] for state in tree[2]]
        assert logs.look(13.0) is None
    finally:
        logger.setLevel(logging.NOTSET)

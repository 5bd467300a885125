"""What of a log record travels, whatever it holds."""

from __future__ import annotations

import enum
import logging
import sys
import time
from typing import Any

import pytest

from hybridexec.wire.log_records import pack, unpack


def record_of(message: object, *arguments: Any, **more: Any) -> logging.LogRecord:
    error = more.pop("exc_info", None)
    record = logging.LogRecord(
        "app.part", logging.INFO, "/src/part.py", 7, message, arguments, error, "function", "stack"
    )
    record.__dict__.update(more)
    return record


def sent(record: logging.LogRecord, call: str = "f(1)") -> logging.LogRecord:
    return unpack(pack(record, call), 3, "b")


class Color(enum.IntEnum):
    RED = 1


class Secret:
    def __str__(self) -> str:
        return "hidden"


def test_what_a_formatter_may_ask_for_arrives() -> None:
    record = record_of("%s and %d", "text", 7)
    record.created = time.time() - 100
    record.msecs = 12.0
    got = sent(record)
    assert got.getMessage() == "text and 7"
    assert got.args == ()
    for field in ("name", "levelno", "levelname", "pathname", "filename", "module", "lineno"):
        assert getattr(got, field) == getattr(record, field), field
    for field in ("funcName", "created", "msecs", "thread", "threadName", "process", "stack_info"):
        assert getattr(got, field) == getattr(record, field), field
    assert got.processName == record.processName
    now = logging.makeLogRecord({})
    assert now.relativeCreated - got.relativeCreated == pytest.approx(100_000, abs=5_000)
    assert (got.worker, got.node, got.call) == (3, "b", "f(1)")  # type: ignore[attr-defined]
    assert "text and 7" in logging.Formatter("%(asctime)s %(relativeCreated)d %(message)s").format(
        got
    )


def test_a_traceback_arrives_as_text() -> None:
    try:
        raise KeyError("key")
    except KeyError:
        got = sent(record_of("failed", exc_info=sys.exc_info()))
    assert got.exc_info is None
    assert "KeyError: 'key'" in logging.Formatter().format(got)
    assert sent(record_of("failed", exc_text="as it was formatted")).exc_text is not None
    assert sent(record_of("failed", exc_info=(None, None, None))).exc_text == "NoneType: None"


def test_arguments_that_cannot_be_pickled_are_merged() -> None:
    assert sent(record_of("%s %r", Secret(), lambda: None)).getMessage().startswith("hidden <func")
    assert sent(record_of(Secret())).getMessage() == "hidden"
    assert sent(record_of("%(a)s", {"a": 1})).getMessage() == "1"


def test_attributes_of_the_users_arrive_plain_or_as_text() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    got: Any = sent(
        record_of(
            "",
            user="bob",
            data={"a": [1, (2.5, None)], "b": Secret()},
            odd=Secret(),
            color=Color.RED,
            loop=loop,
            raw=b"\xff",
            surrogate="\ud800",
        )
    )
    assert got.user == "bob"
    assert got.data == {"a": [1, (2.5, None)], "b": "hidden"}
    assert got.odd == "hidden"
    assert got.color == 1
    assert got.loop[0] == 1
    assert got.raw == b"\xff"
    assert got.surrogate == "\ud800"


def test_attributes_of_the_users_are_not_replaced() -> None:
    got: Any = sent(record_of("", worker="mine", call=7))
    assert (got.worker, got.call) == ("mine", 7)


def test_what_is_too_long_is_cut() -> None:
    got: Any = sent(record_of("%s", "x" * 1_000_000, long="y" * 1_000_000))
    assert got.getMessage().endswith("x... (cut)")
    assert len(pack(got, "")) < 200_000


def test_names_of_odd_types_are_texts() -> None:
    class Name(str):
        pass

    record = record_of("")
    record.name, record.levelname, record.funcName = Name("app"), Name("HIGH"), None  # type: ignore[assignment]
    got = sent(record)
    assert type(got.name) is str
    assert (got.name, got.levelname, got.funcName) == ("app", "HIGH", None)


def test_a_wrong_format_is_raised() -> None:
    with pytest.raises(TypeError):
        pack(record_of("%d", "no number"), "")

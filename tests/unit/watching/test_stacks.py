"""The command's text."""

from __future__ import annotations

from typing import Any

from hybridexec.watching.stacks import _lines


def told(**given: Any) -> str:
    worker = {
        "worker": 1,
        "pid": 11,
        "node": "",
        "state": "ready",
        "kept_by": None,
        "groups": [],
        "more": 0,
        "no_answer": "",
        "dump": "",
        "running": [],
    }
    return "\n".join(_lines({"executor": 1, "pid": 4, "workers": [{**worker, **given}]}))


CALL = {"call": "f('\x1b[2J')", "seconds": 1.25}
FRAME = {"file": "a.py", "line": 3, "function": "f", "source": "wait()"}


def test_a_worker_without_calls() -> None:
    assert told().splitlines()[-2:] == ["worker 11 (ready)", "  no call"]


def test_calls_at_the_same_place_are_told_once() -> None:
    text = told(groups=[{"count": 3, "calls": [CALL], "stack": [FRAME]}], more=7)
    assert text.splitlines()[3:] == [
        "  f(' [2J'), for 1.2 s",
        "  and 2 more at the same place",
        '    File "a.py", line 3, in f',
        "      wait()",
        "  and 7 more calls",
    ]


def test_what_is_no_call_is_said_to_be_none() -> None:
    text = told(groups=[{"count": 1, "calls": [], "stack": [FRAME]}])
    assert "  no call, but what has the main thread" in text


def test_who_does_not_answer_is_told_of_by_others() -> None:
    text = told(no_answer="the process is stopped", running=[CALL], more=1, dump="Stack\n  File")
    assert text.splitlines()[3:] == [
        "  no answer: the process is stopped",
        "  f(' [2J'), for 1.2 s",
        "  and 1 more calls",
        "  its main thread, as faulthandler sees it (the innermost frame first):",
        "    Stack",
        "    File",
    ]


def test_a_worker_on_a_node_is_named_with_it() -> None:
    assert "worker 11 on node b (ready)" in told(node="b")

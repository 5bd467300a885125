"""What became of a fault is seen, and told in a few words."""

from __future__ import annotations

import pytest

from benchmarks.faults.__main__ import main
from benchmarks.faults.observe import observe
from benchmarks.faults.words import words
from benchmarks.harness.question import OURS


def calls_seen(**changes: object) -> dict[str, object]:
    return {"culprit": "right", "others": {"right": 20}, "after": "right", **changes}


@pytest.mark.parametrize(
    ("seen", "text"),
    [
        (calls_seen(), "no call is harmed"),
        (calls_seen(culprit="ValueError"), "that call fails (ValueError)"),
        (
            calls_seen(culprit="Lost", others={"right": 15, "Lost": 5}),
            "that call fails (Lost); 5 of 20 other calls fail",
        ),
        (calls_seen(culprit="never"), "that call hangs"),
        (calls_seen(others={"never": 20}), "20 of 20 other calls hang"),
        (calls_seen(after="Broken"), "**the pool is broken**"),
        (calls_seen(after="never"), "the pool hangs"),
        ({"left": 2}, "2 processes left"),
        ({"left": 0}, "nothing left"),
        ({"told": True, "run on": True}, "callers are told, the calls run on"),
        ({"told": False, "run on": True}, "the calls run on"),
        ({"told": True, "run on": False, "workers live on": True}, "stopped, the worker lives on"),
        ({"told": True, "run on": False, "workers live on": False}, "stopped, with their workers"),
        ({"error": "never", "says why": False}, "calls hang"),
        ({"error": "Broken", "says why": True}, "Broken, which says why"),
        ({"failed": "it"}, "the scenario failed: it"),
    ],
)
def test_a_fault_is_told_in_a_few_words(seen: dict[str, object], text: str) -> None:
    assert words(seen) == text


@pytest.mark.parametrize(
    ("scenario", "text"),
    [
        ("a call calls `sys.exit(3)`", "that call fails (SystemExit)"),
        ("endless waits are to be stopped", "stopped, the worker lives on"),
        ("the parent is SIGKILLed, workers compute", "nothing left"),
    ],
)
@pytest.mark.slow
def test_a_fault_is_done_and_seen(scenario: str, text: str) -> None:
    assert words(observe(scenario, OURS)) == text


def test_the_table_of_faults_has_a_column_for_each_contender(capsys) -> None:
    main(["--only", "hybridexec", "loky", "--match", "no such scenario"])
    assert capsys.readouterr().out.splitlines()[-2:] == ["| | hybridexec | loky |", "|---|---|---|"]

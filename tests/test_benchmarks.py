"""The benchmarks run, each question in its smallest form, and judge figures rightly."""

from __future__ import annotations

import contextlib
import importlib
import json
import subprocess
import sys

import pytest

from benchmarks import faults, report, rounds, soak
from benchmarks.__main__ import QUESTIONS, main
from benchmarks.question import OURS, Metric, Question, Skip, Target
from benchmarks.rounds import Samples

RATE = Metric("rate", "calls/s", "calls per second", higher_is_better=True)
TIME = Metric("time", "ms", "time")


def question(metric: Metric, *targets: Target) -> Question:
    return Question("Title", "How.", (metric,), (OURS, "peer"), {}, {}, targets)


def samples(key: str, ours: list[float], peer: list[float]) -> Samples:
    found = Samples()
    found.figures["", OURS] = [{key: value} for value in ours]
    found.figures["", "peer"] = [{key: value} for value in peer]
    return found


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_measures_us(name: str) -> None:
    asked: Question = importlib.import_module(f"benchmarks.{name}").QUESTION
    figures, reason = rounds.measure(name, OURS, asked.cases[0], asked.sizes["smoke"])
    assert reason == ""
    assert figures is not None
    assert set(figures) == {metric.key for metric in asked.metrics}


@pytest.mark.parametrize("name", QUESTIONS)
def test_targets_name_what_is_measured(name: str) -> None:
    asked: Question = importlib.import_module(f"benchmarks.{name}").QUESTION
    for target in asked.targets:
        assert target.metric in {metric.key for metric in asked.metrics}
        assert {target.ours, *target.against} <= set(asked.contenders)
        assert set(target.cases) <= set(asked.cases)


def test_the_hand_written_pair_gives_all_results_in_order() -> None:
    from benchmarks import calls
    from benchmarks.pair import Pair

    with Pair(2) as pair:
        assert pair.run(calls.same, range(7), 3) == list(range(7))


def test_a_run_prints_a_table_and_writes_json(tmp_path, capsys) -> None:
    path = tmp_path / "out" / "results.json"
    main(["--smoke", "--json", str(path), "fetch"])
    printed = capsys.readouterr().out
    assert "| hand-written pair |" in printed
    assert "- Python: " in printed
    document = json.loads(path.read_text())
    assert document["scale"] == "smoke"
    assert len(document["questions"]["fetch"]["tables"]) == 4


def test_an_unknown_question_is_refused_by_name() -> None:
    command = [sys.executable, "-m", "benchmarks", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no question 'nonsense'" in done.stderr


def test_a_contender_that_cannot_be_measured_is_left_out_with_a_note(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "loky", None)
    from benchmarks.peers import open_peer

    with pytest.raises(Skip, match="loky is not installed"), open_peer("loky"):
        pass


def test_a_failed_measurement_says_why() -> None:
    figures, reason = rounds.measure("round_trip", "nobody", "", {"calls": 1})
    assert figures is None
    assert reason == "failed: KeyError: 'nobody'"


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    # The second round was slow for both: that must not show.
    found = samples("rate", [100, 10, 120], [50, 5, 40])
    ours, peer = report.rows(question(RATE), found, "", RATE)
    assert (ours.ratio, peer.ratio) == (None, 2.0)
    assert (peer.median, peer.best, peer.worst) == (40, 50, 5)


@pytest.mark.parametrize(
    ("metric", "bound", "verdict"),
    [
        (RATE, 1.5, "met (+33 %)"),
        (RATE, 4.0, "not met (-50 %)"),
        (TIME, 4.0, "met (-50 %)"),
        (TIME, 1.6, "not met (+25 %)"),
    ],
)
def test_a_target_is_met_or_not_by_so_much(metric: Metric, bound: float, verdict: str) -> None:
    asked = question(metric, Target(metric.key, bound, ("peer",)))
    _, peer = report.rows(asked, samples(metric.key, [20.0], [10.0]), "", metric)
    assert peer.verdict == verdict


def test_an_absolute_target_stands_on_our_own_line() -> None:
    asked = question(TIME, Target("time", 40.0))
    ours, peer = report.rows(asked, samples("time", [30.0], [10.0]), "", TIME)
    assert (ours.target, ours.verdict, peer.target) == ("≤ 40 ms", "met (-25 %)", "")


@pytest.mark.parametrize(
    ("value", "text"),
    [(123456.0, "123,000"), (12.345, "12.3"), (0.012345, "0.0123"), (0.0, "0"), (-55.84, "-55.8")],
)
def test_figures_have_three_digits_that_count(value: float, text: str) -> None:
    assert report.figure(value) == text


# -- faults and the soak --------------------------------------------------------------------------


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
    assert faults.words(seen) == text


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
    assert faults.words(faults.observe(scenario, OURS)) == text


def test_the_table_of_faults_has_a_column_for_each_contender(capsys) -> None:
    faults.main(["--only", "hybridexec", "loky", "--match", "no such scenario"])
    assert capsys.readouterr().out.splitlines()[-2:] == ["| | hybridexec | loky |", "|---|---|---|"]


def test_a_soak_sees_what_grows_after_the_warm_up() -> None:
    flat = [90.0] * 10 + [50.0, 51.0, 50.0] * 10
    assert not soak.Watched("memory", "MiB", 8, flat).grew
    assert soak.Watched("memory", "MiB", 8, [n * 1.0 for n in range(40)]).grew


@pytest.mark.slow
def test_a_short_soak_runs_and_prints_its_table(capsys) -> None:
    # In so short a time payloads are all that grows and shrinks: that verdict is not for here.
    with contextlib.suppress(SystemExit):
        soak.main(["--seconds", "6"])
    printed = capsys.readouterr().out
    assert "| steady worker, descriptors |" in printed
    assert "right" in printed
    assert "wrong:" not in printed

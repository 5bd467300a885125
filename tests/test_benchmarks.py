"""The benchmarks run, each question in its smallest form, and judge figures rightly."""

from __future__ import annotations

import contextlib
import importlib
import json
import math
import random
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from benchmarks import publish, soak
from benchmarks.__main__ import QUESTIONS, main
from benchmarks.faults import __main__ as faults
from benchmarks.harness import against, judge, plots, report, rounds
from benchmarks.harness.question import OURS, Metric, Question, Skip, Target
from benchmarks.harness.rounds import HERE, Python, Samples

RATE = Metric("rate", "calls/s", "calls per second", higher_is_better=True)
TIME = Metric("time", "ms", "time")
#: Seconds for one measurement of next to nothing.
PATIENCE = 60.0


def question(metric: Metric, *targets: Target, **options: Any) -> Question:
    options = {"contenders": (OURS, "peer"), "sizes": {"smoke": {}}, "rounds": {}, **options}
    return Question("Title", "How.", (metric,), targets=targets, **options)


def samples(key: str, ours: list[float], peer: list[float]) -> Samples:
    found = Samples()
    found.figures["", OURS] = [{key: value} for value in ours]
    found.figures["", "peer"] = [{key: value} for value in peer]
    return found


def ask(name: str) -> Question:
    return importlib.import_module(f"benchmarks.questions.{name}").QUESTION


@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_measures_us(name: str) -> None:
    asked = ask(name)
    case = asked.cases[0]
    figures, reason = rounds.measure(name, OURS, case, asked.sizes["smoke"], PATIENCE)
    assert reason == ""
    assert figures is not None
    assert set(figures) == {metric.key for metric in asked.metrics}


@pytest.mark.slow
@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_measures_everybody_in_every_case(name: str) -> None:
    asked = ask(name)
    # The points of a curve are large; its contenders are tried by the first of them.
    for case in asked.cases[:1] if asked.axis else asked.cases:
        for contender in asked.contenders:
            _, reason = rounds.measure(name, contender, case, asked.sizes["smoke"], PATIENCE)
            assert reason == "" or reason.endswith("is not installed"), contender


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_names_only_what_it_has(name: str) -> None:
    asked = ask(name)
    for target in asked.targets:
        assert target.metric in {metric.key for metric in asked.metrics}
        assert {target.ours, *target.against} <= set(asked.contenders)
        assert set(target.cases) <= set(asked.cases)
    assert set(asked.full_only) <= {*asked.cases, *asked.contenders}
    assert set(asked.sizes) == set(asked.rounds) == {"full", "quick", "smoke"}
    if asked.axis:
        assert sorted(map(float, asked.cases)) == list(map(float, asked.cases))


@pytest.mark.parametrize("name", QUESTIONS)
def test_the_quick_scale_judges_us_too(name: str) -> None:
    asked = ask(name)
    cases, contenders = asked.asked("quick")
    for target in asked.targets:
        assert {target.ours, *target.against} <= set(contenders)
        assert set(target.cases or asked.cases) & set(cases)
    assert not asked.axis or len(cases) > 1


def test_the_hand_written_pair_gives_all_results_in_order() -> None:
    from benchmarks.contenders import calls
    from benchmarks.contenders.pair import Pair

    with Pair(2) as pair:
        assert pair.run(calls.same, range(7), 3) == list(range(7))


def test_a_run_prints_tables_and_writes_json_and_plots(tmp_path, capsys) -> None:
    main(["--smoke", "--out", str(tmp_path / "out"), "fetch"])
    printed = capsys.readouterr().out
    assert "| hand-written pair |" in printed
    assert "- Python: " in printed
    assert "\n## Targets\n" in printed
    document = json.loads((tmp_path / "out" / "results.json").read_text())
    assert document["scale"] == "smoke"
    assert len(document["questions"]["fetch"]["tables"]) == 4
    assert "hand-written pair" in (tmp_path / "out" / "fetch.svg").read_text()


def test_an_unknown_question_is_refused_by_name() -> None:
    command = [sys.executable, "-m", "benchmarks", "nonsense"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "no question 'nonsense'" in done.stderr


def test_a_contender_that_cannot_be_measured_is_left_out_with_a_note(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "loky", None)
    from benchmarks.contenders.peers import open_peer

    with pytest.raises(Skip, match="loky is not installed"), open_peer("loky"):
        pass


def test_a_failed_measurement_says_why() -> None:
    figures, reason = rounds.measure("round_trip", "nobody", "", {"calls": 1}, PATIENCE)
    assert figures is None
    assert reason == "failed: KeyError: 'nobody'"


@pytest.mark.parametrize(("seconds", "done"), [(0.0, 1), (math.inf, 3)])
def test_rounds_end_when_their_time_is_over_but_for_the_first(
    monkeypatch, seconds: float, done: int
) -> None:
    monkeypatch.setattr(rounds, "measure", lambda *_: ({"time": 1.0}, ""))
    asked = {"first": question(TIME), "second": question(TIME)}
    taken = rounds.run(asked, "smoke", 3, seconds, lambda _: None)
    assert [len(found.figures["", OURS]) for found in taken.values()] == [done, done]


def test_what_is_left_out_once_is_not_tried_again_but_other_cases_are(monkeypatch) -> None:
    tried = []

    def measure(name: str, contender: str, case: str, *_: object) -> tuple[None, str]:
        tried.append((contender, case))
        return None, "left out: too slow" if (contender, case) == ("peer", "b") else "failed"

    monkeypatch.setattr(rounds, "measure", measure)
    asked = {"": question(TIME, cases=("a", "b"))}
    taken = rounds.run(asked, "smoke", 2, math.inf, lambda _: None)[""]
    assert tried.count(("peer", "a")) == 2
    assert tried.count(("peer", "b")) == 1
    assert taken.notes["peer, b"] == "left out: too slow"


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    # The second round was slow for both: that must not show.
    found = samples("rate", [100, 10, 120], [50, 5, 40])
    ours, peer = judge.rows(question(RATE), found, "", RATE)
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
    _, peer = judge.rows(asked, samples(metric.key, [20.0], [10.0]), "", metric)
    assert (peer.reached, peer.verdict) == (2.0, verdict)


def test_an_absolute_target_stands_on_our_own_line() -> None:
    asked = question(TIME, Target("time", 40.0))
    ours, peer = judge.rows(asked, samples("time", [30.0], [10.0]), "", TIME)
    assert (ours.target, ours.verdict, peer.target) == ("≤ 40 ms", "met (-25 %)", "")


def curve(*costs: float) -> tuple[Question, Samples]:
    """A curve of so many costs, for 1, 10, 100 ... calls."""
    cases = tuple(str(10**power) for power in range(len(costs)))
    found = Samples()
    for case, cost in zip(cases, costs, strict=True):
        found.figures[case, OURS] = [{"time": cost}]
    return question(TIME, cases=cases, axis="calls"), found


@pytest.mark.parametrize(
    ("costs", "power", "verdict"),
    [
        ((3.0, 3.0, 3.0), 0.0, "not superlinear"),
        ((1.0, 10.0, 100.0), 1.0, "superlinear"),
        # What every run costs once falls away as the work grows: only the upper half counts.
        ((90.0, 9.0, 1.0, 2.0, 4.0), math.log10(2), "superlinear"),
    ],
)
def test_a_curve_is_judged_by_the_slope_of_its_upper_half(
    costs: tuple[float, ...], power: float, verdict: str
) -> None:
    (slope,) = judge.slopes(*curve(*costs))
    assert slope.power == pytest.approx(power)
    assert slope.verdict == verdict


def test_a_cost_that_is_not_that_of_a_unit_may_grow_as_their_number_does() -> None:
    whole = replace(TIME, of_each=False)
    for costs, verdict in [
        ((1.0, 10.0, 100.0), "not superlinear"),
        ((1.0, 100.0, 10_000.0), "superlinear"),
    ]:
        asked, found = curve(*costs)
        (slope,) = judge.slopes(replace(asked, metrics=(whole,)), found)
        assert slope.verdict == verdict


def found_out(name: str, asked: Question, found: Samples) -> dict[str, Any]:
    """A document as a run would write it."""
    return {
        "command": "python -m benchmarks",
        "date": "2026-01-02",
        "scale": "full",
        "machine": {"CPU": "one", "Python": "CPython"},
        "questions": {name: judge.as_json(asked, found, "smoke")},
    }


def test_the_targets_name_the_peer_that_is_the_hardest() -> None:
    asked = question(
        RATE, Target("rate", 2.0, ("peer", "other")), contenders=(OURS, "peer", "other")
    )
    found = samples("rate", [30.0], [10.0])
    found.figures["", "other"] = [{"rate": 20.0}]
    (line,) = report.targets(found_out("speed", asked, found)).splitlines()[2:]
    assert line == "| Title | 30.0 calls/s | other: 20.0 | 1.50× | ≥ 2× | not met (-25 %) |"


def test_plots_are_small_and_say_who_is_who(tmp_path) -> None:
    plots.draw(found_out("bars", question(RATE), samples("rate", [9.0], [1.0])), tmp_path)
    plots.draw(found_out("lines", *curve(5.0, 4.0, 4.5)), tmp_path)
    for name in ("bars", "lines"):
        drawn = (tmp_path / f"{name}.svg").read_text()
        assert f">{OURS}</text>" in drawn
        assert len(drawn) < 40_000


def test_figures_are_published_between_the_markers_and_nowhere_else(tmp_path) -> None:
    pages = [tmp_path / "README.md", tmp_path / "docs" / "benchmarks.md"]
    pages[1].parent.mkdir()
    for page in pages:
        page.write_text(f"before\n\n{publish.BEGIN}\nold\n{publish.END}\n\nafter\n")
    asked = question(RATE, contenders=(OURS, "peer"))
    document = found_out("submit_throughput", asked, samples("rate", [9.0], [1.0]))
    for _ in range(2):  # again, and nothing changes
        publish.publish(document, tmp_path)
        for page in pages:
            text = page.read_text()
            assert text.startswith(f"before\n\n{publish.BEGIN}\n\n")
            assert text.endswith(f"\n\n{publish.END}\n\nafter\n")
            assert "old" not in text
        assert "| no-op `submit` → result, calls/s | 9.00 |" in pages[0].read_text()
        (shown,) = re.findall(r"!\[Title\]\((.*)\)", pages[1].read_text())
        assert (tmp_path / "docs" / shown).exists()


def test_what_is_published_is_measured() -> None:
    assert set(publish.PLOTTED) <= set(QUESTIONS)
    for name, key, case, _ in publish.LINES:
        asked = ask(name)
        assert key in {metric.key for metric in asked.metrics}
        assert case in asked.asked("quick")[0]
    assert set(publish.COLUMNS) <= {each for name in QUESTIONS for each in ask(name).contenders}


@pytest.mark.parametrize(
    ("value", "text"),
    [(123456.0, "123,000"), (12.345, "12.3"), (0.012345, "0.0123"), (0.0, "0"), (-55.84, "-55.8")],
)
def test_figures_have_three_digits_that_count(value: float, text: str) -> None:
    assert report.figure(value) == text


# -- an older commit ------------------------------------------------------------------------------

OLDER = against.Older("0123456789abcdef", "Be older", Python("old/bin/python", "old/run"))
TWIN = "commit 0123456789"


@pytest.mark.parametrize("name", QUESTIONS)
def test_whoever_is_us_has_an_older_twin_beside_it(name: str) -> None:
    asked = ask(name)
    with_older = OLDER.ask(asked)
    elsewhere = OLDER.elsewhere({name: asked})
    for scale in ("full", "quick"):
        before, after = asked.asked(scale), with_older.asked(scale)
        assert after[0] == before[0]
        assert [each for each in after[1] if each not in elsewhere] == before[1]
        for contender in before[1]:
            twin = after[1][(after[1].index(contender) + 1) % len(after[1])]
            assert (elsewhere.get(twin) == (contender, OLDER.python)) == against.is_ours(contender)
    assert TWIN in with_older.contenders


def test_contenders_take_turns_with_their_twins_who_are_measured_elsewhere(monkeypatch) -> None:
    measured = []

    def measure(name: str, contender: str, *rest: Any) -> tuple[dict[str, float], str]:
        measured.append((contender, rest[-1]))
        return {"time": 1.0}, ""

    monkeypatch.setattr(rounds, "measure", measure)
    asked = {"it": question(TIME)}
    taken = rounds.run(
        {"it": OLDER.ask(asked["it"])}, "smoke", 2, math.inf, lambda _: None, OLDER.elsewhere(asked)
    )
    assert measured == 2 * [(OURS, HERE), (OURS, OLDER.python), ("peer", HERE)]
    assert set(taken["it"].figures) == {("", OURS), ("", TWIN), ("", "peer")}


def changes(metric: Metric, now: list[float], then: list[float]) -> list[dict[str, Any]]:
    asked = OLDER.ask(question(metric))
    found = samples(metric.key, now, [1.0] * len(now))
    found.figures["", TWIN] = [{metric.key: value} for value in then]
    return against.changes(asked, found, OLDER)


@pytest.mark.parametrize(
    ("metric", "now", "then", "ratio", "verdict"),
    [
        # The machine was slow in the second round, for both.
        (TIME, [1.1, 11.0, 1.11], [1.0, 10.0, 1.0], 1.1, "slower"),
        (RATE, [100.0, 10.0, 99.0], [110.0, 11.0, 110.0], 1.1, "slower"),
        (TIME, [1.0, 10.0, 1.0], [1.1, 11.0, 1.11], 1 / 1.1, "faster"),
        # Within noise, and within what matters.
        (TIME, [1.4, 0.9, 1.2], [1.0, 1.0, 1.0], 1.2, ""),
        (TIME, [1.01, 1.01, 1.01], [1.0, 1.0, 1.0], 1.01, ""),
        # One round tells nothing, two little.
        (TIME, [2.0], [1.0], 2.0, ""),
        (TIME, [2.0, 2.2], [1.0, 1.0], 2.1, ""),
        (TIME, [2.0, 2.02], [1.0, 1.0], 2.01, "slower"),
    ],
)
def test_slower_is_what_is_more_than_noise(
    metric: Metric, now: list[float], then: list[float], ratio: float, verdict: str
) -> None:
    (change,) = changes(metric, now, then)
    assert (change["contender"], change["rounds"]) == (OURS, len(now))
    assert change["ratio"] == pytest.approx(ratio)
    assert change["low"] <= change["ratio"] <= change["high"]
    assert change["verdict"] == verdict


def test_of_equals_few_are_called_slower() -> None:
    draw = random.Random(3)

    def noisy() -> list[float]:
        return [draw.lognormvariate(0, 0.1) for _ in range(3)]

    verdicts = [changes(TIME, noisy(), noisy())[0]["verdict"] for _ in range(2000)]
    assert verdicts.count("slower") < 40


def test_a_round_that_failed_on_either_side_does_not_count() -> None:
    asked = OLDER.ask(question(TIME))
    found = samples("time", [1.0, 2.0, 3.0], [])
    found.figures["", TWIN] = [None, {"time": 1.0}, {"time": 0.0}]
    (change,) = against.changes(asked, found, OLDER)
    assert (change["ratio"], change["rounds"]) == (2.0, 1)
    del found.figures["", TWIN]
    assert against.changes(asked, found, OLDER) == []


def test_what_is_slower_is_listed_below_the_table() -> None:
    found = found_out("it", question(TIME), samples("time", [1.0], [1.0]))
    found["questions"]["it"]["changes"] = changes(TIME, [2.0, 2.0, 2.01], [1.0, 1.0, 1.0])
    text = report.changes(found)
    assert (
        "| Title: time | hybridexec | 2.00 ms | 1.00 | 2.00× | 1.98 to 2.03 | 3 | **slower** |"
        in text
    )
    assert text.endswith("\nSlower by more than noise: 1 of 1 figures.\n- Title: time, hybridexec")


def test_a_twins_curve_is_not_judged() -> None:
    asked, found = curve(1.0, 10.0, 100.0)
    for (case, _), figures in list(found.figures.items()):
        found.figures[case, TWIN] = figures
    ours, twins = judge.slopes(OLDER.ask(asked), found)
    assert (ours.verdict, twins.verdict) == ("superlinear", "")


@pytest.fixture
def old_project(tmp_path, monkeypatch) -> Path:
    """A project whose only commit has a library that sleeps before it does anything."""
    git = ["git", "-C", str(tmp_path), "-c", "user.name=x", "-c", "user.email=x@y"]
    package = tmp_path / "hybridexec"
    package.mkdir()
    (package / "__init__.py").write_text(
        "import time\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "class HybridExecutor(ThreadPoolExecutor):\n"
        "    def submit(self, *args):\n"
        "        time.sleep(0.01)\n"
        "        return super().submit(*args)\n"
    )
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "hybridexec"\nversion = "0"\n'
        '[build-system]\nrequires = ["hatchling"]\nbuild-backend = "hatchling.build"\n'
    )
    for name in ("benchmarks", "examples"):
        (tmp_path / name).symlink_to(against.ROOT / name)
    for command in ("init -q", "add hybridexec pyproject.toml", "commit -q -m Slow"):
        subprocess.run([*git, *command.split()], check=True)
    monkeypatch.setattr(against, "ROOT", tmp_path)
    monkeypatch.setattr(against, "_others", dict)
    return tmp_path


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_an_older_commit_is_installed_and_measured_beside_us(
    old_project: Path, tmp_path_factory, monkeypatch, capsys
) -> None:
    out = tmp_path_factory.mktemp("out")
    monkeypatch.setattr("benchmarks.__main__.OUT", out)
    arguments = ["--smoke", "--rounds", "3", "--out", str(out), "--against", "HEAD", "round_trip"]
    main(arguments)
    document = json.loads((out / "results.json").read_text())
    found = document["questions"]["round_trip"]
    name, subject = document["against"].values()
    assert subject == "Slow"
    assert not any("commit" in note for note in found["notes"])
    slow = [each for each in found["samples"] if each["contender"] == name]
    assert len(slow) == 2  # cases
    assert all(figures["p50"] > 10_000 for each in slow for figures in each["rounds"])  # µs
    assert {each["verdict"] for each in found["changes"]} <= {"faster", ""}
    assert f"## Against {name}" in capsys.readouterr().out
    # Again: it is there.
    installed = next((out / "against").iterdir()) / "installed"
    before = installed.stat().st_mtime_ns
    against.install("HEAD", out / "against")
    assert installed.stat().st_mtime_ns == before


@pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
def test_a_commit_that_is_not_there_is_refused_by_name(tmp_path) -> None:
    with pytest.raises(SystemExit, match="no-such-commit"):
        main(["--smoke", "--against", "no-such-commit", "--out", str(tmp_path), "round_trip"])


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

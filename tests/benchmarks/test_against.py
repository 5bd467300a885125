"""What has become slower since an older commit is told from noise."""

from __future__ import annotations

import json
import math
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from made_up import RATE, TIME, curve, found_out, question, samples

from benchmarks.__main__ import main
from benchmarks.harness import against, judge, report, rounds
from benchmarks.harness.question import OURS, Metric
from benchmarks.harness.rounds import HERE, Python
from benchmarks.questions import QUESTIONS, load

OLDER = against.Older("0123456789abcdef", "Be older", Python("old/bin/python", "old/run"))
TWIN = "commit 0123456789"


@pytest.mark.parametrize("name", QUESTIONS)
def test_whoever_is_us_has_an_older_twin_beside_it(name: str) -> None:
    asked = load(name).QUESTION
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

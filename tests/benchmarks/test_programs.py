"""The commands: a run, what is published of it, the soak."""

from __future__ import annotations

import contextlib
import json
import re
import subprocess
import sys

import pytest
from made_up import RATE, found_out, question, samples

from benchmarks import publish, soak
from benchmarks.__main__ import main
from benchmarks.harness.question import OURS
from benchmarks.questions import QUESTIONS, load


@pytest.mark.slow
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


def test_figures_are_published_between_the_markers_and_nowhere_else(tmp_path) -> None:
    readme, page = tmp_path / "README.md", tmp_path / "docs" / "benchmarks.md"
    page.parent.mkdir()
    short, detailed = (
        f"{publish.BEGIN.format(what)}\nold\n{publish.END.format(what)}"
        for what in (publish.SUMMARY, publish.DETAILS)
    )
    readme.write_text(f"before\n\n{short}\n\nafter\n")
    page.write_text(f"before\n\n{short}\n\nmethod\n\n{detailed}\n\nafter\n")
    asked = question(RATE, contenders=(OURS, "peer"))
    document = found_out("submit_throughput", asked, samples("rate", [9.0], [1.0]))
    for _ in range(2):  # again, and nothing changes
        publish.publish(document, tmp_path)
        texts = [readme.read_text(), page.read_text()]
        for text in texts:
            assert text.startswith("before\n\n<!-- ")
            assert text.endswith(" -->\n\nafter\n")
            assert "old" not in text
            assert "| no-op `submit` → result, calls/s | 9.00 |" in text
        opening, details = texts[1].split("\nmethod\n")
        for part, shown in ((opening, "headline"), (details, "submit_throughput")):
            (picture,) = re.findall(r"!\[.*\]\((.*)\)", part)
            assert picture == f"_static/benchmarks/{shown}.svg"
            assert (tmp_path / "docs" / picture).exists()


def test_what_is_published_is_measured() -> None:
    assert set(publish.PLOTTED) <= set(QUESTIONS)
    for name, key, case, _ in (*publish.LINES, *publish.PARTS):
        asked = load(name).QUESTION
        assert key in {metric.key for metric in asked.metrics}
        assert case in asked.asked("quick")[0]
    assert set(publish.COLUMNS) <= {
        each for name in QUESTIONS for each in load(name).QUESTION.contenders
    }


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

"""Measurements come in rounds, and figures are judged and shown rightly."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from made_up import RATE, TIME, curve, found_out, question, samples

from benchmarks.harness import judge, plots, report, rounds
from benchmarks.harness.question import OURS, Metric, Target
from benchmarks.questions import QUESTIONS, load


def test_a_failed_measurement_says_why() -> None:
    figures, reason = rounds.measure(
        "round_trip", "nobody", "", {"calls": 1}, rounds.PATIENCE["smoke"]
    )
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


def test_the_targets_name_the_peer_that_is_the_hardest() -> None:
    asked = question(
        RATE, Target("rate", 2.0, ("peer", "other")), contenders=(OURS, "peer", "other")
    )
    found = samples("rate", [30.0], [10.0])
    found.figures["", "other"] = [{"rate": 20.0}]
    (line,) = report.targets(found_out("speed", asked, found)).splitlines()[2:]
    assert line == "| Title | 30.0 calls/s | other: 20.0 | 1.50× | ≥ 2× | not met (-25 %) |"


def test_a_headline_shows_whom_it_is_asked_for_of_what_was_measured(tmp_path) -> None:
    asked = question(RATE, contenders=(OURS, "peer"), sizes={"smoke": {"calls": 1000}})
    document = found_out("speed", asked, samples("rate", [9.0], [1.0]))
    parts = [plots.Part("speed", "rate", "", "{calls:,} calls"), plots.Part("size", "", "", "")]
    plots.headline(document, parts, [OURS], tmp_path / "headline.svg")
    drawn = (tmp_path / "headline.svg").read_text()
    assert f">{OURS}</text>" in drawn
    assert ">1,000 calls, calls/s</text>" in drawn
    assert "peer" not in drawn
    plots.headline(document, parts[1:], [OURS], tmp_path / "none.svg")
    assert not (tmp_path / "none.svg").exists()


def test_plots_are_small_and_say_who_is_who(tmp_path) -> None:
    plots.draw(found_out("bars", question(RATE), samples("rate", [9.0], [1.0])), tmp_path)
    plots.draw(found_out("lines", *curve(5.0, 4.0, 4.5)), tmp_path)
    for name in ("bars", "lines"):
        drawn = (tmp_path / f"{name}.svg").read_text()
        assert f">{OURS}</text>" in drawn
        assert len(drawn) < 40_000


@pytest.mark.parametrize(
    ("value", "text"),
    [(123456.0, "123,000"), (12.345, "12.3"), (0.012345, "0.0123"), (0.0, "0"), (-55.84, "-55.8")],
)
def test_figures_have_three_digits_that_count(value: float, text: str) -> None:
    assert report.figure(value) == text


@pytest.mark.parametrize("name", QUESTIONS)
def test_each_line_of_a_curve_has_a_colour(name: str) -> None:
    asked = load(name).QUESTION
    ours = [each for each in asked.contenders if each.startswith(OURS)]
    if asked.axis:
        assert len(ours) <= len(plots.OUR_COLOURS)
        assert len(asked.contenders) - len(ours) <= len(plots.PEER_COLOURS)

"""Every question measures, in its smallest form, and is told of what it has."""

from __future__ import annotations

import pytest

from benchmarks.harness import rounds
from benchmarks.harness.question import OURS
from benchmarks.questions import QUESTIONS, load

PATIENCE = rounds.PATIENCE["smoke"]


@pytest.mark.slow
@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_measures_us(name: str) -> None:
    asked = load(name).QUESTION
    case = asked.cases[0]
    figures, reason = rounds.measure(name, OURS, case, asked.sizes["smoke"], PATIENCE)
    assert reason == ""
    assert figures is not None
    assert set(figures) == {metric.key for metric in asked.metrics}


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("name", QUESTIONS)
def test_every_question_measures_everybody_in_every_case(name: str) -> None:
    asked = load(name).QUESTION
    # The points of a curve are large; its contenders are tried by the first of them.
    for case in asked.cases[:1] if asked.axis else asked.cases:
        for contender in asked.contenders:
            _, reason = rounds.measure(name, contender, case, asked.sizes["smoke"], PATIENCE)
            assert reason == "" or reason.endswith("is not installed"), contender


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_question_names_only_what_it_has(name: str) -> None:
    asked = load(name).QUESTION
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
    asked = load(name).QUESTION
    cases, contenders = asked.asked("quick")
    for target in asked.targets:
        assert {target.ours, *target.against} <= set(contenders)
        assert set(target.cases or asked.cases) & set(cases)
    assert not asked.axis or len(cases) > 1

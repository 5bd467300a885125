"""Deadlines that a worker does not keep: what is done, and when."""

from __future__ import annotations

import pytest

from hybridexec.parent.pool.deadlines import HUB_LATE, Deadlines, Step

from ..simulation import Page

GRACE = 0.75
STARTED = 100.0
TIMEOUT = 2.0
DEADLINE = STARTED + TIMEOUT
#: When a call that is late is interrupted, and when it is given up; a moment later, to be sure.
INTERRUPT = DEADLINE + GRACE / 3 + 1e-6
END = DEADLINE + GRACE + 1e-6


def page(*calls: int, current: int = 0, heartbeat: float = 1e6) -> Page:
    """These calls run since ``STARTED``."""
    made = Page()
    made.started = dict.fromkeys(calls, STARTED)
    made.current = current
    made.heartbeat = heartbeat
    return made


def deadlines(*calls: int) -> Deadlines:
    made = Deadlines(GRACE)
    for call in calls:
        made.add(call, TIMEOUT, STARTED)
    return made


def test_without_calls_there_is_nothing_to_look_at() -> None:
    made = deadlines()
    assert not made
    assert made.look_at == float("inf")
    assert list(made.look(page(), END)) == []
    assert made.look_at == float("inf")


def test_a_call_in_time_is_left_alone() -> None:
    made = deadlines(1)
    assert made
    assert made.look_at == pytest.approx(DEADLINE + GRACE / 3)
    assert list(made.look(page(1), DEADLINE)) == []
    assert made.look_at == pytest.approx(DEADLINE + GRACE / 3)


def test_a_call_that_has_not_started_has_all_its_time_before_it() -> None:
    made = deadlines(1)
    assert list(made.look(page(), 1000.0)) == []
    assert DEADLINE < made.look_at <= 1000.0 + TIMEOUT + GRACE / 3


def test_the_next_look_is_at_the_soonest_of_all() -> None:
    made = deadlines(1)
    made.add(2, 0.5, STARTED)
    assert made.look_at == pytest.approx(STARTED + 0.5 + GRACE / 3)
    made.remove(2)
    assert list(made.look(page(1), STARTED + 1)) == []
    assert made.look_at == pytest.approx(DEADLINE + GRACE / 3)


def test_a_late_call_is_interrupted_once_then_costs_its_worker() -> None:
    made = deadlines(1)
    assert list(made.look(page(1), INTERRUPT)) == [(1, Step.INTERRUPT)]
    assert INTERRUPT < made.look_at <= INTERRUPT + GRACE
    assert list(made.look(page(1), INTERRUPT + 0.01)) == []
    assert list(made.look(page(1), END)) == [(1, Step.KILL)]


def test_a_call_first_seen_long_after_its_time_gets_both_steps() -> None:
    made = deadlines(1)
    assert list(made.look(page(1), END)) == [(1, Step.INTERRUPT), (1, Step.KILL)]


def test_what_keeps_the_hub_costs_its_worker() -> None:
    made = deadlines(1)
    steps = list(made.look(page(1, current=1, heartbeat=STARTED), END))
    assert steps[-1] == (1, Step.KILL)


@pytest.mark.parametrize("current", [0, 2])
def test_the_victim_of_another_that_keeps_the_hub_is_given_up(current: int) -> None:
    made = deadlines(1)
    steps = list(made.look(page(1, 2, current=current, heartbeat=STARTED), END))
    assert steps[-1] == (1, Step.ABANDON)


@pytest.mark.parametrize(
    ("late", "step"), [(HUB_LATE - 0.01, Step.KILL), (HUB_LATE + 0.01, Step.ABANDON)]
)
def test_a_hub_that_has_shown_itself_lately_is_free(late: float, step: Step) -> None:
    made = deadlines(1)
    assert list(made.look(page(1, heartbeat=END - late), END))[-1] == (1, step)


def test_a_call_that_is_gone_is_forgotten() -> None:
    made = deadlines(1, 2)
    assert len(list(made.look(page(1, 2), INTERRUPT))) == 2
    made.remove(1)
    made.remove(1)
    assert list(made.look(page(1, 2), END)) == [(2, Step.KILL)]
    made.remove(2)
    assert not made


def test_a_call_that_comes_back_has_a_new_deadline_and_is_interrupted_anew() -> None:
    made = deadlines(1)
    assert list(made.look(page(1), INTERRUPT)) == [(1, Step.INTERRUPT)]
    made.remove(1)
    made.add(1, TIMEOUT, INTERRUPT)
    again = page(1)
    again.started = {1: INTERRUPT}
    assert list(made.look(again, END)) == []
    later = INTERRUPT + TIMEOUT + GRACE / 3 + 1e-6
    assert list(made.look(again, later)) == [(1, Step.INTERRUPT)]


def test_calls_may_be_removed_while_they_are_looked_at() -> None:
    made = deadlines(1, 2, 3)
    seen = []
    for call, step in made.look(page(1, 2, 3, heartbeat=STARTED), END):
        seen.append((call, step))
        if step is Step.ABANDON:
            made.remove(call)
    assert [call for call, step in seen if step is Step.ABANDON] == [1, 2, 3]
    assert not made


def test_a_victim_that_goes_on_costs_the_worker_a_grace_after_the_hub_got_to_it() -> None:
    made = deadlines(1)
    kept = page(1, current=2, heartbeat=STARTED)
    assert list(made.look(kept, END)) == [(1, Step.INTERRUPT), (1, Step.ABANDON)]
    assert list(made.abandoned) == [1]
    for n in range(1, 4):  # as long as the hub is kept
        assert made.look_at == pytest.approx(END + n * GRACE)
        assert list(made.look(kept, END + n * GRACE + 1e-6)) == [(1, Step.ABANDON)]
    free = END + 4 * GRACE + 1e-5
    assert list(made.look(page(1), free)) == []
    assert made.look_at == pytest.approx(free + GRACE)
    assert list(made.look(page(1), free + GRACE - 0.01)) == []
    assert list(made.look(page(1), free + GRACE + 1e-6)) == [(1, Step.KILL)]


def test_a_cancelled_call_keeps_its_deadline() -> None:
    made = deadlines(1)
    made.cancel(1, None)
    assert list(made.look(page(1), STARTED + 0.1)) == []
    assert [step for _, step in made.look(page(1), STARTED + 1)] == [Step.REPORT]
    assert list(made.look(page(1), INTERRUPT)) == [(1, Step.INTERRUPT)]
    assert made.look_at == pytest.approx(DEADLINE + GRACE)
    assert list(made.look(page(1), END)) == [(1, Step.KILL)]


def test_a_cancelled_call_that_goes_on_is_reported_once() -> None:
    made = deadlines()
    made.cancel(1, ("a",))
    assert made
    assert made.look_at == 0.0  # at once, to see when that was
    assert list(made.look(page(1, 2), 200.0)) == []
    assert made.look_at == pytest.approx(200.0 + GRACE)
    assert list(made.look(page(1, 2), 200.0 + GRACE / 2)) == []
    assert made.look_at == pytest.approx(200.0 + GRACE)
    assert not made.abandoned
    assert list(made.look(page(1, 2), 200.0 + GRACE)) == [(1, Step.REPORT)]
    assert made.abandoned == {1: ("a",)}
    assert not made  # there is nothing to look at any more
    assert made.look_at == float("inf")
    assert list(made.look(page(1, 2), 300.0)) == []
    made.remove(1)
    assert not made.abandoned


def test_a_cancelled_call_that_ends_in_time_is_not_reported() -> None:
    made = deadlines()
    made.cancel(1, None)
    assert list(made.look(page(1), 200.0)) == []
    made.remove(1)
    assert not made
    assert list(made.look(page(), 201.0)) == []
    assert not made.abandoned


def test_a_call_that_starts_though_it_was_cancelled_is_reported() -> None:
    made = deadlines()
    made.cancel(1, None)
    assert list(made.look(page(), 200.0)) == []
    assert made.look_at == pytest.approx(200.0 + GRACE)
    assert list(made.look(page(1), 201.0)) == []
    assert list(made.look(page(1), 201.0 + GRACE)) == [(1, Step.REPORT)]


def test_the_grace_is_kept_to() -> None:
    made = Deadlines(9.0)
    made.add(1, TIMEOUT, STARTED)
    # The interrupt does not wait for a third of so long a grace.
    assert list(made.look(page(1), DEADLINE + 0.2)) == []
    assert list(made.look(page(1), DEADLINE + 0.3)) == [(1, Step.INTERRUPT)]
    assert list(made.look(page(1), DEADLINE + 8.9)) == []
    assert list(made.look(page(1), DEADLINE + 9.1)) == [(1, Step.KILL)]

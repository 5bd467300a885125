"""Deadlines that a worker does not keep, and cancelled calls that go on: what is done, and when."""

from __future__ import annotations

import signal

import pytest

from hybridexec.errors import ExecutorBroken
from hybridexec.events import CallsAbandoned
from hybridexec.parent.pool.deadlines import HUB_LATE, Deadlines, Step
from hybridexec.parent.work.batch import LOST
from hybridexec.wire import messages
from hybridexec.wire.page import SHARED

from ..fakes import Sink
from ..simulated_worker import Page
from .situations import GRACE, late, running

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


def test_where_calls_share_the_cpu_none_is_a_victim_of_another() -> None:
    made = deadlines(1)
    blocked = page(1, 2, heartbeat=END - HUB_LATE - 0.01, current=SHARED)
    assert list(made.look(blocked, END))[-1] == (1, Step.KILL)


def test_where_calls_share_the_cpu_all_whose_time_is_up_end_with_the_first() -> None:
    made = deadlines(1, 2, 3)
    shared = page(1, 2, 3, current=SHARED)
    shared.started = {1: STARTED, 2: STARTED + 0.01, 3: END}
    steps = list(made.look(shared, END))
    assert {call for call, step in steps if step is Step.KILL} == {1, 2}


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


# -- in the pool ------------------------------------------------------------------------------


def test_a_late_call_is_interrupted_before_its_worker_is_killed() -> None:
    simulation = late(traced=True, hog=None)
    simulation.turn(1.01)
    assert not simulation.heads(messages.Expire)
    simulation.turn(0.3)
    assert len(simulation.heads(messages.Expire)) == 3
    assert not simulation.kills
    simulation.read(1)
    simulation.hear(1)
    assert simulation.sink.statuses().count(messages.TIMED_OUT) == 2  # the odd one swallows it
    simulation.turn(0.5)
    (kill,) = simulation.kills
    assert (kill.worker, kill.signal) == (1, signal.SIGKILL)
    simulation.turn(0.1)
    assert len(simulation.kills) == 1
    simulation.finish()
    assert simulation.sink.statuses() == [messages.VALUE] + [messages.TIMED_OUT] * 3


def test_the_pool_looks_at_deadlines_in_time() -> None:
    simulation = late(traced=True)
    seconds = simulation.pool.wait_seconds(simulation.now)
    assert seconds is not None
    assert 1.0 < seconds < 1.0 + GRACE
    simulation.finish()
    assert simulation.pool.wait_seconds(simulation.now) is None


def test_victims_of_another_are_given_up_and_their_worker_lives() -> None:
    simulation = late(traced=False)
    batch = simulation.batches[-1]
    simulation.turn(2.0)
    assert not simulation.kills
    assert simulation.sink.statuses() == [messages.VALUE] + [messages.TIMED_OUT] * 3
    assert simulation.pool.ledger.unfinished == 0
    # Their runs go on, and their function is needed as long.
    assert batch.remaining == 3
    assert not simulation.heads(messages.Forget)
    simulation.run(lambda: not simulation.at)
    assert batch.remaining == 0
    assert len(simulation.heads(messages.Forget)) == 1
    simulation.finish()


def test_what_the_pool_broke_is_not_given_up_again() -> None:
    simulation = late(traced=False)
    simulation.pool.fail(ExecutorBroken("no workers"))
    simulation.turn(2.0)
    assert simulation.sink.statuses() == [messages.VALUE] + [LOST] * 3
    simulation.die(1)
    assert simulation.pool.finished


@pytest.mark.parametrize("how", ["one by one", "a closed stream", "all", "left to run on"])
@pytest.mark.parametrize("retries", [0, 3])
def test_the_deadline_of_a_cancelled_call_holds(how: str, retries: int) -> None:
    simulation = late(traced=True, hog=None, size=4, retries=retries)
    batch = simulation.batches[-1]
    if how == "one by one":
        for place in range(4):
            simulation.cancel(batch, (place,), running=True)
    elif how == "all":
        simulation._event(simulation.pool.cancel_all, Sink())
    else:
        simulation.cancel(batch, None, running=how == "a closed stream")
    simulation.read(1)
    simulation.hear(1)  # those with even numbers end; the others swallow it
    simulation.turn(1.01 + GRACE / 3)
    simulation.read(1)
    simulation.hear(1)
    assert not simulation.kills
    simulation.turn(GRACE)
    assert [kill.worker for kill in simulation.kills] == [1]
    simulation.die(1)
    assert not simulation.pool.crews["greenlet"].retries.count
    assert batch.remaining == 0
    if how != "all":
        simulation.finish()


def test_a_cancelled_call_with_a_deadline_does_not_keep_the_pool_from_ending() -> None:
    simulation = late(traced=True, hog=None, size=2)
    simulation.cancel(simulation.batches[-1], None, running=True)
    simulation.shutdown(cancel_unstarted=True)
    simulation.read(1)
    simulation.hear(1)
    assert not simulation.pool.finished
    assert simulation.pool.wait_seconds(simulation.now) is not None
    simulation.turn(1.01 + GRACE)
    assert [kill.worker for kill in simulation.kills] == [1]
    simulation.die(1)
    assert simulation.pool.finished
    assert len(simulation.workers) == 0


def test_cancelled_calls_that_go_on_are_told_of_once_by_name() -> None:
    simulation = running(slots=4, grace=GRACE)
    batch = simulation.submit(4)
    simulation.turn()
    simulation.take(1, 4)
    simulation.cancel(batch, None, running=True)
    assert simulation.pool.wait_seconds(simulation.now) == 0.0
    simulation.turn()
    assert simulation.pool.wait_seconds(simulation.now) == pytest.approx(GRACE)
    simulation.read(1)
    simulation.hear(1)
    simulation.turn(GRACE + 0.01)
    odd = [
        n for n, call in enumerate(range(batch.first, batch.first + 4), batch.offset) if call % 2
    ]
    (said,) = simulation.account.those(CallsAbandoned)
    assert said.pid == simulation.workers[1].pid
    assert said.calls == tuple(f"{batch.function.name}({n})" for n in odd)
    assert said.count == len(odd)
    worker = simulation.pool.workers[1]
    assert len(worker.deadlines.abandoned) == 2
    assert simulation.pool.wait_seconds(simulation.now) is None
    simulation.turn(60)
    assert len(simulation.account.those(CallsAbandoned)) == 1
    simulation.answer(1)
    assert not worker.deadlines.abandoned
    simulation.finish()
    assert not simulation.kills


def test_a_call_that_is_left_to_run_on_keeps_its_deadline() -> None:
    simulation = late(traced=True, size=1)
    simulation.cancel(simulation.batches[-1], None, running=False)
    simulation.turn(2.0)
    simulation.die(1)
    assert simulation.sink.got[1][1] == messages.TIMED_OUT
    simulation.finish()

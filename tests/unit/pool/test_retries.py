"""Failed calls that are tried again: which, when, in which order, and that none is forgotten."""

from __future__ import annotations

import heapq
import weakref
from typing import Any

import pytest

from hybridexec.options import INITIAL_BACKOFF
from hybridexec.parent.pool.retries import MAX_BACKOFF, Retries, delay
from hybridexec.parent.work.batch import Batch
from hybridexec.wire import messages

from ..fakes import FUNCTION, OPTIONS, Sink, cancel, is_gone, watched
from ..simulation import Simulation
from .situations import running


def batch(size: int = 5) -> Batch:
    return Batch(FUNCTION, [(n,) for n in range(size)], Sink(), OPTIONS, 0)


@pytest.mark.parametrize(("retry", "longest"), [(1, 0.1), (2, 0.2), (3, 0.4), (8, 12.8)])
def test_each_wait_is_twice_as_long_less_up_to_a_half(retry: int, longest: float) -> None:
    assert delay(0.1, retry, lambda: 0.0) == pytest.approx(longest / 2)
    assert delay(0.1, retry, lambda: 0.5) == pytest.approx(longest * 0.75)
    assert delay(0.1, retry, lambda: 1.0) == pytest.approx(longest)


@pytest.mark.parametrize("backoff", [0.1, 60.0, 1e308])
@pytest.mark.parametrize("retry", [20, 65, 1000, 10**9])
def test_no_wait_is_longer_than_the_limit(backoff: float, retry: int) -> None:
    assert delay(backoff, retry, lambda: 1.0) == MAX_BACKOFF


def test_no_backoff_is_no_wait() -> None:
    assert delay(0, 1, lambda: 1.0) == 0
    assert delay(0, 1000, lambda: 1.0) == 0


def test_another_thread_may_ask_what_is_due_meanwhile(monkeypatch: pytest.MonkeyPatch) -> None:
    retries = Retries()
    push = heapq.heappush
    told: list[float | None] = []

    def push_when_asked(*arguments: Any) -> None:
        told.append(retries.next_due)
        push(*arguments)
        told.append(retries.next_due)

    monkeypatch.setattr(heapq, "heappush", push_when_asked)
    retries.add(batch(), 0, 3.0)
    assert told == [None, None]
    assert retries.next_due == 3.0


def test_calls_are_handed_out_when_they_are_due_the_soonest_first() -> None:
    retries, calls = Retries(), batch()
    for place, due in ((0, 3.0), (1, 1.0), (2, 2.0), (3, 1.0)):
        retries.add(calls, place, due)
    assert retries.count == 4
    assert retries.next_due == 1.0
    assert retries.take(0.9) == []
    assert retries.take(2.0) == [(calls, 1), (calls, 3), (calls, 2)]
    assert retries.count == 1
    assert retries.next_due == 3.0
    assert retries.take(3.0) == [(calls, 0)]
    assert retries.next_due is None


def test_a_cancelled_call_is_never_handed_out() -> None:
    retries, calls, others = Retries(), batch(), batch()
    for place in range(3):
        retries.add(calls, place, 1.0)
    retries.add(others, 0, 1.0)
    cancel(retries, calls, 0, 2)
    assert retries.count == 2
    assert retries.take(1.0) == [(calls, 1), (others, 0)]


def test_nothing_is_due_when_all_were_cancelled() -> None:
    retries, calls = Retries(), batch()
    retries.add(calls, 0, 1.0)
    cancel(retries, calls, 0)
    assert retries.count == 0
    assert retries.next_due is None
    assert retries.take(5.0) == []


def test_a_call_may_wait_again_after_it_was_handed_out() -> None:
    retries, calls = Retries(), batch()
    retries.add(calls, 0, 1.0)
    assert retries.take(1.0) == [(calls, 0)]
    retries.add(calls, 0, 2.0)
    assert retries.take(1.5) == []
    assert retries.take(2.0) == [(calls, 0)]


def test_clearing_hands_out_all_but_the_cancelled() -> None:
    retries, calls = Retries(), batch()
    for place in range(4):
        retries.add(calls, place, 10.0**place)
    cancel(retries, calls, 2)
    assert retries.clear() == [(calls, 0), (calls, 1), (calls, 3)]
    assert retries.count == 0
    assert retries.clear() == []


def test_a_cancelled_retry_is_let_go() -> None:
    made, batch = Retries(), watched()
    seen = weakref.ref(batch)
    made.add(batch, 0, 1e9)
    cancel(made, batch, 0)
    del batch
    assert is_gone(seen)


# -- in the pool ------------------------------------------------------------------------------


def failing(**options: Any) -> tuple[Simulation, Batch]:
    """A worker runs a call that may be tried again."""
    simulation = running(random=lambda: 1.0)
    batch = simulation.submit(1, retries=2, backoff=1.0, **options)
    simulation.turn()
    simulation.take(1)
    return simulation, batch


def fail_once(simulation: Simulation) -> None:
    simulation.answer(1, status=messages.RETRIABLE)


def test_a_failed_call_is_tried_again_when_its_time_has_come() -> None:
    simulation, batch = failing()
    fail_once(simulation)
    assert (simulation.pool.crews["greenlet"].retries.count, simulation.pool.pending) == (1, 0)
    assert simulation.pool.wait_seconds(simulation.now) == pytest.approx(1.0)
    simulation.turn(0.5)
    assert simulation.calls_at(1) == []
    simulation.turn(0.6)
    assert simulation.calls_at(1) == [1]
    simulation.take(1)
    fail_once(simulation)
    assert simulation.pool.wait_seconds(simulation.now) == pytest.approx(2.0)
    simulation.turn(2.1)
    simulation.take(1)
    fail_once(simulation)
    (_, status, _, _, _, history) = simulation.sink.got[1]
    assert status == messages.ERROR
    assert history is not None
    assert history.texts == ["Error: it failed"] * 2
    assert not batch.remaining


def test_a_worker_may_say_when_a_call_is_to_be_tried_again() -> None:
    simulation, batch = failing()
    simulation.workers[1].answer(batch.first, messages.RETRIABLE, seconds=7.0)
    simulation.hear(1)
    assert simulation.pool.wait_seconds(simulation.now) == pytest.approx(7.0)
    simulation.turn(7.1)
    assert simulation.calls_at(1) == [1]
    simulation.take(1)
    fail_once(simulation)
    assert simulation.pool.wait_seconds(simulation.now) == pytest.approx(2.0)
    simulation.finish()


def test_after_a_timeout_the_wait_is_as_initially_if_backoff_is_not_asked() -> None:
    assert delay(lambda error, attempt: 9.0, 1, lambda: 1.0) == INITIAL_BACKOFF


def test_others_run_while_a_call_waits_to_be_tried_again() -> None:
    simulation, _ = failing()
    fail_once(simulation)
    simulation.submit(1)
    simulation.turn()
    assert simulation.calls_at(1) == [2]
    simulation.finish()


def test_an_error_of_another_type_ends_the_call() -> None:
    simulation, _ = failing()
    simulation.answer(1, status=messages.ERROR)
    assert simulation.sink.got[1][1] == messages.ERROR
    simulation.finish()


@pytest.mark.parametrize(
    ("retry_on", "retried"), [((Exception,), 1), ((TimeoutError,), 1), ((KeyError,), 0)]
)
def test_a_timeout_is_an_error_like_others(retry_on: Any, retried: int) -> None:
    simulation, _ = failing(timeout=1.0, retry_on=retry_on)
    simulation.answer(1, status=messages.TIMED_OUT)
    assert simulation.pool.crews["greenlet"].retries.count == retried
    simulation.finish()


def test_a_cancelled_call_is_not_tried_again() -> None:
    simulation, batch = failing()
    simulation.cancel(batch, None, running=False)
    fail_once(simulation)
    assert simulation.sink.got[1][1] == messages.ERROR
    simulation.finish()


def test_a_call_is_cancelled_while_it_waits_to_be_tried_again() -> None:
    simulation, batch = failing()
    fail_once(simulation)
    simulation.cancel(batch, None, running=True)
    assert simulation.pool.ledger.unfinished == 0
    assert simulation.pool.wait_seconds(simulation.now) is None
    simulation.turn(5.0)
    assert simulation.calls_at(1) == []
    simulation.finish()


def test_shutdown_waits_for_what_is_to_be_tried_again() -> None:
    simulation, _ = failing()
    fail_once(simulation)
    simulation.shutdown()
    assert not simulation.pool.finished
    simulation.run(lambda: simulation.pool.finished)
    assert simulation.sink.statuses() == [messages.VALUE] * 2


def test_a_retry_is_run_by_a_new_worker_if_the_old_one_is_gone() -> None:
    simulation, _ = failing()
    fail_once(simulation)
    simulation.shutdown()
    simulation.die(1)
    simulation.run(lambda: simulation.pool.finished)
    assert simulation.sink.statuses() == [messages.VALUE] * 2


@pytest.mark.parametrize("kill", [True, False])
def test_what_is_to_be_tried_again_ends_with_the_pool(kill: bool) -> None:
    simulation, _ = failing()
    fail_once(simulation)
    if kill:
        simulation.kill()
    else:
        simulation.shutdown(cancel_unstarted=True)
    (_, status, _, _, _, history) = simulation.sink.got[1]
    assert status == messages.CANCELLED
    assert history is not None
    assert len(history.texts) == 1


def test_nothing_is_tried_again_once_calls_are_to_be_cancelled() -> None:
    simulation, _ = failing()
    simulation.shutdown(cancel_unstarted=True)
    fail_once(simulation)
    assert simulation.sink.got[1][1] == messages.ERROR

"""Which worker is sent which calls, how many a frame holds, and when a worker is asked to say that
its inbox is low."""

from __future__ import annotations

from hybridexec.parent.pool.dispatch import MAX_FRAME
from hybridexec.parent.pool.worker import FIRST_WINDOW, MAX_AHEAD, MAX_WINDOW
from hybridexec.wire import messages

from ..simulation import Simulation
from .situations import running

# -- who gets which call ----------------------------------------------------------------------


def test_calls_are_sent_to_ready_workers_only() -> None:
    simulation = Simulation(max_workers=1)
    simulation.submit()
    simulation.turn()
    simulation.start(1)
    simulation.turn()
    assert not simulation.in_flight
    simulation.ready(1)
    simulation.turn()
    assert simulation.calls_at(1) == [0]


def test_n_calls_land_on_n_workers_one_each_though_one_is_ready_first() -> None:
    simulation = Simulation(max_workers=4, slots=100)
    simulation.submit(4)
    simulation.turn()
    for number in list(simulation.workers):
        simulation.ready(number)
        simulation.turn()
        assert simulation.calls_at(number) == [number - 1]


def test_separate_submits_are_spread_like_one_batch() -> None:
    simulation = Simulation(max_workers=3, slots=100)
    for _ in range(3):
        simulation.submit()
        simulation.turn()
    for number in list(simulation.workers):
        simulation.ready(number)
        simulation.turn()
    assert [len(simulation.calls_at(number)) for number in simulation.workers] == [1, 1, 1]


def test_a_new_worker_gets_its_share_though_its_window_is_still_small() -> None:
    simulation = Simulation(max_workers=2, slots=100)
    simulation.submit(100)
    simulation.turn()
    simulation.ready(1)
    simulation.pool.workers[1].window = 100
    simulation.turn()
    simulation.ready(2)
    simulation.turn()
    assert [len(simulation.calls_at(n)) for n in (1, 2)] == [50, FIRST_WINDOW]
    while len(simulation.calls_at(2)) < 50:
        simulation.take(2, len(simulation.workers[2].inbox) or FIRST_WINDOW)
        simulation.hear(2)
        simulation.turn(0.001)
    assert len(simulation.calls_at(1)) == 50


def test_calls_go_to_the_least_loaded_worker() -> None:
    simulation = running(max_workers=2, slots=10)
    simulation.submit(4)
    simulation.turn()
    assert [len(simulation.calls_at(n)) for n in (1, 2)] == [2, 2]
    simulation.take(1, 2)
    simulation.take(2, 2)
    simulation.answer(2)
    simulation.submit(2)
    simulation.turn()
    assert [len(simulation.calls_at(n)) for n in (1, 2)] == [2, 2]


def one_is_full() -> Simulation:
    """Worker 2 runs ten calls, all it can. Worker 1 has its ten slots free, and a window of two."""
    simulation = running(max_workers=2, slots=10)
    first, second = simulation.pool.workers.values()
    first.window, second.window = 0, 20
    simulation.submit(10)
    simulation.turn()
    simulation.take(2, 10)
    first.window = 2
    return simulation


def test_calls_wait_for_free_slots_if_there_are_enough_of_them() -> None:
    simulation = one_is_full()
    simulation.submit(3)
    simulation.turn()
    assert [len(simulation.calls_at(n)) for n in (1, 2)] == [2, 10]
    assert exchanges(simulation, 2) == 0
    simulation.take(1, 2)
    simulation.hear(1)
    simulation.turn()
    assert [len(simulation.calls_at(n)) for n in (1, 2)] == [3, 10]


def test_slots_count_as_free_while_their_worker_is_asked_to_give_calls_back() -> None:
    simulation = one_is_full()
    simulation.submit(2)
    simulation.turn()
    first = simulation.pool.workers[1]
    first.crew.recall.ask(first, 1)
    simulation.submit()
    simulation.turn()
    assert [len(simulation.calls_at(n)) for n in (1, 2)] == [2, 10]


def test_calls_that_have_no_slot_anywhere_are_sent_ahead() -> None:
    simulation = one_is_full()
    simulation.submit(12)  # two of which worker 1 has no slot for
    simulation.turn()
    assert [len(simulation.calls_at(n)) for n in (1, 2)] == [2, 12]


def test_slots_behind_a_call_that_keeps_the_hub_do_not_count_as_free() -> None:
    simulation = one_is_full()
    call = simulation.submit().first
    simulation.turn()
    simulation.take(1)
    simulation.workers[1].keep_hub(call, traced=True)
    simulation.turn(1.0)
    simulation.pool.workers[1].window = 0
    simulation.submit(2)
    simulation.turn()
    assert [len(simulation.calls_at(n)) for n in (1, 2)] == [1, 12]


def test_no_frame_holds_more_than_its_limit() -> None:
    simulation = running(slots=4 * MAX_FRAME)
    simulation.pool.workers[1].window = MAX_WINDOW
    simulation.submit(4 * MAX_FRAME)
    simulation.turn()
    sizes = [sum(len(span[3]) for span in spans) for *_, spans in simulation.heads(messages.Calls)]
    assert max(sizes) <= MAX_FRAME


# -- large payloads ---------------------------------------------------------------------------


def test_of_heavy_calls_few_wait_in_a_worker_and_more_follow_as_they_are_taken() -> None:
    simulation = running(max_workers=2, slots=100)
    for worker in simulation.pool.workers.values():
        worker.window = worker.ahead = 64
    simulation.submit(100, weight=MAX_AHEAD // 4)
    simulation.turn()
    assert [len(simulation.calls_at(number)) for number in (1, 2)] == [4, 4]
    simulation.take(1, 3)
    simulation.read(1)
    simulation.hear(1)
    simulation.turn()
    assert [len(simulation.calls_at(number)) for number in (1, 2)] == [7, 4]


def test_the_heaviest_calls_are_sent_ahead_too_and_all_may_run_at_once() -> None:
    simulation = running(slots=50)
    simulation.submit(50, weight=10 * MAX_AHEAD)
    simulation.turn()
    for sent in range(2, 50, 2):
        assert len(simulation.calls_at(1)) == sent
        simulation.read(1)
        simulation.take(1, 2)
        simulation.hear(1)
        simulation.turn()
    assert len(simulation.calls_at(1)) == 50


def test_heavy_calls_behind_light_ones_wait_until_few_of_these_do() -> None:
    simulation = running(slots=100)
    simulation.pool.workers[1].window = 64
    simulation.submit(30)
    simulation.submit(30, weight=MAX_AHEAD // 8)
    simulation.turn()
    assert len(simulation.calls_at(1)) == 30
    simulation.read(1)
    simulation.take(1, 28)
    simulation.hear(1)
    simulation.turn()
    assert len(simulation.calls_at(1)) == 36


# -- asking -----------------------------------------------------------------------------------


def test_a_worker_is_asked_to_say_when_its_inbox_is_low_if_calls_are_left_over() -> None:
    simulation = running(slots=10)
    simulation.submit(50)
    simulation.turn()
    assert len(simulation.heads(messages.NotifyLow)) == 1


def test_a_worker_is_not_asked_if_no_calls_are_left_over() -> None:
    simulation = running(slots=10)
    simulation.submit(2)
    simulation.turn()
    assert simulation.heads(messages.Calls)
    assert not simulation.heads(messages.NotifyLow)


def test_a_worker_is_asked_when_calls_are_left_over_later() -> None:
    simulation = running(slots=10)
    simulation.submit(FIRST_WINDOW)
    simulation.turn()
    assert not simulation.heads(messages.NotifyLow)
    simulation.submit(50)
    simulation.turn()
    assert len(simulation.heads(messages.NotifyLow)) == 1


def test_a_worker_is_asked_once_until_it_answers() -> None:
    simulation = running(slots=10)
    simulation.submit(50)
    for _ in range(3):
        simulation.turn()
    assert len(simulation.heads(messages.NotifyLow)) == 1


def test_a_worker_whose_inbox_is_low_gets_more() -> None:
    simulation = running(slots=10)
    simulation.submit(50)
    simulation.turn()
    before = len(simulation.calls_at(1))
    simulation.take(1, before)
    simulation.hear(1)
    simulation.turn()
    assert len(simulation.calls_at(1)) > before


def exchanges(simulation: Simulation, number: int, turns: int = 20) -> int:
    """How many frames go to a worker while nothing happens but that both sides answer."""
    before = len(simulation.in_flight)
    for _ in range(turns):
        simulation.read(number)
        simulation.hear(number)
        simulation.turn(0.001)
    return len(simulation.in_flight) - before


def test_a_worker_whose_slots_are_full_is_not_asked_in_circles() -> None:
    simulation = running(slots=10)
    simulation.submit(100)
    simulation.turn()
    for _ in range(10):
        worker = simulation.workers[1]
        simulation.take(1, min(len(worker.inbox), 10 - len(worker.running)))
        simulation.hear(1)
        simulation.turn(0.1)
    assert len(worker.running) == 10
    assert exchanges(simulation, 1) <= 2


def test_a_worker_that_starts_calls_only_as_others_end_is_not_asked() -> None:
    simulation = running(slots=4)
    worker = simulation.pool.workers[1]
    worker.window = worker.ahead = 20
    simulation.submit(100)
    simulation.turn()
    sent = len(simulation.calls_at(1))
    assert sent > 4
    for _ in range(2):
        simulation.take(1, 4)
        simulation.answer(1)
        simulation.turn()
    assert len(simulation.calls_at(1)) == sent  # eight have ended, and as many were sent
    assert not simulation.heads(messages.NotifyLow)


def test_a_worker_that_waits_for_others_to_start_is_not_asked_in_circles() -> None:
    simulation = Simulation(max_workers=2, slots=10)
    simulation.submit(4)
    simulation.turn()
    simulation.ready(1)
    simulation.turn()
    simulation.take(1, 2)
    assert simulation.pool.pending == 2
    assert exchanges(simulation, 1) <= 2


def test_a_replacement_that_waits_for_slots_is_not_asked_in_circles() -> None:
    simulation = Simulation(max_workers=1, slots=2, budget=2)
    simulation.submit(6)
    simulation.turn()
    simulation.ready(1)
    simulation.turn()
    simulation.take(1, 2)
    simulation.turn()
    simulation.ready(2)
    simulation.turn()
    assert simulation.pool.pending == 4
    assert exchanges(simulation, 2) <= 2


# -- inline calls -----------------------------------------------------------------------------


def test_an_inline_call_is_sent_to_an_idle_worker_at_once_and_has_its_deadline() -> None:
    simulation = running()
    batch, number = simulation.send_inline(timeout=1.0)
    assert number == 1
    assert list(simulation.at) == [batch.first]
    assert simulation.pool.wait_seconds(simulation.now) is not None
    simulation.finish()


def test_no_call_is_inline_beside_others_or_without_a_worker() -> None:
    simulation = running()
    simulation.submit(1)
    assert simulation.send_inline()[1] is None
    simulation = Simulation()
    assert simulation.send_inline()[1] is None
    simulation = running(budget=5)
    assert simulation.send_inline()[1] is None

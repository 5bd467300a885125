"""How far ahead of a worker calls are sent: the window fits the rate at which it takes them."""

from __future__ import annotations

from hybridexec.parent.pool.worker import FIRST_WINDOW, HORIZON, MAX_GUESS, MAX_WINDOW, MIN_WINDOW

from ..simulation import Simulation
from .situations import running


def test_a_new_worker_gets_no_more_than_its_first_window() -> None:
    simulation = Simulation(max_workers=1, slots=100)
    simulation.submit(50)
    simulation.turn()
    simulation.ready(1)
    simulation.turn()
    assert len(simulation.calls_at(1)) == FIRST_WINDOW


def test_a_worker_with_one_slot_gets_few_calls_ahead() -> None:
    simulation = running(slots=1)
    simulation.submit(50)
    simulation.turn()
    for _ in range(10):
        assert len(simulation.calls_at(1)) <= 1 + MIN_WINDOW
        simulation.take(1)
        simulation.turn(0.1)
        simulation.answer(1)
        simulation.turn(0.1)


def test_the_window_grows_for_calls_that_are_taken_fast() -> None:
    simulation = running(slots=400)
    simulation.submit(1000)
    simulation.turn()
    most = 0
    for _ in range(12):
        simulation.read(1)
        most = max(most, len(simulation.workers[1].inbox))
        simulation.take(1, len(simulation.workers[1].inbox))
        simulation.now += 0.001
        simulation.hear(1)
        simulation.turn()
    assert most > 10 * FIRST_WINDOW
    assert simulation.pool.workers[1].window <= MAX_WINDOW


def test_the_window_shrinks_for_calls_that_hog_the_worker() -> None:
    simulation = running(slots=100)
    worker = simulation.pool.workers[1]
    worker.window = 1024
    simulation.submit(5000)
    simulation.turn()
    for _ in range(12):
        simulation.take(1)
        simulation.answer(1)
        simulation.turn(0.5)
    assert worker.window == MIN_WINDOW


def test_a_worker_that_runs_dry_gets_more_next_time_whatever_it_waited_for() -> None:
    simulation = running(slots=1)
    worker, process = simulation.pool.workers[1], simulation.workers[1]
    simulation.submit(5000)
    simulation.turn()
    for _ in range(4):
        before = worker.window
        simulation.now += 10  # it gets to a processor once in a long while only
        simulation.read(1)
        while process.inbox:  # but then it runs all it has
            simulation.take(1)
            process.answer(next(iter(process.running)))
        simulation.hear(1)
        simulation.turn()
        assert worker.window == 2 * before


def test_running_dry_makes_a_window_no_larger_than_a_guess_may_be() -> None:
    simulation = running(slots=1)
    worker, process = simulation.pool.workers[1], simulation.workers[1]
    worker.window = worker.ahead = MAX_GUESS
    simulation.submit(3 * MAX_GUESS)
    simulation.turn()
    simulation.now += 10
    simulation.read(1)
    while process.inbox:
        simulation.take(1)
        process.answer(next(iter(process.running)))
    simulation.hear(1)
    assert worker.window == worker.ahead == MAX_GUESS


def test_the_window_holds_what_a_worker_takes_within_the_horizon_however_much() -> None:
    simulation = running(slots=4 * MAX_GUESS)
    worker = simulation.pool.workers[1]
    worker.window = MAX_GUESS
    simulation.submit(4 * MAX_GUESS)
    simulation.turn()
    simulation.read(1)
    simulation.take(1, MAX_GUESS - 1)
    simulation.now += HORIZON / 2
    simulation.answer(1)
    assert worker.window == 2 * (MAX_GUESS - 1)


def test_results_make_room_for_more_calls() -> None:
    simulation = running(slots=2)
    simulation.submit(50)
    simulation.turn()
    simulation.take(1, 2)
    simulation.turn()
    had = set(simulation.calls_at(1))
    simulation.answer(1)
    simulation.turn()
    assert set(simulation.calls_at(1)) - had

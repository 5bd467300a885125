"""Crews: calls of one lane are nothing to the workers of another."""

from __future__ import annotations

from collections.abc import Iterable

from hybridexec.errors import ExecutorBroken
from hybridexec.parent.pool.pool import Phase
from hybridexec.parent.pool.starts import MAX_FAILED_STARTS
from hybridexec.parent.pool.worker import WorkerState
from hybridexec.parent.work.batch import LOST
from hybridexec.wire import messages

from ..fakes import Sink
from ..simulation import Simulation


def lanes_of(simulation: Simulation, numbers: Iterable[int] | None = None) -> list[str]:
    return [simulation.workers[number].lane for number in numbers or simulation.workers]


def two_lanes(max_workers: int = 2, **options: int) -> Simulation:
    """A pool with all workers of two lanes ready, and no calls."""
    simulation = Simulation(max_workers, 2, **options)
    simulation.submit(2 * max_workers)
    simulation.submit(2 * max_workers, lane="async")
    simulation.turn()
    simulation.ready(*simulation.workers)
    simulation.run(lambda: not simulation.pool.ledger.unfinished)
    simulation.in_flight.clear()
    return simulation


def test_each_lane_has_up_to_max_workers_of_its_own() -> None:
    simulation = two_lanes()
    assert sorted(lanes_of(simulation)) == ["async"] * 2 + ["greenlet"] * 2
    simulation.submit(100, lane="async")
    simulation.turn()
    assert len(simulation.workers) == 4
    simulation.finish()


def test_a_lane_has_no_workers_before_its_first_call() -> None:
    simulation = Simulation()
    simulation.submit(1, lane="async")
    simulation.turn()
    assert lanes_of(simulation) == ["async"]
    assert list(simulation.pool.crews) == ["async"]
    simulation.finish()


def test_all_at_once_is_all_of_a_lane() -> None:
    simulation = Simulation(3, 1, all_at_once=True)
    simulation.submit(1)
    simulation.turn()
    assert lanes_of(simulation) == ["greenlet"] * 3
    simulation.submit(1, lane="thread")
    simulation.turn()
    assert lanes_of(simulation) == ["greenlet"] * 3 + ["thread"] * 3
    simulation.finish()


def test_a_full_lane_keeps_no_other_waiting() -> None:
    simulation = two_lanes(1)
    simulation.submit(100)
    simulation.turn()
    batch = simulation.submit(1, lane="async")
    simulation.turn()
    assert batch.first in simulation.at
    simulation.finish()


def test_idle_workers_of_one_lane_are_not_given_calls_of_another() -> None:
    simulation = two_lanes(1)
    simulation.submit(8)
    simulation.turn()
    (number,) = [n for n, worker in simulation.workers.items() if worker.lane == "greenlet"]
    simulation.take(number)
    for _ in range(50):
        simulation.turn(0.1)
    assert not simulation.heads(messages.Recall)
    simulation.finish()


def test_suspects_stay_in_their_lane() -> None:
    simulation = two_lanes(1)
    simulation.submit(2, lane="async", on_worker_loss="retry")
    simulation.turn()
    (number,) = [n for n, worker in simulation.workers.items() if worker.lane == "async"]
    simulation.take(number, 2)
    simulation.die(number)
    simulation.turn()
    (apart,) = [worker for worker in simulation.pool.workers.values() if worker.quarantine]
    assert apart.crew.lane == "async"
    simulation.finish()


def test_an_inline_call_goes_to_a_worker_of_its_lane() -> None:
    simulation = two_lanes(1)
    for lane in ("greenlet", "async"):
        _, number = simulation.send_inline(lane=lane)
        assert number is not None
        assert simulation.workers[number].lane == lane
        simulation.take(number)
        simulation.answer(number)
    assert simulation.send_inline(lane="thread")[1] is None
    simulation.finish()


def statuses(sink: Sink, calls: range) -> set[int]:
    return {sink.got[call][1] for call in calls}


def fail_starts(simulation: Simulation, lane: str) -> None:
    """Every worker of a lane that is started dies before it is ready."""
    for _ in range(MAX_FAILED_STARTS):
        simulation.turn(100.0)
        starting = [n for n, w in simulation.workers.items() if w.lane == lane and not w.greeted]
        for number in starting:
            simulation.start(number)
            simulation.die(number)


def test_a_lane_that_can_have_no_workers_breaks_alone() -> None:
    simulation = two_lanes(1)
    simulation.submit(3, lane="thread")
    size = simulation.sink.size
    fail_starts(simulation, "thread")
    assert statuses(simulation.sink, range(size - 3, size)) == {LOST}
    assert simulation.pool.phase is Phase.RUNNING
    assert simulation.pool.crews["thread"].broken_because is not None
    assert simulation.pool.ledger.broken_because is None
    simulation.submit(1, lane="thread")
    assert statuses(simulation.sink, range(size, size + 1)) == {LOST}
    simulation.submit(3, lane="async")
    simulation.submit(3)
    simulation.finish()
    assert statuses(simulation.sink, range(size + 1, size + 7)) == {messages.VALUE}


def test_the_last_lane_that_breaks_breaks_the_pool() -> None:
    simulation = Simulation(1, 1)
    simulation.submit(3, lane="thread")
    simulation.submit(3)
    for lane in ("thread", "greenlet"):
        assert simulation.pool.phase is Phase.RUNNING
        fail_starts(simulation, lane)
    assert simulation.pool.phase is Phase.BROKEN
    assert isinstance(simulation.pool.ledger.broken_because, ExecutorBroken)


def test_the_workers_of_a_lane_that_breaks_are_ended_and_no_others() -> None:
    simulation = two_lanes(2)
    simulation.submit(8, lane="async")
    simulation.turn()
    before = {n for n, worker in simulation.workers.items() if worker.lane == "async"}
    number = min(before)
    simulation.fail_to_get_ready(number)
    simulation.die(number)
    assert {kill.worker for kill in simulation.kills} >= before - {number}
    others = [w for w in simulation.pool.workers.values() if w.crew.lane == "greenlet"]
    assert [worker.state for worker in others] == [WorkerState.READY] * 2
    assert not {worker.id for worker in others} & {kill.worker for kill in simulation.kills}
    simulation.submit(4)
    simulation.finish()

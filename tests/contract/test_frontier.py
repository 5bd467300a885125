"""Work that finds more work: crawls, their ends, and how they are gone on with."""

from __future__ import annotations

import threading
import time
from concurrent.futures import CancelledError
from pathlib import Path

import pytest

from hybridexec import Frontier, HybridExecutor, Progress

from .conftest import Make
from .helpers import Gate, run_script, wait_until

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.on_cluster]


def halves(number: int) -> list[int]:
    """A page's links: down to 1 from everywhere."""
    time.sleep(0.001)
    return [number // 2, number // 3] if number > 1 else []


def reach(start: int) -> set[int]:
    found, new = set(), {start}
    while new:
        found |= new
        new = {link for number in new for link in halves(number)} - found
    return found


def test_a_crawl_visits_all_that_can_be_reached_once(executor: HybridExecutor) -> None:
    frontier = Frontier([10_000])
    visited = []
    for outcome in executor.outcomes(halves, frontier):
        visited.append(outcome.item)
        frontier.extend(outcome.value or [])
    assert sorted(visited) == sorted(reach(10_000))
    assert (len(frontier), frontier.seen) == (0, len(visited))


@pytest.mark.parametrize("bound", [1, 3, None])
def test_values_in_order_of_ends(executor: HybridExecutor, bound: int | None) -> None:
    frontier = Frontier([1000])
    results = 0
    for links in executor.map_unordered(halves, frontier, buffersize=bound):
        results += 1
        frontier.extend(links)
    assert results == len(reach(1000))


def test_the_loop_is_not_kept_waiting_for_items_while_calls_run(
    executor: HybridExecutor, gate: Gate
) -> None:
    frontier = Frontier(["slow"])
    results = executor.map_unordered(visit, frontier_of(frontier, gate), star=True)
    assert next(results) == "quick"
    gate.open()
    assert list(results) == ["slow"]


def visit(name: str, gate: Gate) -> str:
    if name == "slow":
        gate.wait(name)
    return name


def frontier_of(names: Frontier[str], gate: Gate) -> Frontier[tuple[str, Gate]]:
    frontier = Frontier([("slow", gate)], key=lambda item: item[0])

    def add() -> None:
        gate.wait_for(1)
        frontier.add(("quick", gate))  # from another thread, while the loop waits

    threading.Thread(target=add).start()
    return frontier


def test_errors_do_not_end_outcomes(executor: HybridExecutor) -> None:
    frontier: Frontier[object] = Frontier([8, "no number"])
    failed = []
    for outcome in executor.outcomes(halves, frontier):
        if outcome.ok:
            frontier.extend(outcome.result())
        else:
            failed.append(outcome.item)
    assert failed == ["no number"]
    assert frontier.seen == 1 + len(reach(8))


def test_a_crawl_that_was_left_goes_on(executor: HybridExecutor) -> None:
    frontier = Frontier([100_000])
    visited = []
    for outcome in executor.outcomes(halves, frontier, buffersize=8):
        visited.append(outcome.item)
        frontier.extend(outcome.result())
        if len(visited) == 20:
            break
    assert len(frontier) > 0
    for outcome in executor.outcomes(halves, frontier):
        visited.append(outcome.item)
        frontier.extend(outcome.result())
    assert sorted(visited) == sorted(reach(100_000))


def test_an_error_that_ends_the_loop_loses_only_its_own_item(executor: HybridExecutor) -> None:
    frontier: Frontier[object] = Frontier([*range(50, 60), "no number"])
    got: list[object] = []
    with pytest.raises(TypeError):
        got.extend(executor.map_unordered(halves, frontier))
    got.extend(executor.map_unordered(halves, frontier))
    assert len(got) == 10


def test_after_cancel_all_nothing_is_lost(make: Make, gate: Gate) -> None:
    executor = make(max_workers=1, concurrency=2)
    frontier = Frontier(range(5))
    results = executor.map_unordered(gate.wait, frontier)
    canceller = threading.Thread(target=lambda: (gate.wait_for(2), executor.cancel_all()))
    canceller.start()
    with pytest.raises(CancelledError):
        next(results)
    canceller.join()
    assert len(frontier) == 5
    gate.open()
    assert sorted(map(int, map(str, executor.map_unordered(gate.wait, frontier)))) == [*range(5)]


def test_a_frontier_left_by_a_shut_down_executor_is_whole(make: Make) -> None:
    executor = make()
    frontier = Frontier(range(5))
    results = executor.map_unordered(halves, frontier)
    executor.submit(halves, 1).result()
    executor.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        next(results)
    assert len(frontier) == 5


def test_a_progress_knows_no_total_before_the_end(executor: HybridExecutor) -> None:
    seen: list[Progress] = []
    frontier = Frontier([1000])
    for links in executor.map_unordered(halves, frontier, progress=seen.append):
        if len(frontier) > 3:
            wait_until(lambda: any(p.done for p in seen))
        frontier.extend(links)
    wait_until(lambda: seen[-1].total == len(reach(1000)))
    assert all(p.total is None for p in seen[:-1])


def test_where_it_is_refused(executor: HybridExecutor) -> None:
    for wrong in (
        lambda: executor.map(halves, Frontier([1])),
        lambda: executor.map(halves, Frontier([1]), buffersize=5),
        lambda: executor.outcomes(pow, Frontier([1]), Frontier([2])),
    ):
        with pytest.raises(TypeError, match="read a Frontier"):
            wrong()
    frontier = Frontier([1, 2, 3])
    results = executor.map_unordered(halves, frontier, buffersize=1)
    next(results)
    with pytest.raises(RuntimeError, match="another loop reads this Frontier"):
        next(executor.map_unordered(halves, frontier))
    assert len(list(results)) == 2


WAITS = """
import logging, queue, sys, threading, time
from hybridexec import HybridExecutor

class Ends(logging.Handler):
    def emit(self, record):
        print(record.getMessage(), flush=True)
        todo.put(None)

def links(number):
    return [number + 1]

def numbers():
    yield 1
    while (number := todo.get()) is not None:  # here
        yield number

if __name__ == "__main__":
    todo = queue.Queue()
    logging.getLogger("hybridexec").addHandler(Ends())
    with HybridExecutor(1) as executor:
        for found in executor.map_unordered(links, numbers()):
            for number in found:
                if number < 5:
                    todo.put(number)
    time.sleep(1)
    print([t.name for t in threading.enumerate()])
"""


@pytest.mark.slow
def test_a_generator_that_waits_for_what_the_loop_finds_is_reported(tmp_path: Path) -> None:
    path = tmp_path / "waits.py"
    out = run_script(path, WAITS).stdout.splitlines()
    line = next(n for n, text in enumerate(WAITS.splitlines(), 1) if "# here" in text)
    assert len(out) == 2
    assert f"({path}:{line}, in numbers)" in out[0]
    assert "hybridexec.Frontier" in out[0]
    assert out[1] == "['MainThread']"

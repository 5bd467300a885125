"""An engine takes calls that are pickled, and hands back what they returned as it was pickled."""

from __future__ import annotations

import os
import pickle
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import CancelledError
from typing import Any

import pytest

from hybridexec import CallTimeout, HybridExecutor, WorkerLost
from hybridexec.options import CallOptions
from hybridexec.wire import payload

from .conftest import Make
from .feeder import Feeder, Outcome, Pickled, error_of, value_of
from .helpers import PATIENCE, Gate, identity, leave, square, wait_until

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.on_cluster]


def _arrive(pickled_in: int, value: Any) -> Sealed:
    assert os.getpid() != pickled_in, "it is unpickled where it is used"
    return Sealed(value, pickled_in)


class Sealed:
    """What must not be unpickled in one process."""

    def __init__(self, value: Any, away_from: int) -> None:
        self.value = value
        self.away_from = away_from

    def __reduce__(self) -> tuple[Any, ...]:
        return _arrive, (self.away_from, self.value)


def negative(sealed: Sealed) -> Sealed:
    return Sealed(-sealed.value, sealed.away_from)


def fail(value: object) -> None:
    raise ValueError(value)


def pickled(value: object) -> Pickled:
    """As it comes from another machine."""
    return pickle.loads(pickle.dumps(payload.flat(payload.dumps(value))))


class Fed:
    """An executor's engine with a feeder, and what has come back."""

    def __init__(self, executor: HybridExecutor) -> None:
        self.outcomes: dict[int, tuple[bool, Pickled]] = {}
        self._came = threading.Condition()
        self.feeder = Feeder(executor._engine, self._take)

    def _take(self, outcomes: Sequence[Outcome]) -> None:
        with self._came:
            for number, returned, what in outcomes:
                assert number not in self.outcomes, "each call ends once"
                self.outcomes[number] = returned, what
            self._came.notify()

    def submit(self, function: Callable[..., Any], values: dict[int, Any], **options: Any) -> None:
        calls = [(number, pickled(((value,), {}))) for number, value in values.items()]
        lasting = payload.travels_by_reference(function)
        known = self.feeder.function(pickled(function), lasting, function.__qualname__)
        self.feeder.submit(known, calls, CallOptions(**options))

    def wait(self, count: int) -> None:
        with self._came:
            assert self._came.wait_for(lambda: len(self.outcomes) == count, PATIENCE)

    def values(self, count: int) -> dict[int, Any]:
        """What so many calls returned, by id."""
        self.wait(count)
        assert all(returned for returned, _ in self.outcomes.values())
        return {number: value_of(what) for number, (_, what) in self.outcomes.items()}

    def error(self, number: int) -> BaseException | None:
        returned, what = self.outcomes[number]
        assert not returned
        return error_of(what)


@pytest.fixture
def fed(executor: HybridExecutor) -> Fed:
    return Fed(executor)


def test_plain_results_are_pickled_here(fed: Fed) -> None:
    fed.submit(square, {1000 + n: n for n in range(500)})
    assert fed.values(500) == {1000 + n: n * n for n in range(500)}


def test_nothing_else_is_unpickled_on_its_way(fed: Fed) -> None:
    calls = {n: Sealed(n, os.getpid()) for n in range(50)}
    fed.submit(negative, calls)
    fed.wait(50)
    for number, (returned, what) in fed.outcomes.items():
        assert returned
        assert isinstance(what, bytes)
        with pytest.raises(AssertionError, match="where it is used"):
            pickle.loads(what)
        assert pickle.loads(what.replace(b"_arrive", b"_opened")) == -number


def _opened(pickled_in: int, value: Any) -> Any:
    return value


def test_a_closure(fed: Fed) -> None:
    factor = 3
    fed.submit(lambda value: factor * value, {n: n for n in range(10)})
    fed.submit(lambda value: factor + value, {10: 10})
    assert fed.values(11) == {**{n: 3 * n for n in range(10)}, 10: 13}


def test_large_arguments_and_results(fed: Fed) -> None:
    large = {n: os.urandom(3 << 20) for n in range(5)}
    fed.submit(identity, large)
    assert fed.values(5) == large


def test_buffers_of_their_own(fed: Fed) -> None:
    fed.submit(memory, dict.fromkeys(range(3), 1 << 20))
    fed.wait(3)
    assert all(isinstance(what, list) for _, what in fed.outcomes.values())
    assert fed.values(3) == dict.fromkeys(range(3), bytearray(1 << 20))


def memory(size: int) -> pickle.PickleBuffer:
    return pickle.PickleBuffer(bytearray(size))


def test_errors(fed: Fed) -> None:
    fed.submit(fail, {7: "seven"})
    fed.submit(square, {8: 8})
    fed.wait(2)
    error = fed.error(7)
    assert isinstance(error, ValueError)
    assert error.args == ("seven",)
    assert "in fail" in str(error.__cause__)
    assert value_of(fed.outcomes[8][1]) == 64


def test_a_timeout(fed: Fed, gate: Gate) -> None:
    fed.submit(gate.wait, {1: "late"}, timeout=0.05)
    fed.wait(1)
    assert isinstance(fed.error(1), CallTimeout)


def test_cancel(make_each: Make, gate: Gate) -> None:
    fed = Fed(make_each(max_workers=1, concurrency=2))
    fed.submit(gate.wait, {n: n for n in range(10)})
    gate.wait_for(2)
    fed.feeder.cancel([0, 9, 4711])
    assert isinstance(fed.error(0), CancelledError)  # it ran
    assert isinstance(fed.error(9), CancelledError)  # it did not
    gate.open()
    fed.wait(10)
    assert [value_of(fed.outcomes[n][1]) for n in range(1, 9)] == list(range(1, 9))
    fed.feeder.cancel(range(10))
    assert "9" not in gate.arrived


def test_a_killed_worker(make_each: Make, gate: Gate) -> None:
    executor = make_each(max_workers=1, concurrency=2)
    fed = Fed(executor)
    fed.submit(gate.wait, {1: 1})
    gate.wait_for(1)
    fed.submit(leave, {2: 3})
    fed.wait(2)
    for number in (1, 2):
        error = fed.error(number)
        assert isinstance(error, WorkerLost)
        assert error.exitcode == 3
        assert sorted(error.calls) == ["Gate.wait(...)", "leave(...)"]
    gate.open()
    fed.submit(square, {3: 3})
    fed.wait(3)
    assert value_of(fed.outcomes[3][1]) == 9


def test_a_killed_worker_whose_calls_may_run_again(make_each: Make, tmp_path: Any) -> None:
    fed = Fed(make_each(max_workers=1, concurrency=2))
    fed.submit(die_once, {n: str(tmp_path / "died") for n in range(3)}, on_worker_loss="retry")
    assert fed.values(3) == dict.fromkeys(range(3), "alive")


def die_once(path: str) -> str:
    try:
        with open(path, "x"):
            os._exit(3)
    except FileExistsError:
        return "alive"


def test_the_executor_is_broken(make_each: Make) -> None:
    fed = Fed(make_each(max_workers=1, initializer=fail, initargs=("no",)))
    fed.submit(square, {1: 1})
    fed.wait(1)
    assert "the initializer failed" in str(fed.error(1))
    wait_until(lambda: not fed.feeder._open)

"""Every exception reaches its own future, with its history, and nothing else."""

from __future__ import annotations

import sys
import traceback
from concurrent.futures.process import _RemoteTraceback

import pytest

from hybridexec import CallTimeout, HybridExecutor

from .conftest import Make
from .exceptions import KeepsItsFields, Unusual, fail, fail_with
from .helpers import Gate, nap, pid_of, square

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.every_lane]


def fail_in_a_chain() -> None:
    try:
        {}["missing"]
    except KeyError as error:
        raise ValueError("outer") from error


def exit_with(code: object) -> None:
    sys.exit(code)


def leave_greenlet() -> None:
    import greenlet

    raise greenlet.GreenletExit("gone")


def time_out() -> None:
    import gevent

    with gevent.Timeout(0.01):
        gevent.sleep(60)


def kill_own_greenlet() -> None:
    import gevent

    gevent.kill(gevent.getcurrent())
    gevent.sleep(60)


def leave_a_timer_behind() -> None:
    import gevent

    gevent.Timeout.start_new(0.05)


def fail_on_even(n: int) -> int:
    if n % 2 == 0:
        raise Unusual(n)
    return n


def test_an_exception_arrives_as_it_was(executor: HybridExecutor) -> None:
    with pytest.raises(KeepsItsFields) as caught:
        executor.submit(fail, KeepsItsFields(5)).result()
    assert caught.value.args == (5,)
    assert caught.value.code == 5


def test_the_remote_traceback_is_the_cause(executor: HybridExecutor) -> None:
    error = executor.submit(fail_with, ValueError, "bad").exception()
    assert isinstance(error, ValueError)
    assert isinstance(error.__cause__, _RemoteTraceback)
    remote = str(error.__cause__)
    assert "in fail_with" in remote
    assert "ValueError: bad" in remote
    assert "fail_with" in "".join(traceback.format_exception(error))


def test_the_remote_traceback_shows_the_whole_chain(executor: HybridExecutor) -> None:
    error = executor.submit(fail_in_a_chain).exception()
    assert error is not None
    assert "KeyError: 'missing'" in str(error.__cause__)


@pytest.mark.every_lane(but=("cluster",))  # whose node is named, too
def test_a_note_names_worker_and_call(executor: HybridExecutor) -> None:
    error = executor.submit(fail_with, ValueError, "bad").exception()
    assert error is not None
    (note,) = error.__notes__
    assert "fail_with(" in note
    assert any(str(pid) in note for pid in executor._processes)


def test_an_item_of_a_map_has_traceback_and_note_too(executor: HybridExecutor) -> None:
    (outcome,) = executor.outcomes(fail_with, [ValueError])
    assert outcome.error is not None
    assert "in fail_with" in str(outcome.error.__cause__)
    assert str(outcome.worker) in outcome.error.__notes__[0]


def test_notes_of_the_users_own_are_kept(executor: HybridExecutor) -> None:
    error = ValueError("bad")
    error.add_note("look at row 7")
    got = executor.submit(fail, error).exception()
    assert got is not None
    assert got.__notes__[0] == "look at row 7"
    assert len(got.__notes__) == 2


def test_exception_groups_arrive(executor: HybridExecutor) -> None:
    group = ExceptionGroup("two", [ValueError(1), KeyError(2)])
    got = executor.submit(fail, group).exception()
    assert isinstance(got, ExceptionGroup)
    assert [type(error) for error in got.exceptions] == [ValueError, KeyError]


@pytest.mark.every_lane(but=("cluster",))  # whose processes are not ours
@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, Unusual, GeneratorExit])
def test_an_exception_that_is_none_reaches_its_own_future(
    executor: HybridExecutor, kind: type[BaseException]
) -> None:
    before = set(executor.map(pid_of, range(20)))
    error = executor.submit(fail_with, kind, 3).exception()
    assert type(error) is kind
    assert error.args == (3,)
    assert set(executor._processes) >= before


def test_stop_iteration_from_a_call_does_not_end_a_map(executor: HybridExecutor) -> None:
    outcomes = list(executor.outcomes(fail_with, [StopIteration, ValueError, StopIteration]))
    assert [type(o.error) for o in outcomes].count(StopIteration) == 2
    # A generator may not raise StopIteration, so it comes wrapped, as from any executor's map.
    with pytest.raises(RuntimeError):
        list(executor.map(fail_with, [StopIteration]))


@pytest.mark.parametrize("code", [None, 0, 1, "a message"])
def test_sys_exit_in_a_call_is_that_calls_error(executor: HybridExecutor, code: object) -> None:
    error = executor.submit(exit_with, code).exception()
    assert isinstance(error, SystemExit)
    assert error.code == code


def test_greenlet_exit_in_a_call_is_that_calls_error(executor: HybridExecutor) -> None:
    error = executor.submit(leave_greenlet).exception()
    assert type(error).__name__ == "GreenletExit"


def test_a_call_that_kills_its_own_greenlet_ends_with_that(executor: HybridExecutor) -> None:
    error = executor.submit(kill_own_greenlet).exception(timeout=30)
    assert type(error).__name__ == "GreenletExit"
    assert executor.submit(square, 3).result(timeout=30) == 9


def test_a_gevent_timeout_that_nobody_caught_is_that_calls_error(
    executor: HybridExecutor,
) -> None:
    error = executor.submit(time_out).exception(timeout=30)
    assert error is not None
    assert "Timeout" in type(error).__name__ + str(error)
    assert not isinstance(error, CallTimeout)


def test_a_timeout_that_a_call_leaves_behind_hits_no_later_call(make: Make) -> None:
    executor = make(max_workers=1, concurrency=1)
    first = executor.submit(leave_a_timer_behind)
    second = executor.submit(nap, 0.3)
    assert first.result(timeout=30) is None
    assert second.exception(timeout=30) is None


@pytest.mark.every_lane(but=("async",))  # where blocking calls wait for one another
def test_no_neighbour_hears_of_an_exception(executor: HybridExecutor, gate: Gate) -> None:
    neighbours = [executor.submit(gate.wait, n) for n in range(4)]
    gate.wait_for(4)
    outcomes = list(executor.outcomes(fail_on_even, range(40)))
    assert sorted(o.value for o in outcomes if o.ok) == list(range(1, 40, 2))
    assert {type(o.error) for o in outcomes if not o.ok} == {Unusual}
    gate.open()
    assert [future.result() for future in neighbours] == [0, 1, 2, 3]


def test_each_call_gets_an_exception_object_of_its_own(executor: HybridExecutor) -> None:
    first, second = (executor.submit(fail_with, ValueError).exception() for _ in range(2))
    assert first is not second

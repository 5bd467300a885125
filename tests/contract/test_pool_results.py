"""A Pool's results to come: callbacks, errors, and what is left of them."""

from __future__ import annotations

import gc
import logging
import os
import threading
import time
import weakref
from collections.abc import Iterator
from concurrent.futures import CancelledError
from multiprocessing.pool import (
    ApplyResult,
    MapResult,
    MaybeEncodingError,  # type: ignore[attr-defined]
)
from typing import Any

import pytest

from hybridexec import Pool

from .helpers import Gate, fail_on, identity, square, wait_until
from .pools import MakePool, pools


@pytest.fixture(scope="module")
def pool() -> Iterator[Pool]:
    with pools(None) as make:
        yield make()


@pytest.fixture
def make_pool() -> Iterator[MakePool]:
    with pools(None) as make:
        yield make


class Data:
    """Can be pickled, and referred to weakly."""


def lock_of(_: object) -> Any:
    return threading.Lock()


def test_results_are_those_of_multiprocessings_pool_to_who_asks(pool: Pool) -> None:
    assert isinstance(pool.apply_async(square, (2,)), ApplyResult)
    assert isinstance(pool.map_async(square, [2]), MapResult)


def test_a_result_is_ready_when_its_callback_has_returned(pool: Pool) -> None:
    gate, told = threading.Event(), []

    def callback(value: object) -> None:
        assert gate.wait(30)
        told.append(value)

    results: list[Any] = [
        pool.apply_async(square, (3,), callback=callback),
        pool.map_async(square, [1, 2], callback=callback, error_callback=told.append),
        pool.apply_async(fail_on, (1, 1), {}, told.append, callback),
    ]
    wait_until(lambda: not pool.busy)
    assert not any(result.ready() for result in results)
    gate.set()
    assert results[0].get(30) == 9
    assert results[1].get(30) == [1, 4]
    with pytest.raises(ValueError, match="1 is bad"):
        results[2].get(30)
    (error,) = [each for each in told if isinstance(each, ValueError)]
    told.remove(error)
    assert told in ([9, [1, 4]], [[1, 4], 9])


def test_the_error_of_a_map_is_told_once(pool: Pool) -> None:
    told: list[Any] = []
    result = pool.starmap_async(
        fail_on, [(2, 1), (2, 2), (2, 2)], callback=told.append, error_callback=told.append
    )
    result.wait(30)
    assert len(told) == 1
    assert isinstance(told[0], ValueError)


def test_what_a_callback_raises_is_logged(pool: Pool, caplog: pytest.LogCaptureFixture) -> None:
    def callback(value: object) -> None:
        raise SystemExit("not here")

    with caplog.at_level(logging.ERROR, "hybridexec"):
        assert pool.apply_async(square, (3,), callback=callback).get(30) == 9
        assert pool.apply_async(square, (4,), callback=lambda _: None).get(30) == 16
    (record,) = [record for record in caplog.records if "callback" in record.message]
    assert "SystemExit: not here" in str(caplog.text)
    assert record.name == "hybridexec"


def test_a_callback_may_wait_for_other_results(pool: Pool) -> None:
    told = []

    def callback(value: int) -> None:
        told.append(pool.apply(square, (value,)))

    pool.apply_async(square, (2,), callback=callback).wait(30)
    assert told == [16]


def test_a_slow_callback_keeps_only_those_waiting_that_have_one(pool: Pool) -> None:
    gate = threading.Event()
    slow = pool.apply_async(square, (2,), callback=lambda _: gate.wait(30))
    assert pool.apply(square, (3,)) == 9
    assert pool.map(square, range(10)) == [n * n for n in range(10)]
    assert not slow.ready()
    gate.set()
    assert slow.get(30) == 4


def test_a_callback_is_called_though_nobody_has_the_result(make_pool: MakePool) -> None:
    told: list[Any] = []
    pool = make_pool()
    for n in range(20):
        pool.apply_async(square, (n,), callback=told.append)
    pool.map_async(square, [1], callback=told.append)
    pool.close()
    pool.join()
    assert told[-1] == [1] or [1] in told
    assert sorted(value for value in told if value != [1]) == [n * n for n in range(20)]


def test_a_callback_may_terminate_the_pool(make_pool: MakePool, gate: Gate) -> None:
    pool = make_pool()
    late = pool.apply_async(gate.wait, ("late",))
    gate.wait_for(1)
    pool.apply_async(fail_on, (1, 1), error_callback=lambda _: pool.terminate()).wait(30)
    with pytest.raises(CancelledError):
        late.get(30)
    pool.join()


def test_a_result_that_cannot_be_pickled(pool: Pool) -> None:
    told: list[BaseException] = []
    result = pool.apply_async(lock_of, (1,), error_callback=told.append)
    for get in (result.get, lambda: pool.map(lock_of, [1]), lambda: next(pool.imap(lock_of, [1]))):
        with pytest.raises(MaybeEncodingError) as caught:
            get()
        error = caught.value
        assert "lock_of" in error.exc
        assert "lock_of" in error.value
        assert isinstance(error.__cause__, TypeError)
        assert "Error sending result" in str(error)
    assert isinstance(told[0], MaybeEncodingError)
    assert not result.successful()


def test_an_error_is_the_same_each_time(pool: Pool) -> None:
    result = pool.apply_async(fail_on, (1, 1))
    errors = []
    for _ in range(2):
        with pytest.raises(ValueError, match="1 is bad") as caught:
            result.get()
        errors.append(caught.value)
    assert errors[0] is errors[1]


def test_nothing_keeps_items_and_results_alive(pool: Pool) -> None:
    items = [Data() for _ in range(10)]
    alive = [weakref.ref(item) for item in items]
    for results in (
        pool.map(identity, items),
        pool.map_async(identity, items, callback=lambda _: None).get(),
        list(pool.imap(identity, items)),
        [pool.apply(identity, (item,)) for item in items],
        [pool.apply_async(identity, (item,), callback=lambda _: None).get() for item in items],
    ):
        alive += [weakref.ref(result) for result in results]
    del items, results
    gc.disable()
    try:
        wait_until(lambda: not any(ref() for ref in alive), "all are freed, without a collection")
    finally:
        gc.enable()


def test_several_threads_may_share_an_iterator(pool: Pool) -> None:
    results, got = pool.imap(square, range(500)), []

    def take() -> None:
        got.extend(results)

    threads = [threading.Thread(target=take) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert sorted(got) == [n * n for n in range(500)]


def test_a_forked_child_does_not_wait_for_results(pool: Pool, gate: Gate) -> None:
    done = pool.apply_async(square, (3,))
    done.wait(30)
    results: Any = [
        pool.apply_async(gate.wait, ("one",)),
        pool.map_async(gate.wait, ["two"]),
        pool.apply_async(gate.wait, ("three",), callback=print),
    ]
    later = pool.imap(gate.wait, ["four"])
    gate.wait_for(2)
    child = os.fork()
    if not child:
        status = 1
        try:
            assert done.get() == 9
            for get in [result.get for result in results] + [later.next]:
                with pytest.raises(RuntimeError, match="belongs to the parent"):
                    get()
            assert pool.busy == 0
            pool.terminate()
            pool.join()
            status = 0
        finally:
            os._exit(status)
    deadline = time.monotonic() + 30
    while (ended := os.waitpid(child, os.WNOHANG)) == (0, 0):
        assert time.monotonic() < deadline, "the child hangs"
        time.sleep(0.01)
    gate.open()
    assert ended[1] == 0
    assert [result.get(30) for result in results] == ["one", ["two"], "three"]

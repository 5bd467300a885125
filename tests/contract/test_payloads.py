"""What can travel does, what cannot fails its own call only and says why."""

from __future__ import annotations

import functools
import multiprocessing
import operator
import pickle
import platform
import re
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import resource_sharer
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hybridexec import HybridExecutor

from .conftest import METHODS, Make, make_executor
from .helpers import identity, pid_of, square, start_script

MB = 1024 * 1024


@pytest.fixture
def sharer() -> Iterator[None]:
    """Ends the thread from which multiprocessing hands out descriptors."""
    yield
    resource_sharer.stop(timeout=10)


# -- what ProcessPoolExecutor carries -------------------------------------------------------------


def answer_on(connection: Any) -> None:
    connection.send(connection.recv() + 1)


def echo_on(peer: socket.socket) -> None:
    with peer:
        peer.sendall(peer.recv(100).upper())


def move(source: Any, target: Any) -> None:
    target.put(source.get())


def add_all(numbers: Any, total: Any, lock: Any) -> None:
    with lock:
        total["sum"] = sum(numbers)


def make_connection() -> Any:
    ours, theirs = multiprocessing.Pipe()
    theirs.send("from a worker")
    theirs.close()
    return ours


@pytest.mark.usefixtures("sharer")
def test_a_connection_travels(executor: HybridExecutor) -> None:
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        future = executor.submit(answer_on, theirs)
        ours.send(41)
        assert future.result(timeout=30) is None
        assert ours.poll(10)
        assert ours.recv() == 42


@pytest.mark.usefixtures("sharer")
def test_a_connection_comes_back(executor: HybridExecutor) -> None:
    with executor.submit(make_connection).result(timeout=30) as connection:
        assert connection.recv() == "from a worker"


@pytest.mark.usefixtures("sharer")
def test_a_socket_travels(executor: HybridExecutor) -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(30)
        future = executor.submit(echo_on, theirs)
        ours.sendall(b"hello")
        assert ours.recv(100) == b"HELLO"
        future.result(timeout=30)


def test_a_managers_proxies_travel(executor: HybridExecutor) -> None:
    with multiprocessing.get_context("spawn").Manager() as manager:
        source, target = manager.Queue(), manager.Queue()
        source.put("parcel")
        executor.submit(move, source, target).result(timeout=30)
        assert target.get(timeout=10) == "parcel"
        numbers, total, lock = manager.list([1, 2, 3]), manager.dict(), manager.Lock()
        executor.submit(add_all, numbers, total, lock).result(timeout=30)
        assert total["sum"] == 6


@pytest.mark.parametrize("how", ["submit", "map"])
def test_a_temporary_argument_lives_until_its_call_has_it(
    executor: HybridExecutor, how: str
) -> None:
    # A manager forgets a list as soon as its last proxy is gone.
    with multiprocessing.get_context("spawn").Manager() as manager:
        if how == "submit":
            result = executor.submit(sum, manager.list([1, 2, 3])).result(timeout=30)
        else:
            (result,) = executor.map(sum, (manager.list([n, 2, 3]) for n in (1,)))
        assert result == 6


def test_a_queue_outside_initargs_is_refused_as_multiprocessing_does(
    executor: HybridExecutor,
) -> None:
    queue = multiprocessing.get_context("spawn").Queue()
    error = executor.submit(identity, queue).exception(timeout=30)
    assert isinstance(error, RuntimeError)
    assert "inheritance" in str(error)
    queue.close()


# -- functions ------------------------------------------------------------------------------------


class Adder:
    def __init__(self, amount: int) -> None:
        self.amount = amount

    def add(self, value: int) -> int:
        return value + self.amount

    def __call__(self, value: int) -> int:
        return value + self.amount

    @classmethod
    def default(cls) -> int:
        return cls(9).amount

    @staticmethod
    def double(value: int) -> int:
        return 2 * value


class Unhashable(Adder):
    __hash__ = None


@pytest.mark.parametrize(
    ("function", "arguments", "result"),
    [
        (functools.partial(pow, 2), (5,), 32),
        (Adder(3).add, (4,), 7),
        (Adder(3), (4,), 7),
        (Unhashable(3), (4,), 7),
        (Adder.default, (), 9),
        (Adder.double, (4,), 8),
        ("text".upper, (), "TEXT"),
        (operator.itemgetter(1), ([5, 6],), 6),
        (functools.partial(functools.partial, int)(base=2), ("101",), 5),
    ],
    ids=[
        "partial",
        "method",
        "callable",
        "unhashable",
        "classmethod",
        "static",
        "builtin-method",
        "itemgetter",
        "nested-partial",
    ],
)
def test_callables_of_all_kinds_travel(
    executor: HybridExecutor, function: Callable[..., Any], arguments: tuple[Any, ...], result: Any
) -> None:
    assert executor.submit(function, *arguments).result() == result


def test_lambdas_and_closures_travel(executor: HybridExecutor) -> None:
    offset = 10

    def local(value: int) -> int:
        return value + offset

    assert executor.submit(lambda value: value * 3, 5).result() == 15
    assert executor.submit(local, 5).result() == 15
    assert list(executor.map(lambda value: value + offset, [1, 2])) == [11, 12]


def test_a_closure_has_the_values_of_each_submit(executor: HybridExecutor) -> None:
    box = [0]

    def read() -> int:
        return box[0]

    first = executor.submit(read)
    box[0] = 1
    second = executor.submit(read)
    assert (first.result(), second.result()) == (0, 1)


def test_a_callable_object_has_the_state_of_each_submit(executor: HybridExecutor) -> None:
    adder = Adder(1)
    first = executor.submit(adder, 1)
    adder.amount = 100
    assert executor.submit(adder, 1).result() == 101
    assert first.result() == 2


class Counter:
    def __init__(self) -> None:
        self.count = 0

    def __call__(self) -> int:
        self.count += 1
        return self.count


def test_what_a_call_does_to_its_function_no_other_sees(executor: HybridExecutor) -> None:
    counter = Counter()
    assert [executor.submit(counter).result() for _ in range(3)] == [1, 1, 1]
    assert {call.result() for call in [executor.submit(counter) for _ in range(10)]} == {1}


def test_a_local_class_travels_both_ways(executor: HybridExecutor) -> None:
    class Local:
        def __init__(self, value: int) -> None:
            self.value = value

    def bump(thing: Any) -> Any:
        thing.value += 1
        return thing

    assert executor.submit(bump, Local(4)).result().value == 5


def test_the_class_of_a_result_is_the_parents_own(executor: HybridExecutor) -> None:
    result = executor.submit(identity, Adder(2)).result()
    assert type(result) is Adder


def test_many_calls_of_one_lambda_in_a_map(executor: HybridExecutor) -> None:
    assert list(executor.map(lambda value: -value, range(1_000))) == [-n for n in range(1_000)]


# -- what cannot travel ---------------------------------------------------------------------------


def make_lock() -> Any:
    return threading.Lock()


def return_generator() -> Any:
    return (n for n in range(3))


def test_an_argument_that_cannot_be_pickled_fails_its_future(executor: HybridExecutor) -> None:
    error = executor.submit(identity, threading.Lock()).exception()
    assert isinstance(error, TypeError | pickle.PicklingError)
    assert "the arguments of identity could not be pickled: " in repr(error)
    assert any("could not be pickled" in note for note in error.__notes__)


def test_a_function_that_cannot_be_pickled_fails_its_future(executor: HybridExecutor) -> None:
    lock = threading.Lock()
    error = executor.submit(lambda: lock).exception()
    assert error is not None
    assert any("could not be pickled" in note for note in error.__notes__)
    # Not the lambda: that could travel.
    assert "lock" in " ".join([str(error), *error.__notes__]).replace("locks", "")


def test_a_function_that_cannot_be_pickled_fails_each_item(executor: HybridExecutor) -> None:
    lock = threading.Lock()
    outcomes = list(executor.outcomes(lambda n: (lock, n), range(3)))
    assert sorted(o.item for o in outcomes) == [0, 1, 2]
    assert all("could not be pickled" in o.error.__notes__[-1] for o in outcomes if o.error)
    assert not any(o.ok for o in outcomes)


@pytest.mark.parametrize("function", [make_lock, return_generator])
def test_a_result_that_cannot_be_pickled_fails_its_call(
    executor: HybridExecutor, function: Callable[[], Any]
) -> None:
    error = executor.submit(function).exception(timeout=30)
    assert isinstance(error, TypeError | pickle.PicklingError)
    said = f"the result of {function.__name__}(), of type "
    assert said in repr(error)
    assert "could not be pickled: " in repr(error)
    assert "Return plain data" in str(error)
    assert any("result" in note and "could not be pickled" in note for note in error.__notes__)
    assert executor.submit(square, 2).result() == 4


class Node(str):
    """A text that knows its neighbour, as BeautifulSoup's do."""

    neighbour: Node | None = None


def make_chain(length: int) -> Node:
    node = Node("last")
    for _ in range(length):
        earlier = Node("earlier")
        earlier.neighbour, node = node, earlier
    return node


@pytest.mark.parametrize("how", ["submit", "outcomes"])
def test_a_result_that_is_too_deep_to_be_pickled_says_so(
    executor: HybridExecutor, how: str
) -> None:
    if how == "submit":
        error = executor.submit(make_chain, 100_000).exception(timeout=30)
    else:
        (outcome,) = executor.outcomes(make_chain, [100_000])
        error = outcome.error
    assert isinstance(error, RecursionError | pickle.PicklingError)
    assert "the result of make_chain(100000), of type Node, could not be pickled" in repr(error)


class NeedsAModule:
    def __reduce__(self) -> Any:
        return import_nothing, ()


def import_nothing() -> None:
    import there_is_no_such_module  # noqa: F401


def test_what_cannot_be_unpickled_says_so_itself(executor: HybridExecutor) -> None:
    error = executor.submit(identity, NeedsAModule()).exception(timeout=30)
    assert type(error) is ModuleNotFoundError
    assert "arguments of identity(...) could not be unpickled: No module named" in str(error)
    assert error.name == "there_is_no_such_module"
    error = executor.submit(NeedsAModule).exception(timeout=30)
    assert type(error) is ModuleNotFoundError
    assert "the result of this call, from worker process" in str(error)
    assert "could not be unpickled: No module named" in repr(error)


def test_an_item_that_cannot_be_pickled_fails_alone(executor: HybridExecutor) -> None:
    outcomes = list(executor.outcomes(type, [1, "a", threading.Lock(), [2], (3,)]))
    assert [o.value for o in outcomes if not o.ok] == [None]
    assert len(outcomes) == 5
    assert {o.value for o in outcomes if o.ok} == {int, str, list, tuple}


# -- payloads that misbehave on their way ---------------------------------------------------------


def blow_up(how: str) -> Any:
    if how == "raise":
        raise LookupError("on purpose")
    if how == "exit":
        sys.exit("on purpose")
    raise NotAnException("on purpose")


class NotAnException(BaseException):
    pass


ERRORS = {"raise": LookupError, "exit": SystemExit, "base": NotAnException}


class BadPickle:
    """Misbehaves when it is pickled."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        blow_up(self.how)


class BadUnpickle:
    """Misbehaves when it is unpickled."""

    def __init__(self, how: str) -> None:
        self.how = how

    def __reduce__(self) -> Any:
        return blow_up, (self.how,)


class RaisesBad(Exception):
    def __init__(self, kind: type, how: str) -> None:
        super().__init__(kind, how)
        self.payload = kind(how)

    def __reduce__(self) -> Any:
        return self.payload.__reduce__()


def bad_or_good(n: int, kind: type, how: str, bad: int) -> Any:
    return kind(how) if n == bad else [n]


def raise_bad(kind: type, how: str) -> None:
    raise RaisesBad(kind, how)


def bad_among(kind: type, how: str) -> list[Any]:
    return [[0], [1], kind(how), [3], [4]]


each_how = pytest.mark.parametrize("how", ERRORS)
each_kind = pytest.mark.parametrize("kind", [BadPickle, BadUnpickle])


@each_how
@each_kind
def test_a_bad_argument_fails_its_own_call(executor: HybridExecutor, kind: type, how: str) -> None:
    before, bad, after = (executor.submit(identity, x) for x in ([1], kind(how), [2]))
    assert isinstance(bad.exception(timeout=30), ERRORS[how])
    assert (before.result(timeout=30), after.result(timeout=30)) == ([1], [2])


@each_how
@each_kind
def test_a_bad_item_fails_alone_among_its_neighbours(
    executor: HybridExecutor, kind: type, how: str
) -> None:
    outcomes = list(executor.outcomes(identity, bad_among(kind, how)))
    assert sorted(o.value for o in outcomes if o.ok) == [[0], [1], [3], [4]]
    assert [type(o.error) for o in outcomes if not o.ok] == [ERRORS[how]]


@each_how
@each_kind
def test_a_bad_result_fails_alone_among_its_neighbours(
    executor: HybridExecutor, kind: type, how: str
) -> None:
    call = functools.partial(bad_or_good, kind=kind, how=how, bad=2)
    outcomes = list(executor.outcomes(call, range(5)))
    assert sorted(o.value for o in outcomes if o.ok) == [[0], [1], [3], [4]]
    (failed,) = (o for o in outcomes if not o.ok)
    assert isinstance(failed.error, ERRORS[how])
    assert any("could not be" in note for note in failed.error.__notes__)


@each_how
@each_kind
def test_a_bad_exception_fails_its_own_call(executor: HybridExecutor, kind: type, how: str) -> None:
    error = executor.submit(raise_bad, kind, how).exception(timeout=30)
    assert type(error) is RaisesBad
    assert not hasattr(error, "payload")
    assert executor.submit(square, 3).result(timeout=30) == 9


@each_how
@each_kind
def test_a_bad_function_fails_its_own_call(executor: HybridExecutor, kind: type, how: str) -> None:
    function = functools.partial(identity, kind(how))
    assert isinstance(executor.submit(function).exception(timeout=30), ERRORS[how])
    assert executor.submit(square, 3).result(timeout=30) == 9


def test_the_workers_outlive_all_of_it(make: Make) -> None:
    executor = make(max_workers=1)
    pid = {executor.submit(pid_of).result()}
    for how in ERRORS:
        executor.submit(identity, BadUnpickle(how)).exception(timeout=30)
        executor.submit(BadUnpickle, how).exception(timeout=30)
        executor.submit(BadPickle, how).exception(timeout=30)
    assert set(executor._processes) == pid


# -- values and sizes -----------------------------------------------------------------------------

VALUES = [
    None, True, False, 0, -1, 2**63, 2**200, 1.5, float("inf"), 1j, "", "é\udc80", "x" * 100_000,
    b"", b"\0\xff", bytes(200_000), bytearray(b"ab"), [], {}, (), {1, 2}, frozenset({3}), range(5),
    [1, [2, [3]]], {"a": (1, 2)}, Ellipsis, NotImplemented, int, re.compile("a+"),
]  # fmt: skip


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:20])
def test_a_value_comes_back_equal_and_of_its_type(executor: HybridExecutor, value: Any) -> None:
    result = executor.submit(identity, value).result(timeout=30)
    assert result == value
    assert type(result) is type(value)


class Colour(int):
    """Looks like a plain value and is not."""


def test_a_subclass_of_a_plain_type_keeps_its_class(executor: HybridExecutor) -> None:
    assert type(executor.submit(identity, Colour(3)).result()) is Colour
    assert type(next(executor.map(identity, [Colour(3)]))) is Colour


def test_nan_stays_nan(executor: HybridExecutor) -> None:
    result = executor.submit(identity, float("nan")).result()
    assert result != result


def test_mutable_results_are_the_receivers_own(executor: HybridExecutor) -> None:
    first, second = executor.map(identity, [bytearray(b"abc")] * 2)
    first[0] = 0
    assert second == bytearray(b"abc")


@pytest.mark.parametrize("dtype", ["u1", "f8", "M8[s]", "O"])
def test_arrays_travel_and_can_be_written(executor: HybridExecutor, dtype: str) -> None:
    array = np.arange(60_000).astype(dtype).reshape(200, 300)
    result = executor.submit(identity, array).result(timeout=30)
    assert result.dtype == array.dtype
    assert (result == array).all()
    result[0, 0] = array[1, 1]
    assert result[0, 0] == array[1, 1]


def test_arrays_in_other_orders_travel(executor: HybridExecutor) -> None:
    array = np.arange(60_000).reshape(200, 300)
    for view in (np.asfortranarray(array), array[::3, ::-2], array.T):
        assert (executor.submit(identity, view).result(timeout=30) == view).all()


def test_changing_an_array_after_submit_changes_nothing(executor: HybridExecutor) -> None:
    array = np.zeros(1_000_000)
    future = executor.submit(np.sum, array)
    array[:] = 1
    assert future.result(timeout=30) == 0


@pytest.mark.parametrize("make_value", [bytes, bytearray, np.zeros], ids=lambda f: f.__name__)
def test_64_mb_both_ways(executor: HybridExecutor, make_value: Callable[[int], Any]) -> None:
    count = 64 * MB if make_value is not np.zeros else 8 * MB
    value = make_value(count)
    result = executor.submit(identity, value).result(timeout=60)
    assert type(result) is type(value)
    assert memoryview(result) == memoryview(value)


def test_large_and_small_payloads_mix(executor: HybridExecutor) -> None:
    values = [bytes([n]) * (n % 5 * 300_000 + 1) for n in range(40)]
    assert list(executor.map(identity, values)) == values


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_gibibyte_both_ways(make: Make) -> None:
    executor = make(max_workers=1)
    value = bytes(1024 * MB)
    assert executor.submit(len, value).result(timeout=120) == 1024 * MB
    assert len(executor.submit(bytes, 1024 * MB).result(timeout=120)) == 1024 * MB


# -- what workers are set up with -----------------------------------------------------------------

_given: list[Any] = []


def keep(value: Any) -> None:
    _given.append(value)


def use_locks() -> tuple[bool, bool, int]:
    lock, again, (word,) = _given[0]
    with lock:
        held = lock.locked()
    with again, again:
        return held, lock.locked(), word


@pytest.mark.parametrize("method", METHODS)
def test_threads_locks_in_initargs_are_each_workers_own(method: str) -> None:
    """As forked workers have copies of their own: tqdm's lock has one of them in it."""
    locks = (threading.Lock(), threading.RLock(), [1])
    with make_executor(method, initializer=keep, initargs=(locks,)) as executor:
        assert executor.submit(use_locks).result(timeout=60) == (True, False, 1)


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_other_initargs_that_cannot_be_pickled_still_say_so(method: str) -> None:
    arguments = (threading.Lock(), (each for each in "abc"))
    with (
        make_executor(method, initializer=keep, initargs=(arguments,)) as executor,
        pytest.raises(Exception, match="cannot pickle"),
    ):
        executor.submit(int).result(timeout=60)


FAULTS = """
import resource, sys
from hybridexec import HybridExecutor

def same(value):
    return value

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

if __name__ == "__main__":
    with HybridExecutor(1) as executor:
        for size in (100_000, 1_000_000, 10_000_000):
            payload = bytes(size)
            for count in (10, 50):
                before = faults(), executor.submit(faults).result()
                for _ in range(count):
                    executor.submit(same, payload).result()
                after = faults(), executor.submit(faults).result()
            print(size // resource.getpagesize(), (after[0] - before[0]) // count,
                  (after[1] - before[1]) // count)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="others have habits of their own")
def test_memory_is_not_faulted_in_again_for_each_payload(tmp_path: Path) -> None:
    with start_script(tmp_path / "script.py", FAULTS) as process:
        output, _ = process.communicate(timeout=100)
    figures = [tuple(map(int, line.split())) for line in output.splitlines()]
    assert len(figures) == 3
    for pages, ours, theirs in figures:
        assert max(ours, theirs) < pages / 2, figures

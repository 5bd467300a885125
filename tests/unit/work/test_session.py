"""What workers are told of a ``__main__`` that they cannot import, and when anew."""

from __future__ import annotations

import gc
import sys
import types
from collections.abc import Iterator
from typing import Any

import pytest

from hybridexec.parent.work import session as parent
from hybridexec.wire import mains, payload, prompt
from hybridexec.worker.session import Session as WorkerSession


class Counted:
    """Counts how often it is pickled."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.count = 0

    def __getstate__(self) -> Any:
        self.count += 1
        return {"data": bytes(self.size), "size": self.size}


@pytest.fixture
def main(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, Any]]:
    """The globals of a notebook."""
    module = types.ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    monkeypatch.setattr(parent, "_session", parent.Session())
    monkeypatch.setattr(payload, "main_by_value", True)
    yield vars(module)
    # A module is in a circle with its functions, and large pieces hold files.
    module.__dict__.clear()
    monkeypatch.undo()
    gc.collect()


class Worker:
    """A worker that has a ``__main__`` of its own."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.session = WorkerSession()
        self.module = types.ModuleType("__main__")
        self._monkeypatch = monkeypatch
        self.known: set[int] = set()
        self.in_flight: list[str] = []

    def load(self, sent: tuple[payload.Payload, parent.Pieces], number: int = 1) -> Any:
        pickled, pieces = sent
        for piece in pieces:
            if piece.number not in self.known:
                self.known.add(piece.number)
                self.known.discard(piece.replaces)
                self.in_flight.append(piece.name)
                self.session.learn(piece.number, piece.name, piece.payload)
        self.session.hold(number, [(piece.number, piece.name) for piece in pieces])
        with self._monkeypatch.context() as patch:
            patch.setitem(sys.modules, "__main__", self.module)
            self.session.bind(number)
            loaded = payload.loads(pickled)
        self.session.let_go(number)
        return loaded


@pytest.fixture
def worker(monkeypatch: pytest.MonkeyPatch) -> Worker:
    return Worker(monkeypatch)


def enter(main: dict[str, Any], text: str) -> None:
    exec(compile(text, "<stdin>", "exec"), main)


def test_only_what_changes_is_sent_again(main: dict[str, Any], worker: Worker) -> None:
    enter(main, "x, y = 1, [2]\ndef f(): return x, y, g()\ndef g(): return -x")
    assert worker.load(parent.dumps(main["f"]))() == (1, [2], -1)
    assert sorted(worker.in_flight) == ["f", "g", "x", "y"]
    worker.in_flight.clear()
    assert worker.load(parent.dumps(main["f"]))() == (1, [2], -1)
    assert worker.in_flight == []
    main["x"] = 5
    main["y"].append(3)
    assert worker.load(parent.dumps(main["f"]))() == (5, [2, 3], -5)
    assert sorted(worker.in_flight) == ["x", "y"]
    assert set(main) >= {"x", "y"}


def test_what_a_call_has_bound_stays_until_the_parent_binds_it_anew(
    main: dict[str, Any], worker: Worker
) -> None:
    enter(main, "x = 0\ndef f():\n    global x\n    x += 1\n    return x")
    assert [worker.load(parent.dumps(main["f"]))() for _ in range(3)] == [1, 2, 3]
    main["x"] = 10
    assert [worker.load(parent.dumps(main["f"]))() for _ in range(2)] == [11, 12]


def test_equal_values_that_are_bound_anew_arrive_anew(main: dict[str, Any], worker: Worker) -> None:
    enter(main, "x = []\ndef f():\n    x.append(1)\n    return len(x)")
    assert [worker.load(parent.dumps(main["f"]))() for _ in range(2)] == [1, 2]
    enter(main, "x = []")
    assert worker.load(parent.dumps(main["f"]))() == 1


def test_a_call_that_starts_late_has_the_globals_of_its_submit(
    main: dict[str, Any], worker: Worker
) -> None:
    enter(main, "x = 1\ndef f(): return x")
    early = parent.dumps(main["f"])
    main["x"] = 2
    late = parent.dumps(main["f"])
    assert worker.load(late, 2)() == 2
    assert worker.load(early, 1)() == 1
    assert worker.load(late, 2)() == 2


def test_workers_and_parent_forget_what_has_been_replaced(
    main: dict[str, Any], worker: Worker
) -> None:
    enter(main, "x = 1\ndef f(): return x")
    for number in range(100):
        main["x"] = number
        assert worker.load(parent.dumps(main["f"]))() == number
    assert len(worker.session._payloads) == 2
    assert len(worker.known) == 2
    assert not worker.session._holders


def test_a_small_object_is_compared_each_time_and_a_large_one_once_a_statement(
    main: dict[str, Any], worker: Worker
) -> None:
    main["small"], main["large"] = Counted(10), Counted(1_000_000)
    enter(main, "def f(): return small.size, large.size")

    def load() -> Any:
        return worker.load(parent.dumps(main["f"]))()

    main["dumps"] = load
    for _ in range(3):
        main["dumps"]()
    assert (main["small"].count, main["large"].count) == (3, 1)
    enter(main, "for _ in range(3): dumps()")
    assert (main["small"].count, main["large"].count) == (6, 2)
    assert sorted(worker.in_flight) == ["f", "large", "small"]
    main["large"].size = 5
    enter(main, "assert dumps() == (10, 5)")


def test_a_constant_is_never_pickled_again(main: dict[str, Any], worker: Worker) -> None:
    enter(main, "text = 'x' * 10_000_000\ndef f(): return len(text)")
    _, first = parent.dumps(main["f"])
    _, second = parent.dumps(main["f"])
    assert first == second


def test_a_class_in_arguments_comes_before_them(main: dict[str, Any], worker: Worker) -> None:
    enter(main, "class A: pass\nclass B(A): pass\nmade = B()")
    loaded = worker.load(parent.dumps([main["made"], main["made"]]))
    assert [type(each).__name__ for each in loaded] == ["B", "B"]
    assert worker.in_flight == ["", ""]
    again = worker.load(parent.dumps(main["made"]))
    assert type(again) is type(loaded[0])


def test_a_name_that_is_gone_is_left_to_the_call(main: dict[str, Any], worker: Worker) -> None:
    enter(main, "x = 1\ndef g(): return x\ndef h(): return x\ndef f(): return g() + h()")
    assert worker.load(parent.dumps(main["f"]))() == 2
    # Functions that were looked at in the same statement still seem to use it.
    for piece in parent._session._pieces.values():
        piece.seen = parent._statement()
    del main["x"]
    assert callable(worker.load(parent.dumps(main["f"])))


def test_a_name_that_is_bound_later_is_seen_in_any_thread(
    main: dict[str, Any], worker: Worker
) -> None:
    enter(main, "def f(): return x")
    assert callable(worker.load(parent.dumps(main["f"])))
    main["x"] = 3
    assert worker.load(parent.dumps(main["f"]))() == 3


def test_what_cannot_be_pickled_is_named_unless_the_worker_has_it(
    main: dict[str, Any], worker: Worker
) -> None:
    enter(main, "x = (n for n in ())\ndef inner(): return x\ndef f(): return inner()")
    with pytest.raises(TypeError, match="the global 'x', which inner uses, could not be pickled"):
        worker.load(parent.dumps(main["f"]))
    worker.module.x = 7
    assert worker.load(parent.dumps(main["f"]))() == 7


def test_a_failure_to_pickle_the_call_itself_is_raised(main: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        parent.dumps(n for n in ())


def test_errors_are_compared_with_types_that_need_not_be_known(main: dict[str, Any]) -> None:
    enter(main, "class Refused(Exception): pass")
    pickled = parent.dumps_known((main["Refused"], OSError))
    refused, known = payload.loads(pickled)
    assert (refused, known) == (main["Refused"], OSError)
    del mains._classes[mains.key_for(refused)]
    never, known = payload.loads(pickled)
    assert issubclass(never, Exception)
    assert known is OSError


def test_functions_that_compare_errors_bring_what_they_need(main: dict[str, Any]) -> None:
    enter(main, "class Refused(Exception): pass")
    enter(main, "PAUSE = 3")
    enter(main, "def backoff(error): return PAUSE if isinstance(error, Refused) else 0")
    backoff = payload.loads(parent.dumps_known(main["backoff"]))
    assert backoff.__globals__ is not main
    assert backoff(main["Refused"]()) == 3
    assert backoff(OSError()) == 0


@pytest.mark.parametrize(
    ("name", "entered"),
    [
        ("<stdin>", True),
        ("<console>", True),
        ("<python-input-3>", True),
        ("<ipython-input-3-abc>", True),
        ("/tmp/ipykernel_123/456.py", True),
        ("<string>", False),
        ("/home/me/script.py", False),
    ],
)
def test_code_tells_whether_it_was_entered_at_a_prompt(
    monkeypatch: pytest.MonkeyPatch, name: str, entered: bool
) -> None:
    monkeypatch.setattr(prompt, "seen", False)
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("def f(): pass\nclass A:\n    def f(self): pass", name, "exec"), names)
    assert prompt.entered(names["f"]) is entered
    monkeypatch.setattr(sys, "ps1", ">>> ", raising=False)
    assert prompt.entered(names["A"]) is entered
    assert prompt.seen is entered

"""Which call some code runs for, in words."""

from __future__ import annotations

import gc
import weakref
from typing import Any

from greenlet import getcurrent, greenlet

from hybridexec.worker.greenlets.callers import Callers


class Argument:
    pass


class Calls:
    """What runs calls, as a `Callers` is told of it."""

    def __init__(self) -> None:
        #: The calls that greenlets run, and those for which others have begun.
        self.run_by: dict[Any, int] = {}
        self.begun_for: dict[Any, int] = {}
        self.ask = Callers(
            lambda who: self.run_by.get(who, 0),
            lambda who: self.begun_for.get(who, 0),
            lambda call: next((who for who, what in self.run_by.items() if what == call), None),
            Calls.run.__code__,
        ).current

    def run(self, function: Any, item: Any, bare: bool) -> Any:
        if function is None:
            return self.ask()
        return function(item) if bare else function(*item)

    def fetch(self, *_: Any) -> str:
        return self.ask()


def test_a_call_is_named_with_its_arguments() -> None:
    calls = Calls()
    assert calls.ask() == ""
    calls.run_by[getcurrent()] = 1
    assert calls.run(calls.fetch, (1, "x"), False) == "Calls.fetch(1, 'x')"
    calls.run_by[getcurrent()] = 2
    assert calls.run(calls.fetch, 7, True) == "Calls.fetch(7)"
    calls.run_by[getcurrent()] = 3
    assert calls.run(None, b"", False) == "", "its function is not there yet"


def test_what_a_call_has_begun_is_for_that_call() -> None:
    def wait(_: int) -> None:
        me.switch()

    me, calls = getcurrent(), Calls()
    runner = greenlet(calls.run)
    calls.run_by[runner] = 5
    runner.switch(wait, 3, True)
    calls.begun_for[me] = 5
    name = calls.ask()
    assert name.endswith("wait(3)")
    del calls.run_by[runner]
    runner.switch()
    assert calls.ask() == name, "it has asked before"
    calls.begun_for[me] = 6
    assert calls.ask() == "", "it has ended"


def test_nothing_of_a_call_is_kept_alive() -> None:
    calls, argument = Calls(), Argument()
    gone = weakref.ref(argument)
    calls.run_by[getcurrent()] = 1
    calls.run(calls.fetch, (argument,), False)
    del argument
    gc.collect()
    assert gone() is None

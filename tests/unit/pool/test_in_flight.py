"""The unanswered calls of a worker, against a plain list of them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from hybridexec.parent.pool.in_flight import InFlight
from hybridexec.parent.work.batch import Batch

from ..fakes import FUNCTION, OPTIONS, FakeEngine


def batch(size: int) -> Batch:
    sink: Any = FakeEngine()
    return Batch(FUNCTION, [()] * size, sink, OPTIONS, 0)


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.in_flight = InFlight()
        self.model: list[tuple[int, Batch]] = []
        self.batches: list[tuple[Batch, int]] = []  # and how many of its calls were sent
        self.returned: list[tuple[int, Batch]] = []

    @rule(size=st.integers(1, 30))
    def meet_a_batch(self, size: int) -> None:
        self.batches.append((batch(size), 0))

    @rule(which=st.integers(0, 5), count=st.integers(1, 12))
    def send(self, which: int, count: int) -> None:
        if not self.batches:
            return
        which %= len(self.batches)
        made, low = self.batches[which]
        high = min(low + count, made.size)
        self.batches[which] = (made, high)
        if high > low:
            self.in_flight.add(made, low, high)
            self.model += [(made.first + place, made) for place in range(low, high)]

    @rule(which=st.integers(0, 50))
    def answer_one(self, which: int) -> None:
        if self.model:
            call, made = self.model.pop(which % len(self.model))
            assert self.in_flight.pop(call) is made
            self.returned.append((call, made))

    @rule(which=st.integers(0, 50), count=st.integers(1, 10))
    def answer_a_row(self, which: int, count: int) -> None:
        if not self.model:
            return
        first, made = self.model[which % len(self.model)]
        row = [(first, made)]
        while len(row) < count and (first + len(row), made) in self.model:
            row.append((first + len(row), made))
        self.model = [entry for entry in self.model if entry not in row]
        assert self.in_flight.pop_row(first, len(row)) is made

    @rule()
    def send_again_what_came_back(self) -> None:
        if self.returned:
            call, made = self.returned.pop()
            self.in_flight.add(made, call - made.first, call - made.first + 1)
            self.model.append((call, made))

    @invariant()
    def is_as_it_should_be(self) -> None:
        assert self.in_flight.calls() == self.model
        assert len(self.in_flight) == len(self.model)
        assert bool(self.in_flight) == bool(self.model)
        for call, made in self.model:
            assert self.in_flight.get(call) is made
            assert call in self.in_flight
        assert self.in_flight.get(5) is None


TestSent = Machine.TestCase


def test_what_is_not_there_cannot_be_taken_out() -> None:
    sent = InFlight()
    made = batch(3)
    sent.add(made, 0, 2)
    with pytest.raises(KeyError):
        sent.pop(made.first + 2)
    assert len(sent) == 2

"""Futures of a fake engine."""

from __future__ import annotations

from typing import Any

from hybridexec.parent.work.future import CallFuture
from hybridexec.process import Process
from hybridexec.wire import messages

from ..fakes import FUNCTION, OPTIONS, FakeEngine

PATIENCE = 20


def make(argument: Any = "argument") -> tuple[FakeEngine, CallFuture[Any]]:
    engine = FakeEngine()
    keeper: Any = engine
    future: CallFuture[Any] = CallFuture(keeper, FUNCTION, (argument,), OPTIONS)
    engine.submit(future)
    return engine, future


def end(future: CallFuture[Any], status: int = messages.VALUE, value: Any = "value") -> None:
    future.deliver([(0, status, value, None, Process(7), None)])


def call_of(future: CallFuture[Any]) -> int:
    assert future.batch is not None
    return future.batch.first + future.place

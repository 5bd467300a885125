"""Futures of calls: callbacks."""

from __future__ import annotations

import contextlib
import threading
import time
from concurrent.futures import (
    CancelledError,
)
from typing import Any

import pytest

from hybridexec import native
from hybridexec.wire import messages

from .futures import PATIENCE, end, make


@pytest.mark.parametrize("ending", ["value", "cancel", "cancelled in the worker"])
def test_callbacks_are_called_once_with_the_future(ending: str) -> None:
    _, future = make()
    called: list[Any] = []
    future.add_done_callback(lambda f: called.append((f, f.done())))
    if ending == "cancel":
        future.cancel()
    else:
        end(future, messages.VALUE if ending == "value" else messages.CANCELLED)
    assert called == [(future, True)]


def test_a_callback_added_after_the_end_is_called_at_once() -> None:
    _, future = make()
    end(future)
    called: list[Any] = []
    future.add_done_callback(called.append)
    assert called == [future]


def test_a_callback_that_raises_keeps_none_of_the_others_from_theirs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    _, future = make()
    called: list[Any] = []

    def fails(_: Any) -> None:
        raise ValueError("in a callback")

    future.add_done_callback(fails)
    future.add_done_callback(called.append)
    end(future)
    assert called == [future]
    assert future.result() == "value"
    assert "in a callback" in caplog.text


@pytest.fixture
def waits(monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Set when a thread has begun to wait for a future."""
    begun = threading.Event()
    real = native.wait

    def noted(*arguments: Any) -> bool:
        begun.set()
        return real(*arguments)

    monkeypatch.setattr(native, "wait", noted)
    return begun


@pytest.mark.parametrize("ending", ["value", "cancel", "set_result"])
def test_a_thread_that_waits_hears_of_the_end_before_callbacks_do(
    ending: str, waits: threading.Event
) -> None:
    _, future = make()
    told = threading.Event()
    in_time: list[bool] = []

    def wait_for_it() -> None:
        with contextlib.suppress(CancelledError):
            future.result(PATIENCE)
        told.set()

    thread = threading.Thread(target=wait_for_it)
    thread.start()
    assert waits.wait(PATIENCE)
    future.add_done_callback(lambda _: in_time.append(told.wait(PATIENCE / 2)))
    if ending == "value":
        end(future)
    elif ending == "cancel":
        future.cancel()
    else:
        future.set_result("value")
    thread.join(PATIENCE)
    assert in_time == [True]


def test_an_exit_out_of_a_callback_leaves_nobody_waiting(waits: threading.Event) -> None:
    _, future = make()
    got: list[Any] = []
    thread = threading.Thread(target=lambda: got.append(future.result(PATIENCE)))
    thread.start()
    assert waits.wait(PATIENCE)

    def leave(_: object) -> None:
        raise SystemExit

    future.add_done_callback(leave)
    began = time.monotonic()
    with pytest.raises(SystemExit):
        end(future)
    thread.join(PATIENCE)
    assert got == ["value"]
    assert time.monotonic() - began < PATIENCE / 2


@pytest.mark.parametrize("ending", ["value", "cancel"])
def test_callbacks_may_wait_for_threads_that_look_at_the_future(ending: str) -> None:
    _, future = make()
    ended: list[bool] = []

    def look() -> None:
        future.cancelled()
        future.exception(timeout=0) if ending == "value" else future.cancel()

    def callback(_: Any) -> None:
        thread = threading.Thread(target=look, daemon=True)
        thread.start()
        thread.join(PATIENCE)
        ended.append(not thread.is_alive())

    future.add_done_callback(callback)
    future.cancel() if ending == "cancel" else end(future)
    assert ended == [True]

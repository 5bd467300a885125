"""A kind of worker is what the contract says, and no more: the smallest there is works with the
half that all kinds share, over real pipes.

The lane runs in a thread of this process. The test is its parent, and its helper thread.
"""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from hybridexec.wire import frames, messages, payload
from hybridexec.wire.messages import ToWorker
from hybridexec.wire.page import StatusPage, create_fd
from hybridexec.wire.shared import Channel, open_channel
from hybridexec.worker.functions import Functions
from hybridexec.worker.inbound import Inbound
from hybridexec.worker.inbox import Inbox
from hybridexec.worker.lane import Kind, Lane
from hybridexec.worker.late_logs import LateLogs
from hybridexec.worker.outbox import Outbox
from unit.worker import plain_lane

HOW = (None, False, False, None, None, 1)


class Gate:
    """Where calls wait."""

    def __init__(self) -> None:
        self.entered: list[int] = []
        self.passed_by = False
        self.open = threading.Event()


gate = Gate()


def wait_at_gate(n: int) -> int:
    gate.entered.append(n)
    assert gate.open.wait(60)
    return n


def go_on_and_on(n: int) -> None:
    gate.entered.append(n)
    gate.passed_by = True
    while True:
        time.sleep(0.001)


def negate(n: int) -> int:
    return -n


def divide(a: int, b: int) -> float:
    return a / b


FUNCTIONS: dict[int, Callable[..., Any]] = dict(
    enumerate([wait_at_gate, go_on_and_on, negate, divide])
)


class Worker:
    """The worker, as its parent sees it."""

    def __init__(self, initialize: Callable[[], object], kind: Kind = plain_lane) -> None:
        self.errors: list[BaseException] = []
        self.heard: list[tuple[Any, ...]] = []  # heads of frames without results
        self.ended: dict[int, tuple[int, Any]] = {}
        self._fd = create_fd(1)
        self.page = StatusPage(self._fd, 1)
        self._channel, other = open_channel()
        self._other = Channel(other)
        inward, self._calls = os.pipe()
        self._results, outward = os.pipe()
        self._fds = [inward, self._calls, self._results, outward, self._fd]
        self._reader = frames.FrameReader(self._results, self._channel.take)
        made = threading.Event()

        def be_worker() -> None:
            page = StatusPage(self._fd, 1)
            self._loop = plain_lane.loop()
            self.outbox = Outbox(outward, self._other, lambda: None, kind.loop(None))
            inbox, self.functions = Inbox(), Functions(kind.new_lock())
            self.lane: Lane = kind.make(page, inbox, self.functions, self.outbox, lambda: None)
            self.inbound = Inbound(
                inward, self._other, page, inbox, self.functions, self.outbox, self.lane, LateLogs()
            )
            made.set()
            if self.lane.set_up(initialize, self.errors.append):
                self.outbox.put(messages.Hello())
                self.lane.serve(inward, self.inbound.on_readable)
            self.outbox.write()

        self.thread = threading.Thread(target=be_worker)
        self.thread.start()
        made.wait()

    def send(self, message: ToWorker) -> None:
        for buffer in frames.encode(message.head):
            os.write(self._calls, buffer)

    def call(self, function: Callable[..., Any], first: int, *items: Any, **how: Any) -> None:
        """Have calls run with ids in a row."""
        (number,) = [number for number, known in FUNCTIONS.items() if known is function]
        bare = type(items[0]) is not tuple
        reference = payload.dumps(function)
        spans = [(number, how.get("how", HOW), first, list(items), bare, None, 0.0)]
        self.send(messages.Calls([(number, reference, [])], spans))

    def help_out(self) -> None:
        """Do what the helper thread does when it has slept."""
        self.lane.end_turn()
        while self.inbound.read_aside():
            pass
        if self.lane.is_stopping:
            self.lane.insist()
        self.outbox.write()

    def until(self, condition: Callable[[], object]) -> None:
        """Help out and listen until something is so."""
        deadline = time.monotonic() + 60
        poller = select.poll()
        poller.register(self._results, select.POLLIN)
        while not condition():
            assert time.monotonic() < deadline
            self.help_out()
            if not poller.poll(5):
                continue
            for head, segments in self._reader.read() or []:
                if head[0] != messages.Results.kind:
                    self.heard.append(head)
                    continue
                assert not head[2], "this lane makes no rows"
                for call, status, value, _ in head[1]:
                    assert call not in self.ended, "a call ends once"
                    if status == messages.PICKLED:
                        value = payload.loads(frames.extract(value, segments))
                    self.ended[call] = status, value

    def has_heard(self, kind: type[messages.ToParent]) -> Callable[[], object]:
        return lambda: kind.kind in [head[0] for head in self.heard]

    def close(self) -> None:
        gate.open.set()
        if not gate.passed_by:  # what ends by itself is not to be stopped at that moment
            self.until(lambda: not self.page.running())
        self.send(messages.Cancel([*self.page.running()], True))
        self.send(messages.Stop())
        self.until(lambda: not self.thread.is_alive())
        self._loop.close()
        self.page.close()
        self._channel.close()
        self._other.close()
        for fd in self._fds:
            os.close(fd)


@pytest.fixture
def worker() -> Iterator[Worker]:
    global gate
    gate = Gate()
    worker = Worker(lambda: None)
    worker.until(worker.has_heard(messages.Hello))
    yield worker
    worker.close()


@pytest.fixture
def busy(worker: Worker) -> Worker:
    """One whose main thread is kept by call 1, while 2 to 5 wait."""
    worker.call(wait_at_gate, 1, 1)
    worker.until(lambda: gate.entered)
    worker.call(negate, 2, 2, 3, 4, 5)
    worker.help_out()
    return worker


def value(n: object) -> tuple[int, Any]:
    return messages.PICKLED, n


CANCELLED = (messages.CANCELLED, None)


def test_calls_come_in_frames_and_so_leave_their_results(worker: Worker) -> None:
    worker.call(negate, 1, *range(100))
    worker.call(divide, 101, (1, 2), payload.dumps(((3,), {"b": 4})))
    worker.until(lambda: len(worker.ended) == 102)
    assert worker.ended == {
        **{n + 1: value(-n) for n in range(100)},
        101: value(0.5),
        102: value(0.75),
    }
    assert (worker.page.taken, worker.page.running()) == (102, {})


def test_a_call_that_raises_ends_alone(worker: Worker) -> None:
    worker.call(divide, 1, (1, 0), (1, 1))
    worker.until(lambda: len(worker.ended) == 2)
    assert worker.ended[1][0] == messages.ERROR
    assert "builtins.ZeroDivisionError" in worker.ended[1][1]
    assert worker.ended[2] == value(1.0)


def test_the_page_tells_what_runs_and_that_the_loop_does(worker: Worker) -> None:
    worker.until(lambda: worker.page.heartbeat)
    began = time.monotonic()
    worker.call(wait_at_gate, 7, 0)
    worker.until(lambda: gate.entered)
    assert worker.page.taken == 1
    ((call, since),) = worker.page.running().items()
    assert call == 7
    assert began <= since <= time.monotonic()


def test_a_cancelled_call_that_has_not_started_does_not(busy: Worker) -> None:
    busy.send(messages.Cancel([1, 3], False))
    busy.help_out()
    gate.open.set()
    busy.until(lambda: len(busy.ended) == 5)
    assert busy.ended == {1: value(1), 2: value(-2), 3: CANCELLED, 4: value(-4), 5: value(-5)}


def test_a_cancelled_call_that_has_started_is_stopped(worker: Worker) -> None:
    worker.call(go_on_and_on, 1, 1)
    worker.until(lambda: gate.entered)
    worker.call(negate, 2, 2, 3)
    worker.send(messages.Cancel([1, 2], True))
    worker.until(lambda: len(worker.ended) == 3)
    assert worker.ended == {1: CANCELLED, 2: CANCELLED, 3: value(-3)}


def test_a_call_whose_time_is_up_is_stopped_and_no_other(worker: Worker) -> None:
    worker.call(go_on_and_on, 1, 1, how=(0.5, False, True, None, None, 1))
    worker.until(lambda: gate.entered)
    worker.call(negate, 2, 2)
    worker.send(messages.Expire(2))
    worker.send(messages.Expire(1))
    worker.until(lambda: len(worker.ended) == 2)
    assert worker.ended == {1: (messages.TIMED_OUT, 0.5), 2: value(-2)}


def test_recalled_calls_are_given_back(busy: Worker) -> None:
    busy.send(messages.Recall(3))
    busy.until(busy.has_heard(messages.Recalled))
    assert busy.heard[-1] == messages.Recalled([5, 4, 3]).head
    gate.open.set()
    busy.until(lambda: len(busy.ended) == 2)
    assert busy.ended == {1: value(1), 2: value(-2)}
    assert busy.page.taken == 2


def test_a_held_worker_takes_nothing_until_what_it_had_is_reclaimed(busy: Worker) -> None:
    busy.page.hold(1)
    gate.open.set()
    busy.until(lambda: 1 in busy.ended)
    busy.until(lambda: not busy.page.running())
    assert busy.page.taken == 1
    busy.send(messages.Reclaim(1, [4, 5]))
    busy.call(negate, 6, 6)
    busy.until(lambda: len(busy.ended) == 4)
    assert busy.ended == {1: value(1), 2: value(-2), 3: value(-3), 6: value(-6)}


def test_it_says_when_few_calls_are_left(busy: Worker) -> None:
    busy.send(messages.NotifyLow(2))
    busy.help_out()
    assert not busy.has_heard(messages.LowWatermark)()
    gate.open.set()
    busy.until(busy.has_heard(messages.LowWatermark))
    busy.until(lambda: len(busy.ended) == 5)
    busy.heard.clear()
    busy.send(messages.NotifyLow(2))
    busy.until(busy.has_heard(messages.LowWatermark))


def test_it_says_where_the_main_thread_is(busy: Worker) -> None:
    busy.send(messages.Where(("sys", "no.such")))
    busy.until(busy.has_heard(messages.Here))
    _, call, stack, loaded = busy.heard.pop()
    assert call == 1
    assert loaded == ["sys"]
    assert "in wait_at_gate" in stack
    assert "_run_one" not in stack


def test_whoever_asks_itself_is_kept_by_nothing(worker: Worker) -> None:
    here: list[tuple[int, str]] = []
    worker.outbox._soon(lambda: here.append(worker.lane.where()))
    worker.lane.wake()
    worker.until(lambda: here)
    assert here == [(0, "")]


def test_a_forgotten_function_is_let_go(worker: Worker) -> None:
    worker.call(negate, 1, 1)
    worker.until(lambda: worker.ended)
    worker.send(messages.Forget(2))
    worker.until(lambda: not (worker.functions._known or worker.functions.forgotten))


def test_it_stops_when_it_is_told_to(worker: Worker) -> None:
    worker.call(negate, 1, 1)
    worker.until(lambda: worker.ended)
    worker.send(messages.Stop())
    worker.until(lambda: not worker.thread.is_alive())


def test_an_initializer_that_fails_is_told_and_no_call_is_run() -> None:
    worker = Worker(lambda: divide(1, 0))
    worker.thread.join()
    assert [type(error) for error in worker.errors] == [ZeroDivisionError]
    assert not worker.heard
    worker.close()

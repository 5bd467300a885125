"""Asks workers where their calls are, for who looks from outside.

Thread: :meth:`Stacks.ask` on any native thread, which waits; the rest on the turn holder's.
Guarantees: what is told is bounded; no worker is waited for longer than a second and a half.

A worker's helper thread answers even while a call keeps its hub, unless that call holds the GIL:
then faulthandler's dump of the main thread has to do, if it can be had without harm. (Who takes
that takes it from a report of a blocked hub that is about to be made, which then has none.)
"""

from __future__ import annotations

import linecache
from collections.abc import Callable, Mapping
from typing import Any

from ... import native
from ...wire import messages
from ...wire.messages import StackGroup, ToWorker
from ..pool.watchdog import DUMP_SECONDS
from ..pool.worker import Worker
from .hub_monitor import WHY_NO_STACK
from .link import Link

#: How long workers may take to answer, in seconds, and how often that is looked at.
_PATIENCE, _TICK = 1.0, 0.02
#: How many calls of a silent worker are named; characters of its dump, and of a line of source.
_MOST_RUNNING, _LONGEST_DUMP, _LONGEST_SOURCE = 10, 10_000, 200
_Answer = tuple[int, list[StackGroup], int]


class Stacks:
    """One engine's."""

    def __init__(
        self,
        workers: Mapping[int, Worker],
        connections: Mapping[int, Link],
        send: Callable[[int, ToWorker], None],
        post: Callable[..., None],
    ) -> None:
        """
        Args:
            send: sends a message to the worker with this number; in a turn.
            post: has the I/O thread call something, in a turn.
        """
        self._workers, self._connections = workers, connections
        self._send, self._post = send, post
        # Who was asked and has not answered; what the others have said.
        self._asked: set[int] = set()
        self._answers: dict[int, _Answer] = {}
        self._dumps: dict[int, tuple[str, str]] = {}

    # -- in a turn --------------------------------------------------------------------------------

    def answered(
        self, number: int, now: float, current: int, groups: list[StackGroup], more: int
    ) -> None:
        """A worker has answered."""
        if number in self._asked:
            self._answers[number] = current, groups, more
            self._asked.discard(number)

    def _ask(self, told: list[bool]) -> None:
        self._answers, self._dumps = {}, {}
        self._asked = set(self._connections)
        for number in self._asked:
            self._send(number, messages.ShowStacks())
        told.append(True)

    def _dump(self, told: list[bool]) -> None:
        for number in self._asked & self._connections.keys():
            self._connections[number].request_dump()
        told.append(True)

    def _take(self, told: list[bool]) -> None:
        for number in self._asked & self._connections.keys():
            connection = self._connections[number]
            why = WHY_NO_STACK.get(connection.state or "", "it does not answer")
            self._dumps[number] = connection.take_dump(), why
        self._asked = set()
        told.append(True)

    # -- on the thread of who asks ----------------------------------------------------------------

    def ask(self) -> list[dict[str, Any]]:
        """Where the calls of each worker are, as JSON has it: see ``watching.stacks``."""
        self._do(self._ask)
        _wait(lambda: not self._asked & self._connections.keys())
        if self._asked & self._connections.keys():
            self._do(self._dump)
            native.sleep(DUMP_SECONDS)
        self._do(self._take)
        answers, dumps = self._answers, self._dumps
        return [
            self._told(worker, answers.get(worker.id), dumps.get(worker.id))
            for worker in list(self._workers.values())
        ]

    def _do(self, step: Callable[[list[bool]], None]) -> None:
        told: list[bool] = []
        self._post(step, told)
        _wait(lambda: bool(told))

    def _told(
        self, worker: Worker, answer: _Answer | None, dump: tuple[str, str] | None
    ) -> dict[str, Any]:
        try:
            since = worker.page.running()
        except ValueError:  # it has just ended
            since = {}
        current, groups, more = answer or (0, [], 0)
        text, why = dump or ("", "it is not ready, or ending")
        # Of a worker that is silent, the latest: one of these has the GIL.
        latest = [] if answer else sorted(since, key=since.__getitem__)[: -_MOST_RUNNING - 1 : -1]

        def calls(ids: list[int]) -> list[dict[str, Any]]:
            return [
                {"call": self._text(worker, call), "seconds": _age(since.get(call))}
                for call in ids
                if call
            ]

        return {
            "worker": worker.id,
            "pid": worker.pid,
            "node": worker.process.node,
            "state": worker.state.value,
            "kept_by": self._text(worker, current) if current else None,
            "groups": [
                {"count": count, "calls": calls(ids), "stack": list(map(_frame, places))}
                for count, ids, places in groups
            ],
            "more": more if answer else len(since) - len(latest),
            "no_answer": "" if answer else why,
            "dump": text[:_LONGEST_DUMP],
            "running": calls(latest),
        }

    def _text(self, worker: Worker, call: int) -> str:
        batch = worker.in_flight.get(call)
        return "a call that has ended" if batch is None else batch.text(call - batch.first)


def _wait(condition: Callable[[], bool]) -> None:
    end = native.monotonic() + _PATIENCE
    while not condition() and native.monotonic() < end:
        native.sleep(_TICK)


def _age(since: float | None) -> float | None:
    return None if since is None else max(0.0, native.monotonic() - since)


def _frame(place: tuple[str, int, str]) -> dict[str, Any]:
    file, line, function = place
    source = linecache.getline(file, line).strip()[:_LONGEST_SOURCE]
    return {"file": file, "line": line, "function": function, "source": source}

"""Both ends of a connection: what is sent arrives in order; an end that hears nothing closes it."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

pytest.importorskip("distributed")

from hybridexec.cluster import post
from hybridexec.cluster.post import Item, Post


class Comm:
    """An end of a connection in memory."""

    def __init__(self) -> None:
        self.arrived: asyncio.Queue[Any] = asyncio.Queue()
        self.other: Comm
        self.messages = 0
        self.deaf = False

    async def write(self, message: Any) -> None:
        self.messages += 1
        if not self.other.deaf:
            self.other.arrived.put_nowait(message)

    async def read(self) -> Any:
        message = await self.arrived.get()
        if message is None:
            raise OSError("the connection has ended")
        return message

    def abort(self) -> None:
        self.other.arrived.put_nowait(None)


def pair() -> tuple[Comm, Comm]:
    one, other = Comm(), Comm()
    one.other, other.other = other, one
    return one, other


def end_of(comm: Comm, got: list[Item]) -> Post:
    return Post(comm, got.append, lambda: ["pulse"])


def without_pulses(items: list[Item]) -> list[Item]:
    return [item for item in items if item != ["pulse"]]


def test_items_arrive_in_order_and_few_messages_carry_them() -> None:
    async def main() -> None:
        ours, theirs = pair()
        got: list[Item] = []
        one, other = end_of(ours, []), end_of(theirs, got)
        for n in range(1000):
            one.send(["data", n], 10)
        running = [asyncio.create_task(each.run()) for each in (one, other)]
        one.close()
        await asyncio.wait_for(asyncio.gather(*running), 30)
        assert without_pulses(got) == [["data", n] for n in range(1000)]
        assert ours.messages < 5

    asyncio.run(main())


def test_other_threads_may_send() -> None:
    async def main() -> None:
        ours, theirs = pair()
        got: list[Item] = []
        one, other = end_of(ours, []), end_of(theirs, got)
        running = [asyncio.create_task(each.run()) for each in (one, other)]

        def send() -> None:
            for n in range(100):
                one.send(["data", n], 1)
            one.close()

        threading.Thread(target=send).start()
        await asyncio.wait_for(asyncio.gather(*running), 30)
        assert without_pulses(got) == [["data", n] for n in range(100)]

    asyncio.run(main())


def test_large_items_are_in_messages_of_their_own() -> None:
    async def main() -> None:
        ours, theirs = pair()
        got: list[Item] = []
        one, other = end_of(ours, []), end_of(theirs, got)
        for n in range(4):
            one.send(["data", n], 2 * 1024 * 1024)
        running = [asyncio.create_task(each.run()) for each in (one, other)]
        one.close()
        await asyncio.wait_for(asyncio.gather(*running), 30)
        assert len(without_pulses(got)) == 4
        assert ours.messages >= 4

    asyncio.run(main())


def test_an_end_that_hears_nothing_closes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(post, "PULSE_SECONDS", 0.01)
    monkeypatch.setattr(post, "SILENT_SECONDS", 0.05)

    async def main() -> None:
        ours, theirs = pair()
        ours.deaf = True
        one, other = end_of(ours, []), end_of(theirs, [])
        running = [asyncio.create_task(each.run()) for each in (one, other)]
        await asyncio.wait_for(asyncio.gather(*running), 30)
        assert "nothing was heard" in one.why
        assert "the connection has ended" in other.why
        assert one.closed
        assert other.closed

    asyncio.run(main())

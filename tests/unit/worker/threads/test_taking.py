"""Taking calls from the inbox: counted before, never twice, and not what must not be taken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from hybridexec.wire import fragments, messages, payload
from hybridexec.wire.page import StatusPage, create_fd
from hybridexec.worker.inbox import Inbox, Job, Span
from hybridexec.worker.threads.taking import Taken, Taking

HOW = (None, False, False, None, None, 1)


class World:
    """An inbox, and what was put out and begun."""

    def __init__(self) -> None:
        self.page = StatusPage(create_fd(1), 1)
        self.inbox = Inbox()
        self.put: list[Any] = []
        self.running: set[int] = set()
        self.taking = Taking(self.page, self.inbox, self.put.append)

    def take(self) -> Taken | None:
        return self.taking.take(self.running.add, self.running.discard)

    def add(self, first: int, *items: Any, bare: bool = True, prelude: bytes | None = None) -> None:
        self.inbox.add(Span(Job(1, HOW), first, items, bare, prelude))


@pytest.fixture
def world() -> Iterator[World]:
    world = World()
    yield world
    world.page.close()


def test_calls_are_taken_in_order_and_counted(world: World) -> None:
    world.add(1, "a", "b")
    world.add(7, ("c", 1), payload.dumps(((2,), {"k": 3})), bare=False)
    assert world.taking.waiting == 4
    taken = [world.take() for _ in range(4)]
    assert [t and t.call for t in taken] == [1, 2, 7, 8]
    assert [t and t.arguments() for t in taken] == [
        (("a",), {}), (("b",), {}), (("c", 1), {}), ((2,), {"k": 3})
    ]  # fmt: skip
    assert world.running == {1, 2, 7, 8}
    assert world.page.taken == 4
    assert (world.take(), world.taking.waiting) == (None, 0)
    assert world.page.taken == 4


def test_a_held_worker_takes_nothing(world: World) -> None:
    world.add(1, "a")
    world.page.hold(1)
    assert (world.take(), world.taking.waiting, world.page.taken) == (None, 0, 0)
    assert not world.running
    world.inbox.reclaim(1, [])
    assert world.take() is not None


def test_what_was_dropped_ends_as_cancelled(world: World) -> None:
    world.add(1, "a", "b", "c")
    world.inbox.drop([1, 2])
    taken = world.take()
    assert taken is not None
    assert taken.call == 3
    assert world.put == [(call, messages.CANCELLED, None, None) for call in (1, 2)]
    assert world.running == {3}
    assert not world.inbox.dropped


def test_it_is_said_when_few_are_left(world: World) -> None:
    world.add(1, "a", "b", "c")
    assert not world.inbox.notify_low(1, world.page.taken)
    world.take()
    assert not world.put
    world.take()
    assert [type(entry) for entry in world.put] == [messages.LowWatermark]


@pytest.mark.parametrize("bare", [True, False])
def test_fragments_are_unpickled(world: World, bare: bool) -> None:
    values: list[Any] = [{"n": n} if bare else ({"n": n},) for n in range(100)]
    packer = fragments.Packer()
    packed = packer.pack_all(values)
    world.add(1, *packed, bare=bare, prelude=packer.prelude)
    world.inbox.drop([5])
    arguments = [taken.arguments() for taken in iter(world.take, None)]
    assert arguments == [(({"n": n},), {}) for n in range(100) if n != 4]


def test_a_fragment_that_cannot_be_unpickled_fails_its_call(world: World) -> None:
    packer = fragments.Packer()
    good, other = packer.pack_all([{"n": 1}, {"n": 2}])
    world.add(1, good, b"\xff", other, prelude=packer.prelude)
    taken = [*iter(world.take, None)]
    assert taken[0].arguments() == (({"n": 1},), {})
    with pytest.raises(Exception, match=r".+"):
        taken[1].arguments()
    assert taken[2].arguments() == (({"n": 2},), {})


def test_many_threads_take_each_call_once_while_some_are_taken_back(world: World) -> None:
    lock = threading.Lock()
    taken: list[int] = []
    back: list[int] = []
    done = threading.Event()

    def take() -> None:
        while not done.is_set() or world.taking.waiting:
            with lock:
                found = world.take()
            if found is not None:
                taken.append(found.call)

    threads = [threading.Thread(target=take) for _ in range(3)]
    for thread in threads:
        thread.start()
    for first in range(1, 20_000, 100):
        world.add(first, *range(100))
        back += world.inbox.take_back(7)
    done.set()
    for thread in threads:
        thread.join(30)
    assert sorted(taken + back) == [*range(1, 20_001)]
    assert world.page.taken == len(taken)

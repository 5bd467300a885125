"""Many objects are made without garbage collections, and the collector goes on as it was set."""

from __future__ import annotations

import gc
import marshal
from collections.abc import Iterator

import pytest

from hybridexec.wire.fragments import Packer, load_all
from hybridexec.wire.uncollected import uncollected


@pytest.fixture
def collections() -> Iterator[list[int]]:
    """The generations that were collected, with a low threshold; it is put back in the end."""
    collected: list[int] = []

    def note(phase: str, info: dict[str, int]) -> None:
        if phase == "start":
            collected.append(info["generation"])

    before = gc.get_threshold()
    gc.collect()
    gc.set_threshold(500)
    gc.callbacks.append(note)
    try:
        yield collected
    finally:
        gc.callbacks.remove(note)
        gc.set_threshold(*before)


def test_what_is_made_at_once_is_not_looked_at_meanwhile(collections: list[int]) -> None:
    dumped = marshal.dumps([[number] for number in range(20_000)])
    del collections[:]
    assert len(uncollected(marshal.loads, dumped)) == 20_000
    assert len(collections) <= 2  # none meanwhile, and one when it is done


def test_fragments_are_unpickled_without_collections(collections: list[int]) -> None:
    packer = Packer()
    fragments = [packer.pack([number]) for number in range(20_000)]
    del collections[:]
    values = load_all(packer.prelude, [each for each in fragments if each is not None])
    assert values[-1] == [19_999]
    assert len(collections) <= 2


def test_the_collector_goes_on_as_it_was_set(collections: list[int]) -> None:
    uncollected(list, "text")
    assert gc.get_threshold()[0] == 500
    with pytest.raises(ZeroDivisionError):
        uncollected(lambda: 1 / 0)
    assert gc.get_threshold()[0] == 500


def test_it_stays_as_it_is_set_meanwhile(collections: list[int]) -> None:
    uncollected(gc.set_threshold, 600)
    assert gc.get_threshold()[0] == 600
    uncollected(gc.disable)
    try:
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_one_within_another_leaves_it_to_the_first(collections: list[int]) -> None:
    assert uncollected(uncollected, list, "ab") == ["a", "b"]
    assert gc.get_threshold()[0] == 500

"""The two sides of a channel for memory files."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest

from hybridexec.wire import shared
from hybridexec.wire.parts import SHARED_FROM

from .memory_files import Sides, files, mapped


@pytest.fixture
def nothing_left() -> Iterator[None]:
    """Each test begins without files, and leaves none but spare ones."""
    gc.collect()  # what other tests have left in circles
    shared._spares.clear()
    assert files() == []
    yield
    gc.collect()
    shared._spares.clear()
    assert files() == []
    assert not mapped()


@pytest.fixture
def sides() -> Iterator[Sides]:
    sides = Sides()
    yield sides
    sides.close()


@pytest.fixture
def later() -> Iterator[Sides]:
    """As the parent does, the reader copies large parts when they are unpickled."""
    sides = Sides(later=True)
    yield sides
    sides.close()


@pytest.fixture
def map_all(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is shared is mapped by its readers, and so never written again."""
    monkeypatch.setattr(shared, "MAPPED_FROM", SHARED_FROM)
    monkeypatch.setattr(shared, "_LARGEST_SPARE", 0)

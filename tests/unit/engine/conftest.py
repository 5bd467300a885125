"""A connection to a fake process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .connections import Ends


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.close()

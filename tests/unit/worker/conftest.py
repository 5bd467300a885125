"""What several files' tests of the worker's half begin with."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from .outbox_ends import Ends


@pytest.fixture
def ends() -> Iterator[Ends]:
    ends = Ends()
    yield ends
    ends.channel.close()
    ends.worker_channel.close()
    os.close(ends.read_fd)
    os.close(ends.write_fd)

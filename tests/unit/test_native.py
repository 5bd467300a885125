"""What stands between us and the operating system."""

from __future__ import annotations

import os

import pytest

from hybridexec import native


@pytest.mark.parametrize("seconds", [3e6, 1e300])
def test_a_wait_may_be_longer_than_the_system_can_count(seconds: float) -> None:
    poller = native.Poller()
    reader, writer = os.pipe()
    try:
        poller.register(reader, native.Poller.READABLE)
        os.write(writer, b"x")
        assert poller.wait(seconds) == [(reader, native.Poller.READABLE)]
    finally:
        poller.close()
        os.close(reader)
        os.close(writer)

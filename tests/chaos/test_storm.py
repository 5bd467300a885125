"""Storms, one after another, on each start method."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from hybridexec.options import OnWorkerLoss

from . import conftest
from .storm import Storm


@pytest.mark.slow
@pytest.mark.timeout(conftest.SECONDS + 300)
def test_a_storm_loses_no_call_and_leaves_nothing(
    method: str, mode: OnWorkerLoss, tmp_path: Path, nothing_left: Callable[[], None]
) -> None:
    end = time.monotonic() + conftest.SECONDS
    seed = conftest.SEED
    while time.monotonic() < end:
        print(f"seed {seed}, {method}, {mode}", flush=True)
        folder = tmp_path / f"storm-{seed}"
        folder.mkdir()
        Storm(seed, method, mode, folder).blow(seconds=2)
        nothing_left()
        seed += 1

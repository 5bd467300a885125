"""The seed of a run, and what there was before it."""

from __future__ import annotations

import gc
import multiprocessing
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from hybridexec import HybridExecutor
from hybridexec.options import OnWorkerLoss

from . import calls
from .leftovers import Belongings, belongings, left_behind

METHODS = ["forkserver", "spawn"]
#: Values of ``on_worker_loss``.
MODES = ["fail", "retry"]


def pytest_report_header() -> str:
    return f"chaos seed: {SEED} (HYBRIDEXEC_CHAOS_SEED={SEED} makes the same plans again)"


#: The first storm's; the next have the numbers after it.
SEED = int(os.environ.get("HYBRIDEXEC_CHAOS_SEED") or random.SystemRandom().randrange(10**6))
#: How long the storms of one start method and ``on_worker_loss`` blow, in all.
SECONDS = float(os.environ.get("HYBRIDEXEC_CHAOS_SECONDS") or 20)


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> str:
    """Each start method in turn."""
    return str(request.param)


@pytest.fixture(params=MODES)
def mode(request: pytest.FixtureRequest) -> OnWorkerLoss:
    """Each ``on_worker_loss`` in turn."""
    mode: OnWorkerLoss = request.param
    return mode


@pytest.fixture
def nothing_left(
    method: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[], None]]:
    """Fails the test if this process has more than before, whenever called and at the end."""
    # A temporary directory of the test's own: in the common one others come and go.
    own = tmp_path / "temporary"
    own.mkdir()
    monkeypatch.setenv("TMPDIR", str(own))
    monkeypatch.setattr(tempfile, "tempdir", str(own))
    # Modules and the resource tracker stay.
    with HybridExecutor(1, multiprocessing.get_context(method)) as warm_up:
        warm_up.submit(calls.plan_item, 7).result()
    before: Belongings = {}

    def check() -> None:
        more = left_behind(before) if before else {}
        assert not more, f"left behind: {more}"

    gc.collect()
    before.update(belongings())
    yield check
    check()

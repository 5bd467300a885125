"""CPython's own tests of concurrent.futures and of multiprocessing.Pool, with ours in the place of
ProcessPoolExecutor and Pool."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest
from exclusions import EXCLUDED, POOL_EXCLUDED, POOL_EXCLUDED_WITH_FORK

RUNNER = Path(__file__).with_name("runner.py")
POOL_RUNNER = Path(__file__).with_name("pool_runner.py")
SHIPPED = importlib.util.find_spec("test.test_concurrent_futures") is not None

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not SHIPPED or sys.version_info < (3, 12), reason="this Python does not ship the test suite"
    ),
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("concurrency", [1, 0], ids=["one-at-a-time", "default"])
@pytest.mark.parametrize("method", ["forkserver", "spawn", "fork"])
def test_the_suite(method: str, concurrency: int) -> None:
    run = subprocess.run(
        [sys.executable, str(RUNNER), method, str(concurrency)],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=550,
    )
    assert run.returncode == 0, run.stdout[-8000:]
    ran = re.search(r"Ran (\d+) tests", run.stdout)
    assert ran is not None
    assert int(ran[1]) > 40, "nearly all tests were meant to run"


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("method", "concurrency"), [("forkserver", 1), ("forkserver", 20), ("spawn", 1), ("fork", 1)]
)
def test_the_pools(method: str, concurrency: int) -> None:
    run = subprocess.run(
        [sys.executable, str(POOL_RUNNER), method, str(concurrency)],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=250,
    )
    assert run.returncode == 0, run.stdout[-8000:]
    ran = re.search(r"Ran (\d+) tests", run.stdout)
    assert ran is not None
    assert int(ran[1]) >= 28, "nearly all tests were meant to run"


@pytest.mark.parametrize("method", ["forkserver", "spawn"])
def test_nothing_leaks_when_an_initializer_fails(method: str) -> None:
    run = subprocess.run(
        [sys.executable, str(RUNNER), method, "0", "resources"],
        check=False,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )
    assert run.returncode == 0, run.stdout[-8000:]
    assert "Ran 1 test" in run.stdout


def test_every_exclusion_has_a_reason_and_a_test_of_ours() -> None:
    tests = Path(__file__).parents[1]
    excluded = EXCLUDED | POOL_EXCLUDED | POOL_EXCLUDED_WITH_FORK
    for name, reason in excluded.items():
        kind, _, replacement = reason.partition(": ")
        assert kind, name
        file, _, function = replacement.partition("::")
        assert f"def {function}(" in (tests / file).read_text(encoding="utf-8"), name

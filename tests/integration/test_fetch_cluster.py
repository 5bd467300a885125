"""examples/fetch_cluster.py does what it says, with a real scheduler, nodes and a real SIGKILL."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from fetching import EXAMPLES, PATIENCE

pytest.importorskip("distributed")


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(EXAMPLES / "fetch_cluster.py"), *map(str, arguments)]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=2 * PATIENCE, check=False
    )


def rows(done: subprocess.CompletedProcess[str]) -> dict[str, str]:
    return {line[:12].strip(): line[13:] for line in done.stdout.splitlines()[1:]}


@pytest.mark.slow
def test_a_node_is_killed_and_no_url_is_lost() -> None:
    done = run("--count", 8_000, "--concurrency", 100)
    assert done.returncode == 0
    (logged,) = done.stderr.splitlines()
    assert logged.startswith("node node-2 was lost")
    found = rows(done)
    assert found["URLs"].startswith("8,000 in ")
    assert found["outcomes"] == "8,000 × 200"
    assert found["killed"] == "node-2, when 4,000 were there"
    # The node had calls when it went, at most as many as were sent ahead.
    assert int(re.match(r"[\d,]+", found["ran again"])[0].replace(",", "")) > 0
    assert found["lost"] == "0, and 0 came twice"


@pytest.mark.slow
def test_without_the_accident_no_url_is_fetched_again() -> None:
    done = run("--count", 500, "--concurrency", 50, "--survive")
    assert (done.returncode, done.stderr) == (0, "")
    assert rows(done)["outcomes"] == "500 × 200"
    assert rows(done)["killed"] == "none"
    assert "ran again" not in rows(done)


@pytest.mark.slow
def test_one_node_is_too_few_to_lose_one() -> None:
    done = run("--nodes", 1)
    assert done.returncode == 2
    assert "at least two" in done.stderr

"""The same faults, done to each contender: ``python -m benchmarks.faults`` prints the table.

Every scenario runs in a process of its own with a time limit (:mod:`~benchmarks.faults.scenarios`);
here what was seen becomes a few words.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

from ..harness import machine
from .pools import CONTENDERS
from .scenarios import NEIGHBOURS, SCENARIOS

#: Seconds after which a scenario as a whole is given up.
LIMIT = 60.0
#: Seconds that children have to notice that their parent was killed.
GRACE = 5.0


def words(seen: dict[str, Any]) -> str:
    """What became of it, in a few words."""
    if "skip" in seen:
        return f"not run: {seen['skip']}"
    if "failed" in seen:
        return f"the scenario failed: {seen['failed']}"
    if "left" in seen:
        return f"{seen['left']} processes left" if seen["left"] else "nothing left"
    if "told" in seen:
        return _words_of_stop(seen)
    if "says why" in seen:
        return _words_of_initializer(seen)
    return _words_of_calls(seen)


def _words_of_calls(seen: dict[str, Any]) -> str:
    parts = []
    others = seen.get("others", {})
    failed = sum(n for end, n in others.items() if end not in ("right", "never"))
    if failed:
        parts.append(f"{failed} of {NEIGHBOURS} other calls fail")
    if never := others.get("never"):
        parts.append(f"{never} of {NEIGHBOURS} other calls hang")
    culprit = seen.get("culprit", "right")
    if culprit == "never":
        parts.append("that call hangs")
    elif culprit != "right":
        parts.insert(0, f"that call fails ({culprit})")
    if seen["after"] == "never":
        parts.append("the pool hangs")
    elif seen["after"] != "right":
        parts.append("**the pool is broken**")
    if seen.get("shutdown hangs"):
        parts.append("shutdown hangs")
    return "; ".join(parts) or "no call is harmed"


def _words_of_stop(seen: dict[str, Any]) -> str:
    if seen["run on"]:
        return "callers are told, the calls run on" if seen["told"] else "the calls run on"
    if not seen["told"]:
        return "stopped, callers wait on"
    return (
        "stopped, the worker lives on" if seen["workers live on"] else "stopped, with their workers"
    )


def _words_of_initializer(seen: dict[str, Any]) -> str:
    if seen["error"] == "never":
        return "calls hang"
    if seen["error"] == "none":
        return "calls run all the same"
    return f"{seen['error']}, {'which says why' if seen['says why'] else 'without the reason'}"


def observe(scenario: str, contender: str) -> dict[str, Any]:
    """Run one scenario in a process of its own."""
    command = [sys.executable, "-m", f"{__package__}.scenarios", scenario, contender]
    # Files, not pipes: what outlives its parent would keep a pipe open.
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        output, errors = Path(folder, "output"), Path(folder, "errors")
        with output.open("w") as out, errors.open("w") as err:
            child = subprocess.Popen(
                command,
                stdout=out,
                stderr=err,
                start_new_session=True,
                env={**os.environ, "TMPDIR": folder},
            )
            try:
                return _watch(child, output, errors)
            finally:
                _end_session(child)


def _watch(child: subprocess.Popen[bytes], output: Path, errors: Path) -> dict[str, Any]:
    deadline = time.monotonic() + LIMIT
    while time.monotonic() < deadline:
        ended = child.poll() is not None
        seen = _last_line(output)
        if seen is not None and "kill me" in seen:
            family = _family(seen["kill me"])
            child.kill()
            child.wait()
            return {"left": _left_of(family)}
        if seen is not None:
            return seen
        if ended:
            lines = errors.read_text().strip().splitlines()
            return {"failed": lines[-1] if lines else f"exit code {child.returncode}"}
        time.sleep(0.02)
    return {"failed": f"no answer in {LIMIT:.0f} s"}


def _last_line(output: Path) -> dict[str, Any] | None:
    for line in reversed(output.read_text().splitlines()):
        try:
            seen = json.loads(line)
        except ValueError:
            continue
        if isinstance(seen, dict):
            return seen
    return None


def _family(pids: list[int]) -> list[psutil.Process]:
    """The processes by these pids, which know if a pid goes to somebody else."""
    found = []
    for pid in pids:
        with contextlib.suppress(psutil.NoSuchProcess):
            found.append(psutil.Process(pid))
    return found


def _left_of(family: list[psutil.Process]) -> int:
    deadline = time.monotonic() + GRACE
    while (left := sum(map(_is_alive, family))) and time.monotonic() < deadline:
        time.sleep(0.05)
    for process in family:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return left


def _is_alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def _end_session(child: subprocess.Popen[bytes]) -> None:
    for process in psutil.process_iter():
        try:
            # multiprocessing's resource trackers end by themselves, after they have tidied up.
            tracks = "resource_tracker" in str(process.cmdline())
            if os.getsid(process.pid) == child.pid and not tracks:
                process.kill()
        except (ProcessLookupError, psutil.Error):
            continue
    child.wait()


def main(arguments: list[str] | None = None) -> None:
    """Print the table that the command line asks for, as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.faults", description=__doc__)
    parser.add_argument("--only", nargs="+", metavar="CONTENDER", choices=CONTENDERS)
    parser.add_argument("--match", default="", metavar="TEXT", help="scenarios with TEXT in them")
    options = parser.parse_args(arguments)
    contenders = options.only or CONTENDERS
    command = shlex.join(["python", "-m", "benchmarks.faults", *(arguments or sys.argv[1:])])
    facts = ", ".join(f"{name} {fact}" for name, fact in machine.describe().items())
    print(f"`{command}`, {time.strftime('%Y-%m-%d')}: {facts}\n")
    print(f"| | {' | '.join(contenders)} |")
    print(f"|---|{'---|' * len(contenders)}", flush=True)
    for scenario in SCENARIOS:
        if options.match in scenario:
            cells = [words(observe(scenario, contender)) for contender in contenders]
            print(f"| {scenario} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()

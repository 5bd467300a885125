"""Run a scenario in a process of its own with a time limit, and see what becomes of it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import psutil

#: Seconds after which a scenario as a whole is given up.
LIMIT = 60.0
#: Seconds that children have to notice that their parent was killed.
GRACE = 5.0


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

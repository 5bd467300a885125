"""Runs of examples/fetch_urls.py as a script of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psutil

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"


SCRIPT = EXAMPLES / "fetch_urls.py"


#: Seconds that nothing here should need.
PATIENCE = 60


def command(*arguments: object) -> list[str]:
    small = ("--concurrency", "50", "--no-compare")
    return [sys.executable, str(SCRIPT), *small, *map(str, arguments)]


def run(*arguments: object, stdin: str | bytes = b"") -> subprocess.CompletedProcess[str]:
    if isinstance(stdin, str):
        stdin = stdin.encode()
    done = subprocess.run(
        command(*arguments), input=stdin, capture_output=True, timeout=PATIENCE, check=False
    )
    return subprocess.CompletedProcess(
        done.args, done.returncode, done.stdout.decode(), done.stderr.decode()
    )


@contextlib.contextmanager
def started(*arguments: object, **options: Any) -> Iterator[subprocess.Popen[str]]:
    """The script at work, in a process group of its own; killed if the test leaves it behind."""
    with subprocess.Popen(
        command(*arguments), text=True, start_new_session=True, **options
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)


def rows(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def wait_until(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"still not so: {what}"
        time.sleep(0.01)


def living_members(group: int) -> list[psutil.Process]:
    members = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members


def answers(url: str) -> bool:
    address = urlsplit(url)
    try:
        socket.create_connection((address.hostname or "", address.port or 80)).close()
    except ConnectionRefusedError:
        return False
    return True

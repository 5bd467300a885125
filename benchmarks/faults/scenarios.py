"""One fault, done to one contender, in a process of its own; prints what was seen.

    python -m benchmarks.faults.scenarios SCENARIO CONTENDER

The last line of its output is a JSON object; :mod:`~benchmarks.faults.words` makes words of it.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..harness.question import Skip
from . import calls
from .pools import WORKERS, open_pool

#: Seconds after which something that has not ended is said to hang.
PATIENCE = 6.0
#: Calls that are in flight beside the bad one, or wait for a worker.
NEIGHBOURS = 20

Seen = dict[str, Any]


def end_of(call: Any, right: Any, deadline: float) -> str:
    """ "right", "wrong", "never", or the name of the error a call ended with."""
    try:
        value = call.result(max(0.01, deadline - time.monotonic()))
    except BaseException as error:
        # A call's own timeout looks like ours, but comes before it.
        if _is_timeout(error) and time.monotonic() >= deadline - 0.005:
            return "never"
        return type(error).__name__
    return "right" if value == right else "wrong"


def _is_timeout(error: BaseException) -> bool:
    # multiprocessing has its own, by the same name.
    return isinstance(error, TimeoutError | multiprocessing.TimeoutError)


def among_neighbours(pool: Any, bad: Callable[[], Any]) -> Seen:
    """Half of the neighbours, the bad call, the other half; then one more call."""
    for call in [pool.submit(calls.work, n) for n in range(2 * WORKERS)]:
        call.result(30)  # all workers are up
    try:
        neighbours = [pool.submit(calls.work, n) for n in range(NEIGHBOURS // 2)]
        culprit = bad()
        neighbours += [pool.submit(calls.work, n) for n in range(NEIGHBOURS // 2, NEIGHBOURS)]
    except Exception as error:
        return {"after": f"submit raised {type(error).__name__}"}
    # With two at a time the neighbours take 5 s.
    deadline = time.monotonic() + 0.5 * NEIGHBOURS / WORKERS + PATIENCE
    ends = Counter(end_of(call, n * 7, deadline) for n, call in enumerate(neighbours))
    return {
        "culprit": end_of(culprit, None, deadline),
        "others": dict(ends),
        "after": _after(pool),
    }


def _after(pool: Any) -> str:
    try:
        call = pool.submit(calls.work, 1)
    except Exception as error:
        return f"submit raised {type(error).__name__}"
    return end_of(call, 7, time.monotonic() + PATIENCE)


def _bad_call(function: Callable[..., Any], *arguments: Any) -> Callable[[str], Seen]:
    def scenario(contender: str) -> Seen:
        pool = open_pool(contender)
        seen = among_neighbours(pool, lambda: pool.submit(function, *arguments))
        return seen | _end(pool)

    return scenario


def killed(contender: str) -> Seen:
    """SIGKILL from outside for the worker that runs one of the calls."""
    pool = open_pool(contender)
    path = _path()

    def bad() -> Any:
        call = pool.submit(calls.sleep_on, str(path))
        threading.Thread(
            target=lambda: os.kill(_pids(path, 1)[0], signal.SIGKILL), daemon=True
        ).start()
        return call

    return among_neighbours(pool, bad) | _end(pool)


def killed_idle(contender: str) -> Seen:
    """SIGKILL for a worker that has nothing to do; then a second's pause, and a call."""
    pool = open_pool(contender)
    pid = pool.submit(calls.tell_pid, str(_path())).result(30)
    os.kill(pid, signal.SIGKILL)
    time.sleep(1)
    return {"after": _after(pool)} | _end(pool)


def _stuck(function: Callable[[str], None]) -> Callable[[str], Seen]:
    def scenario(contender: str) -> Seen:
        """Endless calls in all workers, to be stopped after a second by what means there are."""
        pool = open_pool(contender)
        path = _path()
        endless = [pool.submit_limited(1.0, function, str(path)) for _ in range(WORKERS)]
        started = _pids(path, WORKERS)
        deadline = time.monotonic() + PATIENCE
        told = [end_of(call, None, deadline) != "never" for call in endless]
        while running := _running(path, started):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        alive = all(Path(f"/proc/{pid}").exists() for pid in started)
        return {"told": all(told), "run on": bool(running), "workers live on": alive}

    return scenario


def _running(path: Path, started: list[int]) -> Counter[int]:
    """Which of the calls that have started neither were stopped nor went with their process."""
    stopped = path.with_name(path.name + calls.STOPPED)
    ended = map(int, stopped.read_text(encoding="ascii").split()) if stopped.exists() else ()
    return Counter(pid for pid in started if Path(f"/proc/{pid}").exists()) - Counter(ended)


def bad_initializer(contender: str) -> Seen:
    """Each worker's initializer raises."""
    try:
        pool = open_pool(contender, calls.fail_to_start)
        call = pool.submit(calls.take, 1)
    except Exception as error:
        return {"error": type(error).__name__, "says why": _says_why(error)}
    try:
        call.result(PATIENCE)
    except BaseException as error:
        if _is_timeout(error):
            return {"error": "never", "says why": False}
        return {"error": type(error).__name__, "says why": _says_why(error)}
    return {"error": "none", "says why": False}


def _says_why(error: BaseException) -> bool:
    return "no licence" in f"{error} {error.__cause__}"


def _orphans(function: Callable[[str], None]) -> Callable[[str], Seen]:
    def scenario(contender: str) -> Seen:
        """Report the family to whoever kills this process, and wait for that."""
        import psutil

        pool = open_pool(contender)
        path = _path()
        endless = [pool.submit(function, str(path)) for _ in range(WORKERS)]
        _pids(path, WORKERS)
        family = [child.pid for child in psutil.Process().children(recursive=True)]
        print(json.dumps({"kill me": family}), flush=True)
        endless[0].result(600)
        raise AssertionError("nobody has killed this process")

    return scenario


def _end(pool: Any) -> Seen:
    ender = threading.Thread(target=pool.end, daemon=True)
    ender.start()
    ender.join(PATIENCE)
    return {"shutdown hangs": ender.is_alive()}


def _path() -> Path:
    return Path(tempfile.mkdtemp(prefix="faults-")) / "pids"


def _pids(path: Path, count: int) -> list[int]:
    """The pids that calls have told, once there are so many, or as many as come at all."""
    told: list[str] = []
    deadline = time.monotonic() + PATIENCE
    while len(told) < count and time.monotonic() < deadline:
        told = path.read_text(encoding="ascii").split() if path.exists() else []
        time.sleep(0.01)
    assert told, "no call has started"
    return [int(pid) for pid in told]


SCENARIOS: dict[str, Callable[[str], Seen]] = {
    "a worker is SIGKILLed while it runs a call": killed,
    "an idle worker is SIGKILLed": killed_idle,
    "a call segfaults": _bad_call(calls.segfault),
    "a call calls `sys.exit(3)`": _bad_call(calls.leave),
    "an exception does not unpickle": _bad_call(calls.raise_unrebuildable),
    "a result does not pickle": _bad_call(calls.give_lock),
    "an argument does not pickle": _bad_call(calls.take, threading.Lock()),
    "endless waits are to be stopped": _stuck(calls.sleep_on),
    "endless Python loops are to be stopped": _stuck(calls.burn_on),
    "the initializer raises": bad_initializer,
    "the parent is SIGKILLed, workers wait": _orphans(calls.sleep_on),
    "the parent is SIGKILLed, workers compute": _orphans(calls.burn_on),
}


def main(arguments: list[str]) -> None:
    """Print what was seen; then leave without any tidying, which might hang."""
    scenario, contender = arguments
    try:
        seen = SCENARIOS[scenario](contender)
    except Skip as reason:
        seen = {"skip": str(reason)}
    except Exception as error:
        seen = {"failed": repr(error)}
    print("\n" + json.dumps(seen), flush=True)
    os._exit(0)


if __name__ == "__main__":
    main(sys.argv[1:])

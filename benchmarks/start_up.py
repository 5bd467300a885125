"""How long until a new executor gives its first result, and what does each worker cost?"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import calls
from .question import ROUNDS, Metric, Question, Size, Target

if TYPE_CHECKING:
    from concurrent.futures import Executor

IMPORT = "python -c 'import gevent.pool, gevent.monkey'"

QUESTION = Question(
    title="Start-up",
    method=(
        "First result: from before the constructor of an executor of 2 workers to the result of a "
        "no-op, its module already imported. Further workers: wall until all of 10 workers have "
        "run their initializer, less the same for 2, by 8. Import: `import hybridexec` and the "
        "class, or the other executor's module, in a running interpreter."
    ),
    metrics=(
        Metric("first", "ms", "first result"),
        Metric("worker", "ms", "each further worker"),
        Metric("import", "ms", "import of the executor"),
    ),
    contenders=(
        "hybridexec",
        IMPORT,
        "ProcessPoolExecutor, fork",
        "ProcessPoolExecutor, forkserver",
        "ProcessPoolExecutor, spawn",
    ),
    sizes={"full": {"more": 8}, "quick": {"more": 8}, "smoke": {"more": 1}},
    rounds=ROUNDS,
    targets=(Target("first", 1.3, (IMPORT,)), Target("worker", 15.0), Target("import", 30.0)),
)

_FEW = 2


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time new executors."""
    if contender == IMPORT:
        start = time.perf_counter()
        subprocess.run([sys.executable, "-c", "import gevent.pool, gevent.monkey"], check=True)
        return {"first": (time.perf_counter() - start) * 1e3}
    start = time.perf_counter()
    if contender == "hybridexec":
        from hybridexec import HybridExecutor  # noqa: F401
    else:
        from concurrent.futures import ProcessPoolExecutor  # noqa: F401
    imported = time.perf_counter()
    with _executor(contender, _FEW) as executor:
        executor.submit(calls.noop).result()
        first = time.perf_counter() - imported
    few = _all_ready(contender, _FEW)
    many = _all_ready(contender, _FEW + size["more"])
    return {
        "first": first * 1e3,
        "worker": (many - few) / size["more"] * 1e3,
        "import": (imported - start) * 1e3,
    }


def _all_ready(contender: str, workers: int) -> float:
    """Seconds from before the constructor until every worker has run its initializer."""
    with tempfile.TemporaryDirectory() as folder:
        roll = Path(folder) / "ready"
        roll.touch()
        start = time.perf_counter()
        with _executor(
            contender, workers, initializer=calls.announce, initargs=(str(roll),)
        ) as executor:
            # As many unfinished calls as workers: executors start no more of these than they need.
            futures = [executor.submit(calls.sleep, 0.2) for _ in range(workers)]
            while os.path.getsize(roll) < workers:
                time.sleep(0.0005)
            elapsed = time.perf_counter() - start
            for future in futures:
                future.result()
    return elapsed


def _executor(contender: str, workers: int, **options: Any) -> Executor:
    if contender == "hybridexec":
        from hybridexec import HybridExecutor

        return HybridExecutor(workers, **options)
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    method = contender.rpartition(" ")[2]
    return ProcessPoolExecutor(workers, multiprocessing.get_context(method), **options)

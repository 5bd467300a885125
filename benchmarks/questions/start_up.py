"""How long until a new executor gives its first result, and what does each worker cost?"""

from __future__ import annotations

import os
import subprocess
import sys
import time

from ..contenders import calls, crews
from ..contenders.peers import FORK, FORKSERVER, PROCESS_POOLS, SPAWN
from ..harness.question import MANY_ROUNDS, OURS, Metric, Question, Size, Target

IMPORT = "python -c 'import gevent.pool, gevent.monkey'"

QUESTION = Question(
    title="Start-up",
    method=(
        "First result: from before the constructor of an executor of 1 worker to the result of a "
        "no-op, its module already imported. Further workers: wall until all of 10 workers have "
        "run their initializer, less the same for 2, by 8. Import: of the class, in a new "
        "interpreter that has imported nothing else. All bytecode is compiled beforehand, as pip "
        "does it. Descriptors: those that an executor with 2 workers adds to its process."
    ),
    metrics=(
        Metric("first", "ms", "first result"),
        Metric("worker", "ms", "each further worker"),
        Metric("import", "ms", "import of the executor"),
        Metric("fds", "", "descriptors in the parent"),
    ),
    contenders=(OURS, IMPORT, FORK, FORKSERVER, SPAWN),
    full_only=(SPAWN,),
    sizes={"full": {"more": 8}, "quick": {"more": 8}, "smoke": {"more": 1}},
    rounds=MANY_ROUNDS,
    targets=(
        Target("first", 1.3, (IMPORT,)),
        Target("first", 1.15, (FORKSERVER,)),
        Target("worker", 15.0),
        Target("fds", 20.0),
        # Ours derives from theirs, and so begins with the import of its module.
        Target("import", 1.3, PROCESS_POOLS),
    ),
)

_FEW = 2
_TIMED_IMPORT = """\
import time
start = time.perf_counter()
from {} import {}
print((time.perf_counter() - start) * 1e3)
"""


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time new executors."""
    start = time.perf_counter()
    if contender == IMPORT:
        subprocess.run([sys.executable, "-c", "import gevent.pool, gevent.monkey"], check=True)
        return {"first": (time.perf_counter() - start) * 1e3}
    with crews.executor(contender, 1):
        pass  # now everything is imported
    start = time.perf_counter()
    with crews.executor(contender, 1) as executor:
        executor.submit(calls.noop).result()
        first = time.perf_counter() - start
    before = len(os.listdir("/dev/fd"))
    with crews.all_ready(contender, _FEW) as (_, few):
        fds = len(os.listdir("/dev/fd")) - before
    with crews.all_ready(contender, _FEW + size["more"]) as (_, many):
        pass
    return {
        "first": first * 1e3,
        "worker": (many - few) / size["more"] * 1e3,
        "import": _import(contender),
        "fds": fds,
    }


def _import(contender: str) -> float:
    """Milliseconds in a fresh interpreter."""
    names = (
        ("hybridexec", "HybridExecutor")
        if contender == OURS
        else ("concurrent.futures", "ProcessPoolExecutor")
    )
    command = [sys.executable, "-c", _TIMED_IMPORT.format(*names)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)

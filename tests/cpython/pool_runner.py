"""Run CPython's own tests of multiprocessing.Pool with hybridexec's Pool in its place.

Usage: ``python pool_runner.py START_METHOD CONCURRENCY [TEST ...]``.
The tests are imported from the running interpreter, which must ship them, and never copied.
"""

from __future__ import annotations

import importlib
import multiprocessing
import sys
import unittest
from typing import Any

from exclusions import POOL_EXCLUDED, POOL_EXCLUDED_WITH_FORK
from running import run

from hybridexec import Pool

#: The classes with the tests of a pool, and in which module of CPython's package they are. Of the
#: last one, only those whose names say so test a pool.
CLASSES = {
    "WithProcessesTestPool": "test_processes",
    "WithProcessesTestPoolWorkerErrors": "test_processes",
    "WithProcessesTestPoolWorkerLifetime": "test_processes",
    "TestPoolNotLeakOnFailure": "test_misc",
    "TestInitializers": "test_misc",
}


def suite(method: str, wanted: list[str]) -> unittest.TestSuite:
    """The tests of a pool."""
    excluded = POOL_EXCLUDED | (POOL_EXCLUDED_WITH_FORK if method == "fork" else {})
    found = unittest.TestSuite()
    for name, module in CLASSES.items():
        tests = getattr(_theirs(method, module), name)
        for test in unittest.defaultTestLoader.getTestCaseNames(tests):
            if name == "TestInitializers" and "pool" not in test:
                continue
            if test not in excluded and (not wanted or test in wanted):
                found.addTest(tests(test))
    return found


def _theirs(method: str, module: str) -> Any:
    return importlib.import_module(f"test.test_multiprocessing_{method}.{module}")


def _give_scripts_the_pool() -> None:
    """One test runs a script that imports the pool from multiprocessing."""
    helper: Any = importlib.import_module("test.support.script_helper")
    assert_python_ok = helper.assert_python_ok
    prelude = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "import multiprocessing, hybridexec\n"
        "multiprocessing.Pool = hybridexec.Pool\n"
    )

    def with_prelude(flag: str, script: str, **rest: Any) -> Any:
        assert flag == "-c"
        return assert_python_ok(flag, prelude + script, **rest)

    helper.assert_python_ok = with_prelude


def main() -> int:
    """Run; the exit status says whether all passed."""
    method, concurrency, *wanted = sys.argv[1:]
    context = multiprocessing.get_context(method)
    preload = [f"test.test_multiprocessing_{method}.test_processes"]

    def make(*arguments: Any, **named: Any) -> Pool:
        ours = {"context": context, "concurrency": int(concurrency), "preload": preload}
        return Pool(*arguments, **{**ours, **named})

    shared: Any = importlib.import_module("test._test_multiprocessing")
    shared.ProcessesMixin.Pool = staticmethod(make)
    vars(multiprocessing)["Pool"] = make
    _give_scripts_the_pool()
    return run(suite(method, wanted))


if __name__ == "__main__":
    sys.exit(main())

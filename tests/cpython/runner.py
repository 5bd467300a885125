"""Run CPython's own tests of concurrent.futures with HybridExecutor as ProcessPoolExecutor.

Usage: ``python runner.py START_METHOD CONCURRENCY [TEST ...]``; a concurrency of
0 means the default. With ``resources`` as the test, it is the one that ends the resource tracker to
see what has leaked, and that wants an interpreter of its own, therefore.
The tests are imported from the running interpreter, which must ship them, and never copied.
"""

from __future__ import annotations

import importlib
import sys
import unittest
from typing import Any

from exclusions import EXCLUDED
from running import run

from hybridexec import HybridExecutor

MODULES = (
    "test_as_completed",
    "test_deadlock",
    "test_init",
    "test_process_pool",
    "test_shutdown",
    "test_wait",
)


def theirs(name: str) -> Any:
    """A module of CPython's package of these tests."""
    return importlib.import_module(f"test.test_concurrent_futures.{name}")


MIXINS = {
    "fork": theirs("util").ProcessPoolForkMixin,
    "forkserver": theirs("util").ProcessPoolForkserverMixin,
    "spawn": theirs("util").ProcessPoolSpawnMixin,
}


def suite(mixin: type[Any], wanted: list[str]) -> unittest.TestSuite:
    """The tests of the classes that ``mixin`` went into."""
    found = unittest.TestSuite()
    for name in MODULES:
        for value in vars(theirs(name)).values():
            if not (isinstance(value, type) and issubclass(value, unittest.TestCase)):
                continue
            if not issubclass(value, mixin):
                continue
            for method in unittest.defaultTestLoader.getTestCaseNames(value):
                if method not in EXCLUDED and (not wanted or method in wanted):
                    found.addTest(value(method))
    return found


def resources(method: str) -> unittest.TestSuite:
    """The test that nothing is left of an initializer that fails."""
    test = theirs("test_init").FailingInitializerResourcesTest(f"test_{method}")
    return unittest.TestSuite([test])


def _give_scripts_the_executor() -> None:
    """Some tests run scripts that import the executor from concurrent.futures by its name."""
    test_shutdown = theirs("test_shutdown")
    assert_python_ok = test_shutdown.assert_python_ok
    prelude = (
        f"import sys; sys.path[:0] = {sys.path!r}\n"
        "import concurrent.futures, hybridexec\n"
        "concurrent.futures.HybridExecutor = hybridexec.HybridExecutor\n"
    )

    def with_prelude(flag: str, script: str, **rest: Any) -> Any:
        assert flag == "-c"
        return assert_python_ok(flag, prelude + script, **rest)

    test_shutdown.assert_python_ok = with_prelude


def main() -> int:
    """Run; the exit status says whether all passed."""
    method, concurrency, *wanted = sys.argv[1:]
    vars(importlib.import_module("concurrent.futures"))["ProcessPoolExecutor"] = HybridExecutor
    for mixin in MIXINS.values():
        mixin.executor_type = HybridExecutor
        mixin.executor_kwargs = {"concurrency": int(concurrency)} if int(concurrency) else {}
    _give_scripts_the_executor()
    alone = wanted == ["resources"]
    return run(resources(method) if alone else suite(MIXINS[method], wanted))


if __name__ == "__main__":
    sys.exit(main())

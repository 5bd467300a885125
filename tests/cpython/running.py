"""How the runners run CPython's tests."""

from __future__ import annotations

import faulthandler
import sys
import unittest
from typing import Any

#: Seconds after which a single test counts as hung.
PATIENCE = 100
#: Tests that may have failed because the machine was busy, and are tried once more: some give the
#: first result of all five seconds.
MAX_AGAIN = 2


class Result(unittest.TextTestResult):
    """Shows where a hung test hangs, and a failure as soon as it happens."""

    def startTest(self, test: unittest.TestCase) -> None:
        faulthandler.dump_traceback_later(PATIENCE, exit=True)
        super().startTest(test)


class Runner(unittest.TextTestRunner):
    resultclass: Any = Result


def run(suite: unittest.TestSuite) -> int:
    """Run; the exit status says whether all passed, and there were any."""
    runner = Runner(verbosity=2)
    result = runner.run(suite)
    if not result.testsRun:
        return 1
    if 0 < len(failed := result.failures + result.errors) <= MAX_AGAIN:
        print("\nOnce more, as CPython's own CI does:", file=sys.stderr)
        again = unittest.TestSuite(type(test)(test._testMethodName) for test, _ in failed)
        result = runner.run(again)
    return 0 if result.wasSuccessful() else 1

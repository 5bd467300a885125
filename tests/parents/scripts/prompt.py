"""A script that workers import, and that has a prompt."""

from __future__ import annotations

import code
import multiprocessing
import pdb
import sys

from hybridexec import HybridExecutor

FACTOR = 2


class Given:
    def __init__(self, x: int) -> None:
        self.x = x


class Bare(Exception):
    pass


def scaled(n: int) -> int:
    return FACTOR * n


def given(x: int) -> Given:
    return Given(x)


if __name__ == "__main__":
    executor = HybridExecutor(1, multiprocessing.get_context(sys.argv[1]))
    assert executor.submit(scaled, 1).result() == 2
    if sys.argv[2] == "interact":
        code.interact(local=globals())
    elif sys.argv[2] == "copy":
        code.interact(local={**globals()})
    elif sys.argv[2] == "pdb":
        pdb.set_trace()

"""Run as ``python -m pack``: no worker imports a ``__main__.py``."""

import multiprocessing
import sys

from hybridexec import HybridExecutor

from .shapes import Square


class Pair:
    def __init__(self, left, right):
        self.left, self.right = left, right


def pair(square):
    return Pair(square, Square(square.side + 1)), isinstance(square, Square)


def main():
    with HybridExecutor(1, multiprocessing.get_context(sys.argv[1])) as executor:
        made, known = executor.submit(pair, Square(2)).result()
        print(type(made) is Pair, type(made.right) is Square, known, made.right.side)
        print(list(executor.map(lambda number: Pair(number, number).left, range(3))))


if __name__ == "__main__":
    main()

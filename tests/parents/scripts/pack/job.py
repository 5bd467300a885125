"""Run as ``python -m pack.job``."""

import multiprocessing
import sys

from hybridexec import HybridExecutor

from .shapes import Square


class Cube:
    def __init__(self, square):
        self.square = square


def cube(square):
    return Cube(square), isinstance(square, Square), __name__, __spec__.name


def main():
    with HybridExecutor(1, multiprocessing.get_context(sys.argv[1])) as executor:
        made, known, name, spec = executor.submit(cube, Square(2)).result()
        print(type(made) is Cube, type(made.square) is Square, known, name, spec)


if __name__ == "__main__":
    main()

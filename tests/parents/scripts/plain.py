"""A plain script: what it defines is found in the workers by name."""

import enum
import multiprocessing
import os
import sys

from hybridexec import HybridExecutor

IMPORTED_IN = os.getpid()


class Color(enum.Enum):
    RED = 1


class Refused(Exception):
    pass


class Point:
    def __init__(self, x, y):
        self.x, self.y = x, y

    def moved(self, by):
        return Point(self.x + by, self.y + by)


def double(number):
    return 2 * number


def is_point(value):
    return isinstance(value, Point)


def refuse(text):
    raise Refused(text)


def identity(value):
    return value


def where():
    main = sys.modules["__main__"]
    return main.double is double, main.__name__, os.getpid() == IMPORTED_IN, sys.argv[1:]


def main():
    context = multiprocessing.get_context(sys.argv[1])
    with HybridExecutor(2, context) as executor:
        print("map:", list(executor.map(double, range(5))))
        print("main in the worker:", *executor.submit(where).result())
        moved = executor.submit(Point(1, 2).moved, 3).result()
        print("result keeps its class:", type(moved) is Point, moved.x, moved.y)
        print("argument keeps its class:", executor.submit(is_point, Point(0, 0)).result())
        print("class as the function:", type(executor.submit(Point, 1, 2).result()) is Point)
        print("enum member:", executor.submit(identity, Color.RED).result() is Color.RED)
        print("class itself:", executor.submit(identity, Point).result() is Point)
        print("exception:", repr(executor.submit(refuse, "no").exception()))
        print("its class:", type(executor.submit(refuse, "no").exception()) is Refused)
        factor = 3
        print("closure:", executor.submit(lambda number: factor * number, 5).result())
        print("closure over a class:", executor.submit(lambda p: type(p) is Point, moved).result())


if __name__ == "__main__":
    main()

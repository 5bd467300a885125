"""Becomes the ``__main__.py`` of a folder or a zip file, beside the module ``beside``."""

import multiprocessing
import sys

import beside

from hybridexec import HybridExecutor


class Box:
    def __init__(self, content):
        self.content = content


def box(value):
    return Box(value)


def main():
    with HybridExecutor(1, multiprocessing.get_context(sys.argv[1])) as executor:
        print(list(executor.map(beside.triple, range(3))))
        made = executor.submit(box, beside.Thing(4)).result()
        print(type(made) is Box, type(made.content) is beside.Thing, made.content.number)


if __name__ == "__main__":
    main()

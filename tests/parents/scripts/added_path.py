"""A script that makes a folder importable itself: ``added_path.py METHOD FOLDER``."""

import multiprocessing
import sys


def main():
    # Not at the top: the worker, which imports this file, must not need to run these lines.
    sys.path.insert(0, sys.argv[2])
    import only_there

    from hybridexec import HybridExecutor

    with HybridExecutor(1, multiprocessing.get_context(sys.argv[1])) as executor:
        print(list(executor.map(only_there.square, range(4))))
        print(type(executor.submit(only_there.Marker).result()) is only_there.Marker)


if __name__ == "__main__":
    main()

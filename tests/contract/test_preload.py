"""What modules of ``preload`` leave in the fork server is not there once more in each worker."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

from .conftest import Make
from .helpers import run_script

TALKATIVE = """
import logging, logging.handlers, sys
print("printed")
file = open({path!r}, "a")
file.write("to a file\\n")
target = logging.StreamHandler(sys.stdout)
logging.getLogger("talkative").addHandler(logging.handlers.MemoryHandler(100, target=target))
logging.getLogger("talkative").warning("logged")
def talk(_):
    sys.stdout.write("called\\n")  # in one piece, also where nothing is buffered
    file.flush()
    for handler in logging.getLogger("talkative").handlers:
        handler.flush()
"""

SCRIPT = """
import time
from hybridexec import HybridExecutor
import talkative_names
if __name__ == "__main__":
    with HybridExecutor(3, concurrency=1, preload=["talkative"]) as executor:
        list(executor.map(talkative_names.talk, range(6)))
"""

NAMES = """
import time
def talk(_):
    import talkative
    time.sleep(0.2)
    talkative.talk(_)
"""


def test_output_of_preloaded_modules_leaves_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    (tmp_path / "talkative.py").write_text(TALKATIVE.format(path=str(path)))
    (tmp_path / "talkative_names.py").write_text(NAMES)
    out = run_script(tmp_path / "script.py", SCRIPT).stdout.split()
    assert out.count("printed") == 1
    assert out.count("logged") == 1
    assert out.count("called") == 6
    assert path.read_text() == "to a file\n"


def draw() -> tuple[float, float]:
    numpy = pytest.importorskip("numpy")
    time.sleep(0.3)  # so that others have to be asked for the other calls
    return numpy.random.random(), random.random()


def test_random_numbers_differ_between_workers(make: Make) -> None:
    pytest.importorskip("numpy")
    executor = make(max_workers=3, concurrency=1, preload=["numpy", "numpy.random"])
    draws = [future.result(timeout=60) for future in [executor.submit(draw) for _ in range(3)]]
    assert len({theirs for theirs, _ in draws}) == 3
    assert len({pythons for _, pythons in draws}) == 3

"""Imports run one way: questions → contenders → harness, and faults → harness.

So a question is understood by itself, and the harness runs the next one as it runs these.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from imports import imports, modules

import benchmarks
from benchmarks.questions import QUESTIONS

PACKAGE = Path(benchmarks.__file__).parent

#: What each room may import of the others and of itself: a question no other one. The programs are
#: the modules at the top.
MAY_IMPORT = {
    "programs": {"programs", "questions", "contenders", "harness"},
    "questions": {"contenders", "harness"},
    "contenders": {"contenders", "harness"},
    "faults": {"faults", "harness"},
    "harness": {"harness"},
}


def room_of(module: str) -> str:
    """The room that a dotted name inside the package is in, or is."""
    first = module.split(".")[1:2]
    return first[0] if first and first[0] in MAY_IMPORT else "programs"


def violations(package: Path) -> list[str]:
    return [
        f"{where}: {room_of(module)} may not import {room_of(target)} ({target})"
        for where, module, target in imports(package)
        if target.split(".")[0] == package.name
        and room_of(target) not in MAY_IMPORT[room_of(module)]
    ]


def test_imports_run_one_way() -> None:
    assert {room_of(module) for module in modules(PACKAGE)} == set(MAY_IMPORT), "a room is gone"
    assert not violations(PACKAGE)


def test_every_question_is_on_the_list_and_nothing_else_is_in_its_room() -> None:
    inside = [module for module in modules(PACKAGE) if module.startswith("benchmarks.questions.")]
    assert sorted(inside) == sorted(f"benchmarks.questions.{name}" for name in QUESTIONS)


@pytest.mark.parametrize(
    ("path", "code", "complaint"),
    [
        ("questions/one.py", "from .other import QUESTION", "questions may not import questions"),
        ("questions/one.py", "from . import load", "questions may not import questions"),
        ("questions/one.py", "from .. import soak", "questions may not import programs"),
        ("contenders/peers.py", "from ..questions import one", "contenders may not import quest"),
        ("faults/pools.py", "from ..contenders import peers", "faults may not import contenders"),
        ("harness/rounds.py", "def f():\n    from ..questions import load", "harness may not"),
        ("harness/rounds.py", "from benchmarks.contenders import peers", "harness may not"),
        ("soak.py", "from .faults import pools", "programs may not import faults"),
    ],
)
def test_a_violation_is_found(tmp_path: Path, path: str, code: str, complaint: str) -> None:
    package = tmp_path / "benchmarks"
    for name in ("soak", "questions/one", "questions/other", "contenders/peers", "faults/pools"):
        module = package / f"{name}.py"
        module.parent.mkdir(parents=True, exist_ok=True)
        (module.parent / "__init__.py").touch()
        module.touch()
    (package / "harness").mkdir()
    (package / "harness" / "__init__.py").touch()
    (package / path).write_text(code)
    (found,) = violations(package)
    assert complaint in found

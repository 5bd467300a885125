"""What a question is: its contenders, what is measured, and which figure it is to reach."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

#: The contender whose figures are compared with everybody else's.
OURS = "hybridexec"

#: The numbers that set how much is measured.
Size = Mapping[str, Any]


class Skip(Exception):
    """A contender cannot be measured here, or not in this case; says why."""


def require(module: str) -> Any:
    """Import what need not be installed.

    Raises:
        Skip: it is not.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise Skip(f"{module} is not installed") from None


@dataclass(frozen=True)
class Metric:
    """One figure of a measurement."""

    key: str
    unit: str
    what: str
    higher_is_better: bool = False
    #: On a curve: whether it is the cost of one of what there is more and more of. If not, it is
    #: the cost of something else, which is the same everywhere.
    of_each: bool = True


@dataclass(frozen=True)
class Target:
    """A figure to reach: a ratio to each of ``against``, or an absolute bound if that is empty."""

    metric: str
    bound: float
    against: tuple[str, ...] = ()
    ours: str = OURS
    #: The cases it applies to; empty for all.
    cases: tuple[str, ...] = ()


@dataclass(frozen=True)
class Question:
    """Everything about a question but the code that measures, which is its module's ``measure``.

    ``sizes`` and ``rounds`` are by scale: "full", "quick", and "smoke", which only shows that the
    code runs.
    """

    title: str
    #: What exactly is measured, for the reader of the table.
    method: str
    metrics: tuple[Metric, ...]
    contenders: tuple[str, ...]
    sizes: Mapping[str, Size]
    rounds: Mapping[str, int]
    targets: tuple[Target, ...] = ()
    cases: tuple[str, ...] = ("",)
    #: The cases and contenders that only the full scale has time for.
    full_only: tuple[str, ...] = ()
    #: If the cases are numbers, of what: then the question is a curve of cost per unit, which is
    #: to grow no faster than the work.
    axis: str = ""

    def asked(self, scale: str) -> tuple[list[str], list[str]]:
        """The cases and the contenders of a scale."""
        out = () if scale == "full" else self.full_only
        return (
            [case for case in self.cases if case not in out],
            [contender for contender in self.contenders if contender not in out],
        )


#: Rounds for questions whose measurements are very short, and differ much.
MANY_ROUNDS = {"full": 12, "quick": 4, "smoke": 1}
#: Rounds for questions whose measurements are short.
ROUNDS = {"full": 5, "quick": 3, "smoke": 1}
#: And for the others.
FEW_ROUNDS = {"full": 3, "quick": 2, "smoke": 1}

"""An older commit of this project as one more contender, and what has become slower since.

It is installed into an environment of its own, with the same versions of everything else, and
measured by today's questions: each contender that is this library has a twin that is the older one,
and they take turns like all others.
"""

from __future__ import annotations

import math
import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib import metadata
from pathlib import Path
from statistics import fmean, median, stdev
from typing import Any

from .machine import PACKAGES
from .question import OURS, Metric, Question
from .rounds import Python, Samples

ROOT = Path(__file__).resolve().parents[2]
#: What is slower by less than this does not matter.
LEAST = 1.03
#: Student's t, by how many rounds there are but one: what 1 of 100 samples exceeds by chance.
_T = (31.82, 6.965, 4.541, 3.747, 3.365, 3.143, 2.998, 2.896, 2.821, 2.764, 2.718, 2.681, 2.65)
#: Bounds that say nothing, in a number that JSON has.
ANYTHING = (1e-9, 1e9)
SLOWER, FASTER = "slower", "faster"


@dataclass(frozen=True)
class Older:
    """A commit that is ready to be measured."""

    commit: str
    subject: str
    python: Python

    @property
    def name(self) -> str:
        """What stands in its contenders' names in place of this library's."""
        return f"commit {self.commit[:10]}"

    def twin(self, contender: str) -> str:
        """The contender that is the older library, used in the same way."""
        return contender.replace(OURS, self.name, 1)

    def ask(self, question: Question) -> Question:
        """The question with a twin beside each contender that is this library."""
        contenders: list[str] = []
        for contender in question.contenders:
            contenders.append(contender)
            if is_ours(contender):
                contenders.append(self.twin(contender))
        out = question.full_only
        out += tuple(self.twin(contender) for contender in out if is_ours(contender))
        return replace(question, contenders=tuple(contenders), full_only=out)

    def elsewhere(self, questions: Mapping[str, Question]) -> dict[str, tuple[str, Python]]:
        """By contender: as whom it is measured, and by which Python."""
        ours = {each for asked in questions.values() for each in asked.contenders if is_ours(each)}
        return {self.twin(contender): (contender, self.python) for contender in ours}


def is_ours(contender: str) -> bool:
    """Whether it is this library, used in one way or another."""
    return contender.startswith(OURS)


def install(rev: str, folder: Path) -> Older:
    """Install a commit into ``folder``, or find it there.

    Raises:
        subprocess.CalledProcessError: there is no such commit, or it cannot be installed.
    """
    commit = _run("git", "rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}").strip()
    subject = _run("git", "log", "-1", "--format=%s", commit).strip()
    place = folder.resolve() / f"{commit[:10]}-{sys.implementation.cache_tag}"
    python = place / "env" / "bin" / "python"
    if not (place / "installed").exists():
        shutil.rmtree(place, ignore_errors=True)
        (place / "source").mkdir(parents=True)
        archive = place / "source.tar"
        _run("git", "archive", f"--output={archive}", commit)
        shutil.unpack_archive(archive, place / "source", filter="data")
        # Today's questions, and nothing else of today's: this is the first place it imports from.
        (place / "run").mkdir()
        for name in ("benchmarks", "examples"):
            (place / "run" / name).symlink_to(ROOT / name)
        everything = _others()
        (place / "everything.txt").write_text("\n".join(everything.values()))
        taking_part = [everything[name] for name in PACKAGES if name in everything]
        _run(sys.executable, "-m", "venv", "--without-pip", str(place / "env"))
        pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet"]
        same = ["--constraint", str(place / "everything.txt")]
        _run(*pip, *same, *taking_part, str(place / "source"))
        (place / "installed").touch()
    here = Python(str(python), str(place / "run"))
    _run(here.executable, "-c", "from benchmarks.harness import bytecode; bytecode.compile_all()",
         cwd=here.folder)  # fmt: skip
    return Older(commit, subject, here)


def _others() -> dict[str, str]:
    """Everything else that is installed here, by name, as pip is told of it."""
    return {
        each.name: f"{each.name}=={each.version}"
        for each in metadata.distributions()
        if each.name not in (OURS, "pip", "setuptools")
    }


def _run(*command: str, cwd: str | None = None) -> str:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return subprocess.run(
        command, cwd=cwd or ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True
    ).stdout


@dataclass(frozen=True)
class Change:
    """How one figure has changed."""

    metric: str
    case: str
    contender: str
    unit: str
    now: float
    then: float
    #: Time now by time then, or rate then by rate now: the median of the rounds' ratios, and the
    #: bounds that their mean is within, but for 1 chance in 100 on either side.
    ratio: float
    low: float
    high: float
    rounds: int
    #: "slower", "faster", or empty: no more than noise.
    verdict: str


def changes(question: Question, samples: Samples, older: Older) -> list[dict[str, Any]]:
    """What became of each figure of ours, for the JSON."""
    return [
        asdict(change)
        for metric in question.metrics
        for case in question.cases
        for contender in question.contenders
        if is_ours(contender)
        and (change := _change(samples, older, metric, case, contender)) is not None
    ]


def _change(
    samples: Samples, older: Older, metric: Metric, case: str, contender: str
) -> Change | None:
    now, then = (
        [(figures or {}).get(metric.key) for figures in samples.figures.get((case, name), [])]
        for name in (contender, older.twin(contender))
    )
    pairs = [(a, b) for a, b in zip(now, then, strict=False) if a and b and a > 0 and b > 0]
    if not pairs:
        return None
    ratios = [b / a if metric.higher_is_better else a / b for a, b in pairs]
    low, high = bounds(ratios)
    middle = median(ratios)
    return Change(
        metric.what, case, contender, metric.unit, median(a for a, _ in pairs),
        median(b for _, b in pairs), middle, low, high, len(pairs), verdict(middle, low, high),
    )  # fmt: skip


def bounds(ratios: list[float]) -> tuple[float, float]:
    """What the mean of such ratios is between, as far as these tell: their logarithms are taken to
    be distributed normally. Nothing is known from one of them."""
    if len(ratios) < 2:
        return ANYTHING
    logs = [math.log(ratio) for ratio in ratios]
    reach = _T[min(len(logs) - 1, len(_T)) - 1] * stdev(logs) / math.sqrt(len(logs))
    low, high = math.exp(fmean(logs) - reach), math.exp(fmean(logs) + reach)
    return max(low, ANYTHING[0]), min(high, ANYTHING[1])


def verdict(ratio: float, low: float, high: float) -> str:
    """Whether that is more than noise, and enough to matter."""
    if low > 1 and ratio >= LEAST:
        return SLOWER
    if high < 1 and ratio <= 1 / LEAST:
        return FASTER
    return ""

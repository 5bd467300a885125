"""What is said about the project in more than one place, or of the library outside it, is true."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

import hybridexec

ROOT = Path(__file__).resolve().parents[1]


def test_the_version_is_in_one_place() -> None:
    assert hybridexec.__version__ == importlib.metadata.version("hybridexec")
    project = (ROOT / "pyproject.toml").read_text("utf-8")
    assert hybridexec.__version__ not in re.findall(r'^version = "(.+)"', project, re.MULTILINE)


def test_what_the_issue_form_asks_for_is_there() -> None:
    form = (ROOT / ".github" / "ISSUE_TEMPLATE" / "bug.yml").read_text("utf-8")
    asked = set(re.findall(r"\b(executor|error)\.(\w+)", form))
    assert {("executor", "stats"), ("error", "fault_log")} <= asked
    where = {"executor": hybridexec.HybridExecutor, "error": hybridexec.WorkerLost("lost")}
    assert not [name for of, name in asked if not hasattr(where[of], name)]
    assert {f"docs/{page}" for page in re.findall(r"docs/([\w-]+\.md)", form)} <= {
        str(path.relative_to(ROOT)) for path in ROOT.glob("docs/*.md")
    }

"""Which nodes a client may use, and what is said where Dask is missing."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("distributed")

from hybridexec.cluster import plan


def test_equal_versions_are_no_difference() -> None:
    assert plan.differences(plan.versions()) == ""


@pytest.mark.parametrize("name", plan.MUST_MATCH)
def test_what_must_match_is_named_with_both_sides(name: str) -> None:
    theirs = {**plan.versions(), name: "other"}
    here = plan.versions()[name]
    assert plan.differences(theirs) == f"{name} is other there and {here} here"


def test_what_may_differ_may() -> None:
    assert plan.differences({**plan.versions(), "cloudpickle": "2.0"}) == ""


def test_what_is_missing_is_named() -> None:
    theirs = plan.versions()
    del theirs["gevent"]
    assert plan.differences(theirs).startswith("gevent is missing there")


def test_without_dask_the_error_names_what_to_install() -> None:
    program = "import sys; sys.modules['distributed'] = None; import hybridexec.cluster"
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert "ImportError: hybridexec.cluster needs distributed" in done.stderr
    assert "pip install 'hybridexec[cluster]'" in done.stderr

"""The libraries that wait in C, and that each finding has its section in the documentation."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from hybridexec import drivers
from hybridexec.doctor.finding import CODES

DOCTOR = Path(__file__).parents[2] / "docs" / "doctor.md"


def test_each_code_has_a_section_of_its_name() -> None:
    sections = re.findall(r"^#+ (.+)$", DOCTOR.read_text(), re.MULTILINE)
    assert len(sections) == len(set(sections))
    assert {*CODES, *(driver.name for driver in drivers.DRIVERS)} <= set(sections)


@pytest.mark.parametrize("driver", drivers.DRIVERS, ids=lambda driver: driver.name)
def test_the_documentation_has_the_cure(driver: drivers.Driver) -> None:
    text = " ".join(DOCTOR.read_text().replace("`", "").split())
    assert driver.cure in text
    assert driver.waits in text


def test_submodules_belong_to_their_package() -> None:
    found = drivers.of_module("psycopg2.extras")
    assert found is not None
    assert found.name == "psycopg2"
    assert drivers.of_module("psycopg") is None
    assert drivers.of_module("mysql") is None


def test_what_is_loaded_and_not_cured_is_harmful() -> None:
    loaded = ["psycopg2", "grpc", "zmq", "zmq.green", "oracledb"]
    assert set(loaded) - {"oracledb"} <= set(drivers.SIGNS)
    assert drivers.harmful(loaded) == ["psycopg2", "grpc"]
    assert drivers.harmful([*loaded, "psycogreen"]) == ["grpc"]


STACK = """  File "/app/jobs.py", line 3, in query
    cursor.execute(statement)
"""


def test_advice_names_the_line_and_the_cure() -> None:
    text = drivers.advice(STACK, ["psycopg2"], "held-up")
    assert text.startswith("It is at /app/jobs.py:3. That worker uses psycopg2: ")
    assert "psycogreen" in text
    assert text.endswith("see doctor.html#psycopg2.")


def test_a_stack_that_leads_through_a_library_tells_which() -> None:
    stack = STACK + '  File "/venv/site-packages/grpc/_channel.py", line 7, in wait\n    wait()\n'
    assert "doctor.html#grpc" in drivers.advice(stack, ["psycopg2"], "held-up")
    assert "psycopg2" not in drivers.advice(stack, ["psycopg2"], "held-up")
    stack = '  File "/src/psycopg2.py", line 1, in f\n'
    assert "doctor.html#psycopg2" in drivers.advice(stack, [], "held-up")


def test_without_a_known_library_there_is_a_section_to_read() -> None:
    assert drivers.advice(STACK, [], "blocked") == (
        "It is at /app/jobs.py:3. What to do: see doctor.html#blocked."
    )
    assert drivers.advice("", [], "blocked") == "What to do: see doctor.html#blocked."


@pytest.mark.parametrize(
    ("lane", "cure"), [("async", "asyncio.to_thread()"), ("thread", "more workers")]
)
def test_advice_for_other_lanes_is_about_their_own_means(lane: str, cure: str) -> None:
    text = drivers.advice(STACK, ["psycopg2"], "held-up", lane)
    assert text.startswith("It is at /app/jobs.py:3. To do: ")
    assert cure in text
    assert "gevent" not in text

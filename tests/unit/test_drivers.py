"""The libraries that wait in C, and that each finding has its section in the documentation."""

from __future__ import annotations

import re
from pathlib import Path
from types import ModuleType

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
    loaded = dict.fromkeys(["psycopg2", "grpc", "zmq", "zmq.green", "oracledb"], ModuleType("m"))
    assert drivers.harmful(loaded) == ["psycopg2", "grpc"]
    loaded["psycogreen"] = ModuleType("m")
    assert drivers.harmful(loaded) == ["grpc"]

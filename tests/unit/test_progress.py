"""How progress reads."""

from __future__ import annotations

import dataclasses

import pytest

from hybridexec import Progress


def made(**changes: object) -> Progress:
    plain = Progress(
        total=20_000, done=9_000, failed=0, retried=0, running=0, per_second=2641.4, eta=4.2
    )
    return dataclasses.replace(plain, **changes)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({}, "9,000 of 20,000 done (45 %), 2,641/s, 0:04 left"),
        (
            {"failed": 12, "retried": 3, "running": 1000},
            "9,000 of 20,000 done (45 %), 12 failed, 3 retried, 1,000 running, 2,641/s, 0:04 left",
        ),
        ({"total": None, "eta": None}, "9,000 done, 2,641/s"),
        ({"done": 20_000, "eta": 0.0}, "20,000 of 20,000 done (100 %), 2,641/s"),
        ({"done": 19_999}, "19,999 of 20,000 done (99 %), 2,641/s, 0:04 left"),
        ({"total": 0, "done": 0, "per_second": 0.0, "eta": 0.0}, "0 of 0 done (100 %), 0/s"),
        ({"per_second": 0.0, "eta": None}, "9,000 of 20,000 done (45 %), 0/s"),
        ({"per_second": 99.94, "eta": 59.6}, "9,000 of 20,000 done (45 %), 99.9/s, 1:00 left"),
        ({"per_second": 0.254, "eta": 7384}, "9,000 of 20,000 done (45 %), 0.25/s, 2:03:04 left"),
    ],
)
def test_it_reads_as_one_line(changes: dict[str, object], text: str) -> None:
    assert str(made(**changes)) == text


def test_it_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        made().done = 0  # type: ignore[misc]

"""Who takes part, and who does not."""

from __future__ import annotations

import sys

import pytest

from benchmarks.contenders import calls
from benchmarks.contenders.pair import Pair
from benchmarks.contenders.peers import open_peer
from benchmarks.harness.question import Skip


def test_the_hand_written_pair_gives_all_results_in_order() -> None:
    with Pair(2) as pair:
        assert pair.run(calls.same, range(7), 3) == list(range(7))


def test_a_contender_that_cannot_be_measured_is_left_out_with_a_note(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "loky", None)
    with pytest.raises(Skip, match="loky is not installed"), open_peer("loky"):
        pass

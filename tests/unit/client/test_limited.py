"""Streams of limited calls: their keys, and how far they look ahead."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hybridexec.limits import Limits
from hybridexec.options import CallOptions
from hybridexec.parent.client.inputs import input_of
from hybridexec.parent.client.limited import LOOK_AHEAD
from hybridexec.parent.client.streams import Stream

from ..fakes import FUNCTION, FakeEngine


def make(items: Iterable[Any], bound: int, key: Any = None) -> tuple[FakeEngine, Stream]:
    engine = FakeEngine()
    fake: Any = engine
    options = CallOptions(limits=Limits(key=key, per_key=1) if key else Limits(rate=1))
    source = input_of([items], False)
    stream = Stream(fake, FUNCTION, None, source, True, options, bound, False)
    return engine, stream


def wait_all(engine: FakeEngine) -> None:
    """All calls that came since the last time wait for limits."""
    for batch in engine.batches:
        assert batch.reader is not None
        batch.reader.wait(batch.size)
    for batch in engine.batches:
        assert batch.reader is not None
        batch.reader.tell()
    engine.batches.clear()


def test_calls_that_wait_for_limits_count_apart() -> None:
    engine, stream = make(range(100), bound=10)
    stream.look_ahead()
    stream.fill()
    assert len(engine.open) == 10
    wait_all(engine)
    stream.fill()
    assert len(engine.open) == 20


def test_who_waits_for_outcomes_looks_when_calls_wait_for_limits() -> None:
    engine, stream = make(range(100), bound=10)
    stream.look_ahead()
    stream.fill()
    assert stream.poll() is None, "there is nothing to do"
    wait_all(engine)
    polled = stream.poll()
    assert polled is not None
    assert not polled
    stream.fill()
    assert stream.poll() is None


def test_a_stream_looks_ahead_only_so_far() -> None:
    engine, stream = make(range(10 * LOOK_AHEAD), bound=1000)
    stream.look_ahead()
    stream.fill()
    for _ in range(20):
        wait_all(engine)
        stream.fill()
    assert len(engine.open) == LOOK_AHEAD
    wait_all(engine)
    assert stream.poll() is None


def test_who_has_set_a_bound_does_not_look_ahead() -> None:
    engine, stream = make(range(100), bound=10)
    stream.fill()
    wait_all(engine)
    stream.fill()
    assert len(engine.open) == 10
    assert stream.poll() is None


def test_each_call_has_its_key_whatever_becomes_of_others() -> None:
    def key(item: object) -> object:
        if item == 3:
            raise KeyError(item)
        return None if item == 5 else [] if item == 6 else item

    engine, stream = make([1, 2, 3, "x", {4: 4}, 5, 6, 1], bound=100, key=key)
    stream.fill()
    limits = stream._options.limits
    keys = [each for batch in engine.batches for each in batch.keys or ()]
    assert keys[:2] == [limits.find((item,), {}) for item in (1, 2)]
    assert keys[-1] is keys[0]
    assert len(keys) == len(engine.open) == 5
    failed = [outcome for outcome in stream.poll() or () if isinstance(outcome, tuple)]
    assert sorted(outcome[0] for outcome in failed) == [2, 4, 6]

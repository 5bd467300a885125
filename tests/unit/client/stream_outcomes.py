"""Streams over an engine that runs nothing by itself, and what they hand out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from hybridexec.parent.client.inputs import input_of
from hybridexec.parent.client.streams import Stream
from hybridexec.parent.work.batch import Values

from ..fakes import FUNCTION, OPTIONS, FakeEngine, one_by_one


def make(
    items: Iterable[Any],
    *,
    bound: int | None = None,
    ordered: bool = True,
    refusal: BaseException | None = None,
) -> tuple[FakeEngine, Stream]:
    engine = FakeEngine()
    function = None if refusal else FUNCTION
    fake: Any = engine
    source = input_of([items], ordered)
    stream = Stream(fake, function, refusal, source, True, OPTIONS, bound, ordered)
    return engine, stream


def outcomes_of(stream: Stream, deadline: float | None = None) -> Iterator[Any]:
    """Outcomes one by one, as a consumer fetches them."""
    for entry in stream.entries(deadline):
        for outcome in one_by_one(entry) if isinstance(entry, Values) else [entry]:
            stream.fetch()
            yield outcome


def values(outcomes: Iterable[Any]) -> list[Any]:
    return [outcome[2] for outcome in outcomes]

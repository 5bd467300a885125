"""What waits aside holds nothing of calls that were cancelled, once no other waits."""

from __future__ import annotations

import gc
import weakref

from hybridexec.options import CallOptions
from hybridexec.parent.pool.backlog import Backlog
from hybridexec.parent.pool.quarantine import Quarantine
from hybridexec.parent.pool.retries import Retries
from hybridexec.parent.work.batch import Batch
from hybridexec.parent.work.function import Function

from ..simulation import Sink


class Watched(Batch):
    """A batch whose end can be seen."""

    __slots__ = ("__weakref__",)


def watched() -> Watched:
    return Watched(Function(b"function", lasting=True), [(1,), (2,)], Sink(), CallOptions(), 0)


def is_gone(seen: weakref.ref[Batch]) -> bool:
    gc.collect()
    return seen() is None


def test_a_cancelled_retry_is_let_go() -> None:
    made, batch = Retries(), watched()
    seen = weakref.ref(batch)
    made.add(batch, 0, 1e9)
    made.cancel(batch, [0])
    del batch
    assert is_gone(seen)


def test_a_cancelled_suspect_is_let_go() -> None:
    made, batch = Quarantine(), watched()
    seen = weakref.ref(batch)
    made.accuse([(batch, 0), (batch, 1)], 2, 0, "died")
    made.cancel(batch, [0, 1])
    del batch
    assert is_gone(seen)


def test_a_cancelled_call_that_waits_for_a_worker_is_let_go() -> None:
    made, batch = Backlog(), watched()
    seen = weakref.ref(batch)
    made.add(batch)
    made.cancel(batch, {0, 1})
    del batch
    assert is_gone(seen)

"""What does it cost that calls know where they come from: context variables, a trace?"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from hybridexec import HybridExecutor, tracing

from ..contenders.peers import WORKERS, HybridPeer
from ..harness.question import OURS, ROUNDS, Metric, Question, Size

SUBMIT, MAP = "submit", "map"
PROPAGATED, TRACED = f"{OURS}, propagate", f"{OURS}, traced"

QUESTION = Question(
    title="Context variables and traces",
    method=(
        "No-op calls as in the first two questions. *propagate*: a context variable with a text "
        "travels along. *traced*: with spans of OpenTelemetry's SDK in the parent and in the "
        "workers, in batches, for an exporter that throws them away."
    ),
    metrics=(Metric("rate", "calls/s", "answered per second", True),),
    contenders=(OURS, PROPAGATED, TRACED),
    cases=(SUBMIT, MAP),
    sizes={
        "full": {SUBMIT: 20_000, MAP: 100_000},
        "quick": {SUBMIT: 5_000, MAP: 20_000},
        "smoke": {SUBMIT: 20, MAP: 20},
    },
    rounds=ROUNDS,
)

variable: ContextVar[str] = ContextVar("variable")


def set_up() -> None:
    """Trace, and throw the spans away."""
    from opentelemetry import trace
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import (
        BatchSpanProcessor,
        SpanExporter,
        SpanExportResult,
    )

    class Nowhere(SpanExporter):
        def export(self, spans: object) -> SpanExportResult:
            return SpanExportResult.SUCCESS

    provider = TracerProvider()
    provider.add_span_processor(BatchSpanProcessor(Nowhere()))
    trace.set_tracer_provider(provider)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time all calls on a warm executor."""
    count = size[case]
    with _open(contender) as peer:
        _run(peer, case, count // 10)
        start = time.perf_counter()
        _run(peer, case, count)
        elapsed = time.perf_counter() - start
    return {"rate": count / elapsed}


def _run(peer: HybridPeer, case: str, count: int) -> None:
    if case == SUBMIT:
        peer.run_noops(count)
    else:
        peer.map(count, 1)


@contextmanager
def _open(contender: str) -> Iterator[HybridPeer]:
    traced = contender == TRACED
    with HybridExecutor(WORKERS, initializer=set_up if traced else None) as executor:
        if traced:
            set_up()
            tracing.opentelemetry(executor)
        variable.set("r-17")
        view = executor.options(propagate=[variable])
        yield HybridPeer(view if contender == PROPAGATED else executor)

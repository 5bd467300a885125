"""Calls as OpenTelemetry spans, with the real SDK in the parent and in workers."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("opentelemetry.sdk")
from opentelemetry import baggage, context, trace
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import (
    BatchSpanProcessor,
    SimpleSpanProcessor,
    SpanExporter,
    SpanExportResult,
)
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_OFF
from opentelemetry.trace import StatusCode

import hybridexec
from hybridexec import CallTimeout, HybridExecutor, WorkerLost, tracing

from . import test_propagate
from .conftest import Make
from .helpers import Gate, pids, run_script, square, wait_until

pytestmark = [pytest.mark.slow_on("spawn", "fork"), pytest.mark.on_cluster]


# -- in workers -----------------------------------------------------------------------------------


class FileExporter(SpanExporter):
    """Writes each span as a line."""

    def __init__(self, path: str) -> None:
        self.path = path

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        with open(self.path, "a") as file:
            file.writelines(span.to_json(indent=None) + "\n" for span in spans)
        return SpanExportResult.SUCCESS


def set_up(path: str, batches: bool = False) -> None:
    provider = TracerProvider()
    processor: Callable[..., Any] = (
        partial(BatchSpanProcessor, schedule_delay_millis=3_600_000)
        if batches
        else SimpleSpanProcessor
    )
    provider.add_span_processor(processor(FileExporter(path)))
    trace.set_tracer_provider(provider)


def where(*_: object) -> tuple[str, Any]:
    """The trace that a call runs in, and its baggage."""
    trace_id = trace.get_current_span().get_span_context().trace_id
    return trace.format_trace_id(trace_id), baggage.get_baggage("tenant")


def work_within(number: int) -> int:
    with trace.get_tracer("app").start_as_current_span("within"):
        time.sleep(0.001)
    return number


async def work_within_later(number: int) -> int:
    await asyncio.sleep(0.001)
    return work_within(number)


def yield_within(numbers: int) -> Iterator[int]:
    for n in range(numbers):
        with trace.get_tracer("app").start_as_current_span("within"):
            yield n


async def yield_within_later(numbers: int) -> AsyncIterator[int]:
    for n in yield_within(numbers):
        await asyncio.sleep(0)
        yield n


async def fail_later(number: int) -> None:
    await asyncio.sleep(0.001)
    fail(number)


def fail(number: int) -> None:
    raise ConnectionError(f"no {number}")


def fail_at_first(folder: str) -> int:
    if not os.path.exists(folder):
        os.mkdir(folder)
        raise OSError("not yet")
    return 1


def die_at_first(folder: str) -> int:
    if not os.path.exists(folder):
        os.mkdir(folder)
        os.kill(os.getpid(), signal.SIGKILL)
    return 1


def die(number: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


# -- in the parent --------------------------------------------------------------------------------


class Traces:
    """The spans that were made here and in workers."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.provider = TracerProvider()
        self._exporter = InMemorySpanExporter()
        self.provider.add_span_processor(SimpleSpanProcessor(self._exporter))
        self.tracer = self.provider.get_tracer("test")

    def here(self, name: str, count: int = 1) -> list[ReadableSpan]:
        """Those of that name, when there are so many."""

        def ended() -> list[ReadableSpan]:
            return [span for span in self._exporter.get_finished_spans() if span.name == name]

        wait_until(lambda: len(ended()) >= count, f"{count} spans {name!r}")
        assert len(ended()) == count
        return ended()

    def one(self, name: str) -> ReadableSpan:
        return self.here(name)[0]

    def there(self, name: str, count: int = 1) -> list[dict[str, Any]]:
        def ended() -> list[dict[str, Any]]:
            text = self.path.read_text() if self.path.exists() else ""
            lines = text[: text.rfind("\n") + 1].splitlines()  # those that are whole
            return [span for span in map(json.loads, lines) if span["name"] == name]

        wait_until(lambda: len(ended()) >= count, f"{count} spans {name!r}")
        assert len(ended()) == count
        return ended()


def span_id(span: ReadableSpan) -> str:
    found = span.get_span_context()
    assert found is not None
    return "0x" + trace.format_span_id(found.span_id)


def trace_id(span: ReadableSpan) -> str:
    found = span.get_span_context()
    assert found is not None
    return trace.format_trace_id(found.trace_id)


def event_names(span: ReadableSpan) -> list[str]:
    return [event.name for event in span.events]


@pytest.fixture
def traces(tmp_path: Path) -> Traces:
    return Traces(tmp_path / "spans")


@pytest.fixture
def traced(make: Make, traces: Traces) -> HybridExecutor:
    executor = make(initializer=set_up, initargs=(str(traces.path),))
    hybridexec.tracing.opentelemetry(executor, traces.provider)
    return executor


def test_a_submitted_call_is_a_span_with_its_run_as_a_child(
    make_each: Make, traces: Traces
) -> None:
    executor = make_each(initializer=set_up, initargs=(str(traces.path),))
    tracing.opentelemetry(executor, traces.provider)
    before = time.time_ns()
    with traces.tracer.start_as_current_span("request"):
        token = context.attach(baggage.set_baggage("tenant", "acme"))
        found = executor.submit(where).result(timeout=30)
        context.detach(token)
    request, call = traces.one("request"), traces.one("submit where")
    assert found == (trace_id(request), "acme")
    assert call.parent is not None
    assert request.context is not None
    assert call.parent.span_id == request.context.span_id
    assert call.attributes == {"code.function.name": f"{__name__}.where"}
    assert call.status.status_code is StatusCode.UNSET
    assert call.end_time is not None
    assert before <= (call.start_time or 0) < call.end_time <= time.time_ns()
    (run,) = traces.there("where")
    assert run["parent_id"] == span_id(call)
    assert run["context"]["trace_id"] == "0x" + trace_id(request)
    assert run["attributes"]["code.function.name"] == f"{__name__}.where"
    assert run["attributes"]["process.pid"] in pids(executor)
    assert run["status"]["status_code"] == "UNSET"


def test_what_a_call_does_is_within_its_span(traced: HybridExecutor, traces: Traces) -> None:
    assert list(traced.map(work_within, range(20))) == list(range(20))
    runs = {span["context"]["span_id"] for span in traces.there("work_within", 20)}
    assert {span["parent_id"] for span in traces.there("within", 20)} == runs


def test_a_coroutine_has_its_span_until_it_ends(traced: HybridExecutor, traces: Traces) -> None:
    assert list(traced.map(work_within_later, range(20))) == list(range(20))
    runs = {span["context"]["span_id"] for span in traces.there("work_within_later", 20)}
    assert {span["parent_id"] for span in traces.there("within", 20)} == runs
    assert isinstance(traced.submit(fail_later, 3).exception(timeout=30), ConnectionError)
    (run,) = traces.there("fail_later")
    assert run["attributes"]["error.type"] == "ConnectionError"


def test_a_map_is_one_span_with_its_runs_as_children(
    traced: HybridExecutor, traces: Traces
) -> None:
    with traces.tracer.start_as_current_span("request"):
        results = traced.map(square, range(30))
    assert list(results) == [n * n for n in range(30)]
    call = traces.one("map square")
    assert trace_id(call) == trace_id(traces.one("request"))
    runs = traces.there("square", 30)
    assert {run["parent_id"] for run in runs} == {span_id(call)}
    assert {run["context"]["trace_id"] for run in runs} == {"0x" + trace_id(call)}
    assert sum(each.value for each in traced.outcomes(square, range(5))) == 30
    assert sum(traced.map_unordered(square, range(5), buffersize=2)) == 30
    assert traces.one("outcomes square").parent is None
    assert traces.one("map_unordered square").status.status_code is StatusCode.UNSET


def test_a_stream_that_is_left_ends_its_span(traced: HybridExecutor, traces: Traces) -> None:
    results: Any = traced.map_unordered(square, range(10_000), buffersize=10)
    next(results)
    results.close()
    traces.one("map_unordered square")
    for _ in traced.outcomes(square, range(1000), buffersize=10):
        break
    traces.one("outcomes square")
    traced.map(square, range(10))
    gc.collect()
    traces.one("map square")


@pytest.mark.parametrize("function", [yield_within, yield_within_later])
def test_a_call_that_yields_has_its_span_until_it_ends(
    traced: HybridExecutor, traces: Traces, function: Any
) -> None:
    assert list(traced.stream(function, 150)) == list(range(150))
    (run,) = traces.there(function.__name__)
    assert run["attributes"]["code.function.name"] == f"{__name__}.{function.__name__}"
    assert run["parent_id"] == span_id(traces.one(f"stream {function.__name__}"))
    assert {span["parent_id"] for span in traces.there("within", 150)} == {
        run["context"]["span_id"]
    }


def test_what_is_awaited_is_traced_too(traced: HybridExecutor, traces: Traces) -> None:
    async def main() -> None:
        with traces.tracer.start_as_current_span("request"):
            assert await asyncio.gather(*[traced.asubmit(square, n) for n in range(3)])
            results = traced.amap(square, range(5))
        assert [value async for value in results] == [0, 1, 4, 9, 16]
        outcomes = [outcome.value async for outcome in traced.aoutcomes(square, range(3))]
        assert sorted(outcomes) == [0, 1, 4]
        left: Any = traced.amap_unordered(square, range(1000), buffersize=10)
        await anext(left)
        await left.aclose()
        async for _ in traced.amap_unordered(square, range(1000), buffersize=10):
            break
        with pytest.raises(TypeError):
            await anext(traced.amap(square, "a"))

    asyncio.run(main())
    request = trace_id(traces.one("request"))
    assert trace_id(traces.here("amap square", 2)[0]) == request
    traces.here("aoutcomes square")
    traces.here("amap_unordered square", 2)
    traces.here("submit square", 3)


def test_failures_are_recorded(traced: HybridExecutor, traces: Traces) -> None:
    assert isinstance(traced.submit(fail, 3).exception(timeout=30), ConnectionError)
    call = traces.one("submit fail")
    assert (call.status.status_code, call.status.description) == (
        StatusCode.ERROR,
        "ConnectionError: no 3",
    )
    assert (call.attributes or {})["error.type"] == "ConnectionError"
    (event,) = call.events
    assert (event.attributes or {})["exception.message"] == "no 3"
    assert "in fail" in str((event.attributes or {})["exception.stacktrace"]), "the worker's, too"
    (run,) = traces.there("fail")
    assert run["status"] == {"status_code": "ERROR", "description": "ConnectionError: no 3"}
    assert run["attributes"]["error.type"] == "ConnectionError"
    assert [each["name"] for each in run["events"]] == ["exception"]
    with pytest.raises(ConnectionError):
        list(traced.map(fail, range(3)))
    assert event_names(traces.one("map fail")) == ["exception"]
    assert traced.submit(len, threading.Lock()).exception(timeout=30)  # type: ignore[arg-type]
    assert (traces.one("submit len").attributes or {})["error.type"] == "TypeError"
    with pytest.raises(TypeError, match="must be callable"):
        traced.submit(3)  # type: ignore[arg-type]
    traced.shutdown()
    with pytest.raises(RuntimeError, match="after shutdown"):
        traced.submit(square, 3)
    assert traces.one("submit square").status.status_code is StatusCode.ERROR


def test_retries_are_events(traced: HybridExecutor, traces: Traces, tmp_path: Path) -> None:
    trying = traced.options(retries=2, backoff=0.0)
    assert trying.submit(fail_at_first, str(tmp_path / "a")).result(timeout=30) == 1
    call = traces.one("submit fail_at_first")
    (event,) = call.events
    assert event.name == "hybridexec.retry"
    assert event.attributes is not None
    assert event.attributes["exception.type"] == "builtins.OSError"
    assert event.attributes["exception.message"] == "not yet"
    assert event.attributes["process.pid"]
    assert (call.start_time or 0) < event.timestamp < (call.end_time or 0)
    assert call.status.status_code is StatusCode.UNSET
    runs = traces.there("fail_at_first", 2)
    assert {run["parent_id"] for run in runs} == {span_id(call)}
    assert [run["status"]["status_code"] for run in runs] == ["ERROR", "UNSET"]
    assert list(trying.map(fail_at_first, [str(tmp_path / "b"), str(tmp_path / "c")])) == [1, 1]
    assert event_names(traces.one("map fail_at_first")) == ["hybridexec.retry"] * 2


def test_losses_are_events(traced: HybridExecutor, traces: Traces, tmp_path: Path) -> None:
    again = traced.options(on_worker_loss="retry")
    assert again.submit(die_at_first, str(tmp_path / "a")).result(timeout=30) == 1
    call = traces.one("submit die_at_first")
    assert event_names(call) == ["hybridexec.worker_lost", "hybridexec.retry"]
    assert call.status.status_code is StatusCode.UNSET
    assert isinstance(traced.submit(die, 1).exception(timeout=30), WorkerLost)
    lost = traces.one("submit die")
    assert event_names(lost) == ["hybridexec.worker_lost", "exception"]
    assert lost.status.status_code is StatusCode.ERROR
    assert (lost.attributes or {})["error.type"] == "hybridexec.errors.WorkerLost"
    (outcome,) = traced.outcomes(die, [1])
    assert isinstance(outcome.error, WorkerLost)
    assert event_names(traces.one("outcomes die")) == ["hybridexec.worker_lost"]
    (error,) = traced.map_unordered(die, [1], return_exceptions=True)
    assert isinstance(error, WorkerLost)
    assert event_names(traces.one("map_unordered die")) == ["hybridexec.worker_lost"]


def test_calls_that_are_stopped(traced: HybridExecutor, traces: Traces, gate: Gate) -> None:
    late = traced.options(timeout=0.1).submit(time.sleep, 60)
    assert isinstance(late.exception(timeout=30), CallTimeout)
    call = traces.one("submit sleep")
    assert (call.attributes or {})["error.type"] == "hybridexec.errors.CallTimeout"
    (run,) = traces.there("sleep")
    assert run["status"]["status_code"] == "ERROR"
    unwanted = traced.submit(gate.wait, 1)
    gate.wait_for(1)
    assert unwanted.cancel()
    call = traces.one("submit Gate.wait")
    assert (event_names(call), call.status.status_code) == (
        ["hybridexec.cancelled"],
        StatusCode.UNSET,
    )
    traces.there("Gate.wait")


def test_it_lasts_until_it_is_closed(make: Make, traces: Traces) -> None:
    executor = make(initializer=set_up, initargs=(str(traces.path),))
    handle = tracing.opentelemetry(executor.options(retries=1), traces.provider)
    with pytest.raises(ValueError, match="traced already"):
        tracing.opentelemetry(executor, traces.provider)
    assert executor.submit(square, 2).result(timeout=30) == 4
    assert executor.options(retries=1).submit(square, 3).result(timeout=30) == 9
    traces.here("submit square", 2)
    handle.close()
    handle.close()
    assert executor.submit(square, 4).result(timeout=30) == 16
    again = tracing.opentelemetry(executor, traces.provider)
    assert executor.submit(square, 5).result(timeout=30) == 25
    traces.here("submit square", 3)
    traces.there("square", 3)
    again.close()


def test_with_other_options_and_context_variables(traced: HybridExecutor, traces: Traces) -> None:
    view = traced.options(propagate=[test_propagate.request, test_propagate.user], retries=1)
    with test_propagate.being(test_propagate.request, "r1"):
        assert view.submit(test_propagate.look).result(timeout=30) == "r1"
        with test_propagate.being(test_propagate.user, {"name": ["Ada"]}):
            found = set(map(str, view.map(test_propagate.look_at_user, range(3))))
    assert found == {str(("r1", {"name": ["Ada"]}, False))}
    attributes = traces.one("submit look").attributes or {}
    assert attributes["code.function.name"] == f"{test_propagate.__name__}.look"
    traces.there("look")
    traces.there("look_at_user", 3)
    seen: list[Any] = []
    assert sum(traced.map(square, range(4), progress=seen.append)) == 14
    assert seen[-1].done == 4
    traces.one("map square")


def test_who_is_not_sampled_costs_no_span(make: Make, traces: Traces) -> None:
    executor = make(initializer=set_up, initargs=(str(traces.path),))
    tracing.opentelemetry(executor, TracerProvider(sampler=ALWAYS_OFF))
    assert executor.submit(square, 2).result(timeout=30) == 4
    assert list(executor.map(square, range(3))) == [0, 1, 4]
    executor.shutdown()
    assert not traces.path.exists()


def test_without_a_provider_the_callers_context_travels(make: Make, traces: Traces) -> None:
    executor = make(initializer=set_up, initargs=(str(traces.path),))
    tracing.opentelemetry(executor)
    with traces.tracer.start_as_current_span("request"):
        found = executor.submit(where).result(timeout=30)
    request = traces.one("request")
    assert found[0] == trace_id(request)
    assert traces.there("where")[0]["parent_id"] == span_id(request)


def test_workers_without_a_provider(make: Make, traces: Traces) -> None:
    executor = make()
    tracing.opentelemetry(executor, traces.provider)
    assert list(executor.map(square, range(3))) == [0, 1, 4]
    assert executor.submit(where).result(timeout=30)[0] == trace_id(traces.one("submit where"))


def test_spans_in_batches_leave_before_a_worker_ends(make_each: Make, traces: Traces) -> None:
    executor = make_each(initializer=set_up, initargs=(str(traces.path), True))
    tracing.opentelemetry(executor, traces.provider)
    assert list(executor.map(square, range(20))) == [n * n for n in range(20)]
    executor.shutdown()
    traces.there("square", 20)


MAIN = """
import time
from opentelemetry import trace
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
import hybridexec

class Order:
    number = 3

def traces(orders):
    return f"{trace.get_current_span().get_span_context().trace_id:x}", orders[0].number

if __name__ == "__main__":
    spans = InMemorySpanExporter()
    trace.set_tracer_provider(TracerProvider())
    trace.get_tracer_provider().add_span_processor(SimpleSpanProcessor(spans))
    with hybridexec.HybridExecutor(2) as executor:
        hybridexec.tracing.opentelemetry(executor)
        with trace.get_tracer("main").start_as_current_span("request") as span:
            found = executor.submit(traces, [Order()]).result(), *executor.map(traces, [[Order()]])
            assert found == ((f"{span.get_span_context().trace_id:x}", 3),) * 2, found
    print(sorted(span.name for span in spans.get_finished_spans()))
"""


def test_of_a_program_from_standard_input() -> None:
    home = str(Path(hybridexec.__file__).parent.parent)
    done = subprocess.run(
        [sys.executable, "-"],
        input=MAIN,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
        env={**os.environ, "PYTHONPATH": home},
    )
    assert done.stdout == "['map traces', 'request', 'submit traces']\n", done.stderr
    assert not done.stderr


def test_who_lacks_the_library_is_told(tmp_path: Path) -> None:
    text = """
import sys
sys.modules["opentelemetry"] = None
import hybridexec
if __name__ == "__main__":
    with hybridexec.HybridExecutor(1) as executor:
        try:
            hybridexec.tracing.opentelemetry(executor)
        except ImportError as error:
            print(error)
"""
    out = run_script(tmp_path / "script.py", text).stdout
    assert "pip install 'hybridexec[opentelemetry]'" in out

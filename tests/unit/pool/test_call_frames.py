"""When a function travels with its calls, and when by itself, once."""

from __future__ import annotations

from hybridexec.parent.work.function import Function
from hybridexec.wire import messages

from .situations import running


def test_a_lasting_function_is_sent_to_each_worker_once() -> None:
    simulation = running()
    function = Function(b"lasting", lasting=True)
    for _ in range(3):
        simulation.submit(2, function)
        simulation.run(lambda: not simulation.pool.ledger.unfinished)
    introduced = [head[1] for head in simulation.heads(messages.Calls)]
    assert len(introduced) >= 3
    assert introduced[0] == [(function.number, b"lasting", [])]
    assert not any(introduced[1:])
    assert not simulation.heads(messages.Forget)


def test_the_function_of_a_single_call_travels_with_it() -> None:
    simulation = running()
    simulation.submit(1, Function(b"passing", lasting=False))
    simulation.turn()
    ((_, introduced, spans),) = simulation.heads(messages.Calls)
    assert introduced == []
    assert spans[0][0] == b"passing"
    simulation.run(lambda: not simulation.pool.ledger.unfinished)
    assert not simulation.heads(messages.Forget)


def test_backoff_is_told_how_many_runs_of_a_call_have_failed() -> None:
    simulation = running(slots=4)
    batch = simulation.submit(4, retries=3, backoff=lambda error, attempt: 0.0)
    simulation.turn()
    simulation.take(1, 4)
    for failed in ([1], [1, 2]):
        for place in failed:
            simulation.workers[1].answer(batch.first + place, messages.RETRIABLE, seconds=0.0)
        simulation.hear(1)
        simulation.turn(0.1)
        simulation.take(1, len(failed))
    spans = [span for head in simulation.heads(messages.Calls) for span in head[2]]
    sent = [(span[2] - batch.first, len(span[3]), span[1][-1]) for span in spans]
    assert sent == [(0, 4, 1), (1, 1, 2), (1, 1, 3), (2, 1, 2)]
    simulation.finish()

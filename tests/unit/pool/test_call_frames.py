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

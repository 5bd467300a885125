"""How many calls a second are there, each with a dict of its own and another as its result?"""

from __future__ import annotations

import time

from ..contenders import calls, data
from ..contenders.peers import FORKSERVER, LOKY, POOL, PROCESS_POOLS, THREADS, Peer, open_peer
from ..harness.question import OURS, ROUNDS, Metric, Question, Size, Target

MAP, SUBMIT = "map, chunksize 1", "submit"

QUESTION = Question(
    title="Dicts, one by one",
    method=(
        "Nested dicts (160 bytes of pickle) as arguments and results: "
        "`list(executor.map(identity, dicts))`, or `submit` of a call for each and then each "
        "`result`; 2 workers, which have run calls before. multiprocessing.Pool by "
        "`map(chunksize=1)` and `apply_async`."
    ),
    metrics=(Metric("rate", "calls/s", "per second", True),),
    contenders=(OURS, *PROCESS_POOLS, THREADS, POOL, LOKY),
    cases=(MAP, SUBMIT),
    full_only=(LOKY,),
    sizes={
        "full": {MAP: 40_000, SUBMIT: 20_000},
        "quick": {MAP: 10_000, SUBMIT: 8_000},
        "smoke": {MAP: 20, SUBMIT: 20},
    },
    rounds=ROUNDS,
    targets=(
        Target("rate", 25.0, (FORKSERVER,), cases=(MAP,)),
        Target("rate", 15.0, (FORKSERVER,), cases=(SUBMIT,)),
        Target("rate", 1.0, (THREADS,), cases=(SUBMIT,)),
    ),
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Time all calls on a warm executor."""
    dicts = [data.record(number) for number in range(size[case])]
    run = _map if case == MAP else _submit
    with open_peer(contender) as peer:
        run(peer, dicts[: len(dicts) // 10])
        start = time.perf_counter()
        results = run(peer, dicts)
        elapsed = time.perf_counter() - start
    assert len(results) == len(dicts)
    return {"rate": len(dicts) / elapsed}


def _map(peer: Peer, dicts: list[dict[str, object]]) -> list[object]:
    return peer.map_over(calls.same, dicts, 1)


def _submit(peer: Peer, dicts: list[dict[str, object]]) -> list[object]:
    submit, take = peer.submit, peer.take
    return [take(handle) for handle in [submit(calls.same, each) for each in dicts]]

"""Many small nodes in one process, to see what their number costs a client.

    python -m benchmarks.contenders.nodes SCHEDULER_FILE COUNT

Each is a Dask worker with one CPU, as ``dask worker`` starts it, but for its process.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack


async def _serve(scheduler_file: str, count: int) -> None:
    from distributed import Worker

    async with AsyncExitStack() as stack:
        workers = [
            Worker(scheduler_file=scheduler_file, nthreads=1, memory_limit=0, dashboard=False)
            for _ in range(count)
        ]
        await asyncio.gather(*(stack.enter_async_context(worker) for worker in workers))
        await asyncio.gather(*(worker.finished() for worker in workers))


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))

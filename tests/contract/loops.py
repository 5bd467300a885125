"""What tests of asyncio's loops share."""

from __future__ import annotations

from typing import Any

from .conftest import METHODS

#: Where "fork" finds asyncio imported (pytest's plugins do that), its C module keeps the running
#: loop per OS thread.
FRESH = [method for method in METHODS if method != "fork"]


async def echo(value: Any, seconds: float = 0.01) -> Any:
    import asyncio

    await asyncio.sleep(seconds)
    return value


kept: list[Any] = []


def run_a_loop(n: int) -> int:
    import asyncio

    return int(asyncio.run(echo(n)))

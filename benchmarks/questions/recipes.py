"""What do the recipes of the documentation take, beside what one writes by hand in threads?"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from ..contenders import recipes
from ..contenders.peers import THREADS
from ..harness.question import FEW_ROUNDS, OURS, Metric, Question, Size, Skip, require

CRAWL, MODEL, QUERIES, PICTURES = "crawl", "model", "queries", "pictures"

QUESTION = Question(
    title="The recipes",
    method=(
        "Whole programs, from making the executor to the end, with servers of their own on this "
        "machine: 5 sites of 600 pages each that answer after 50 ms, 8 at once from each; 500 "
        "questions at 100 in a second to a model that takes 1 s; 10,000 queries to PostgreSQL "
        "through 20 connections in a process; 100 pictures of 1,600 × 1,200, each uploaded. "
        "Threads: the same functions with ThreadPoolExecutors."
    ),
    metrics=(Metric("wall", "s", "until the end"),),
    contenders=(OURS, THREADS),
    cases=(CRAWL, MODEL, QUERIES, PICTURES),
    sizes={
        "full": {"pages": 600, "questions": 500, "queries": 10_000, "pictures": 100},
        "quick": {"pages": 100, "questions": 100, "queries": 2_000, "pictures": 20},
        "smoke": {"pages": 3, "questions": 3, "queries": 10, "pictures": 2},
    },
    rounds=FEW_ROUNDS,
)


def measure(contender: str, case: str, size: Size) -> dict[str, float]:
    """Run one of them."""
    with tempfile.TemporaryDirectory() as folder:
        seconds = _CASES[case](contender == OURS, Path(folder), size)
    return {"wall": seconds}


def _seconds(run: Callable[[], int], count: int) -> float:
    start = time.perf_counter()
    assert run() == count
    return time.perf_counter() - start


def _crawl(ours: bool, folder: Path, size: Size) -> float:
    require("aiohttp")
    run = recipes.crawl if ours else recipes.crawl_in_threads
    with recipes.recipe("sites").running(5, size["pages"], 0.05) as ports:
        seeds = [f"http://127.0.0.1:{port}/0" for port in ports]
        return _seconds(lambda: run(folder, seeds), 5 * size["pages"])


def _model(ours: bool, folder: Path, size: Size) -> float:
    for module in ("aiohttp", "httpx"):
        require(module)
    run, count = recipes.ask if ours else recipes.ask_in_threads, size["questions"]
    with recipes.recipe("sites").running(latency=1.0) as (port,):
        os.environ["OPENAI_BASE_URL"] = f"http://127.0.0.1:{port}/v1"
        return _seconds(lambda: run(folder, count), count)


def _queries(ours: bool, folder: Path, size: Size) -> float:
    require("psycopg_pool")
    database = recipes.recipe("database")
    if database.programs() is None:
        raise Skip("PostgreSQL is not installed")
    run, count = recipes.query if ours else recipes.query_in_threads, size["queries"]
    with database.running() as conninfo:
        return _seconds(lambda: run(conninfo, count), count)


def _pictures(ours: bool, folder: Path, size: Size) -> float:
    for module in ("aiohttp", "PIL"):
        require(module)
    run, count = recipes.shrink if ours else recipes.shrink_in_threads, size["pictures"]
    paths = recipes.draw(folder, count)
    with recipes.recipe("sites").running() as (port,):
        base = f"http://127.0.0.1:{port}/small/"
        return _seconds(lambda: run(base, paths), count)


_CASES = {CRAWL: _crawl, MODEL: _model, QUERIES: _queries, PICTURES: _pictures}

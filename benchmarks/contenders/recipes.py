"""The recipes of ``examples/recipes``, and what one writes by hand, in threads, for the same."""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import Any

_FOLDER = Path(__file__).parents[2] / "examples" / "recipes"


def recipe(name: str) -> Any:
    """The module of one of them; workers find it, too."""
    if str(_FOLDER) not in sys.path:
        sys.path.insert(0, str(_FOLDER))
    return importlib.import_module(name)


def crawl(folder: Path, seeds: list[str]) -> int:
    """How many pages the recipe finds."""
    module = recipe("crawl")
    return sum(1 for _ in module.crawl(module.open_database(folder / "pages.db"), seeds))


def crawl_in_threads(folder: Path, seeds: list[str]) -> int:
    """The same with eight threads for each host."""
    module = recipe("crawl")
    database = module.open_database(folder / "pages.db")
    database.execute("CREATE TABLE pages (url TEXT PRIMARY KEY, status TEXT)")
    pools = {module.host_of(seed): ThreadPoolExecutor(8) for seed in seeds}
    running: dict[Future[Any], str] = {}
    seen: set[str] = set()

    def add(url: str) -> None:
        pool = pools.get(module.host_of(url))
        if pool is not None and url not in seen:
            seen.add(url)
            database.execute("INSERT INTO pages (url) VALUES (?)", (url,))
            running[pool.submit(module.fetch, url)] = url

    for seed in seeds:
        add(seed)
    while running:
        for future in wait(running, return_when=FIRST_COMPLETED).done:
            url = running.pop(future)
            status, links = future.result()
            for link in links:
                add(link)
            database.execute("UPDATE pages SET status = ? WHERE url = ?", (status, url))
            database.commit()
    for pool in pools.values():
        pool.shutdown()
    return len(seen)


def ask(folder: Path, count: int) -> int:
    """How many questions the recipe gets answered."""
    (folder / "questions").write_text("".join(f"what is {n}?\n" for n in range(count)))
    failed: int = recipe("ask_model").main(folder / "questions", folder / "answers")
    return count - failed


def ask_in_threads(folder: Path, count: int) -> int:
    """The same with a client for all threads, and a pause before each question."""
    module = recipe("ask_model")
    answers = []
    with module.client() as client, ThreadPoolExecutor(500) as pool:

        def post(question: str) -> str:
            body = {"model": "small", "messages": [{"role": "user", "content": question}]}
            while True:
                response = client.post("chat/completions", json=body)
                if response.status_code != 429:
                    return str(response.json()["choices"][0]["message"]["content"])
                time.sleep(float(response.headers["Retry-After"]))

        for number in range(count):
            answers.append(pool.submit(post, f"what is {number}?"))
            time.sleep(1 / 100)
    (folder / "answers").write_text(json.dumps([answer.result() for answer in answers]))
    return len(answers)


def query(conninfo: str, count: int) -> int:
    """How many totals the recipe gets."""
    return len(recipe("query").totals(conninfo, count))


def query_in_threads(conninfo: str, count: int) -> int:
    """The same with a pool of connections for all threads."""
    module = recipe("query")
    with module.connections(conninfo) as pool, ThreadPoolExecutor(100) as threads:
        return len(
            list(threads.map(lambda customer: module.total_of(pool, customer), range(count)))
        )


def draw(folder: Path, count: int) -> list[str]:
    """Pictures to be made small."""
    image = importlib.import_module("PIL.Image")
    paths = [folder / f"{n}.jpg" for n in range(count)]
    for path in paths:
        image.frombytes("RGB", (1600, 1200), os.urandom(1600 * 1200 * 3)).save(path)
    return [str(path) for path in paths]


def shrink(base: str, paths: list[str]) -> int:
    """How many pictures the recipe uploads."""
    return len(recipe("thumbnails").main(base, paths))


def shrink_in_threads(base: str, paths: list[str]) -> int:
    """The same with as many threads as there are cores, and a hundred for the uploads."""
    module = recipe("thumbnails")
    with ThreadPoolExecutor(os.cpu_count()) as cores, ThreadPoolExecutor(100) as waiting:
        small = cores.map(module.shrink, paths)
        uploads = [waiting.submit(module.upload, base, name, data) for name, data in small]
        return len([each.result() for each in uploads])

"""The recipes of the documentation, as the programs that they are, with real servers."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

RECIPES = Path(__file__).resolve().parents[2] / "examples" / "recipes"
sys.path.insert(0, str(RECIPES))
import database  # noqa: E402
from sites import running, told  # noqa: E402

PATIENCE = 120
pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]


def run(name: str, *arguments: object, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, str(RECIPES / name), *map(str, arguments)],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    return done.stdout


def statuses(path: Path) -> list[str | None]:
    with contextlib.closing(sqlite3.connect(path)) as database:
        return [status for (status,) in database.execute("SELECT status FROM pages")]


def test_a_crawler_is_polite_and_goes_on_where_it_was_stopped(tmp_path: Path) -> None:
    path = tmp_path / "crawl.db"
    with running(sites=5, pages=60, latency=0.05) as ports:
        seeds = [f"http://127.0.0.1:{port}/0" for port in ports]
        crawl = [sys.executable, str(RECIPES / "crawl.py"), str(path), *seeds]
        # It is never much more than a page of its pipe ahead, so it does not end before the signal.
        with subprocess.Popen(
            crawl,
            stdout=subprocess.PIPE,
            text=True,
            pipesize=4096,
            env={**os.environ, "PYTHONUNBUFFERED": "1"},
        ) as first:
            assert first.stdout is not None
            for _ in range(50):
                assert first.stdout.readline().split()[1] == "200"
            first.send_signal(signal.SIGINT)
            first.communicate(timeout=PATIENCE)
        before = statuses(path)
        assert 50 <= len([status for status in before if status]) < 300
        run("crawl.py", path)
        seen = [told(port) for port in ports]
    assert statuses(path) == ["200"] * 300
    assert [len(each["visits"]) for each in seen] == [60] * 5
    # What was under way when it was stopped is asked for once more.
    assert all(set(each["visits"].values()) <= {1, 2} for each in seen)
    assert all(4 <= each["most"] <= 8 for each in seen)


def test_a_model_is_asked_as_often_as_it_likes(tmp_path: Path) -> None:
    questions, answers = tmp_path / "questions.txt", tmp_path / "answers.jsonl"
    questions.write_text("".join(f"what is {n}?\n" for n in range(250)))
    with running(latency=0.2) as (port,):
        began = time.monotonic()
        run("ask_model.py", questions, answers, OPENAI_BASE_URL=f"http://127.0.0.1:{port}/v1")
        took = time.monotonic() - began
        seen = told(port)
    rows = [json.loads(line) for line in answers.read_text().splitlines()]
    assert sorted((row["question"], row["answer"]) for row in rows) == sorted(
        (f"what is {n}?", f"WHAT IS {n}?") for n in range(250)
    )
    assert seen["answered"] == 250
    assert took > 1.0  # not 250 in the first second


def test_queries_share_connections() -> None:
    pytest.importorskip("psycopg_pool")
    if database.programs() is None:
        pytest.skip("PostgreSQL is not installed")
    with database.running() as conninfo:
        said = run("query.py", conninfo, database.CUSTOMERS)
    cents = sum(range(database.ORDERS))
    assert said.startswith(f"{database.ORDERS:,} orders, {cents / 100:,.2f} in ")


def test_pictures_are_made_small_and_uploaded(tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    paths = [tmp_path / f"{n}.png" for n in range(20)]
    for n, path in enumerate(paths):
        image.new("RGB", (1000 + n, 700), (n, 2 * n, 3 * n)).save(path)
    with running() as (port,):
        assert run("thumbnails.py", f"http://127.0.0.1:{port}/small/", *paths) == "20 uploaded\n"
        files = told(port)["files"]
    assert sorted(files) == sorted(f"{n}.jpg" for n in range(20))
    assert all(500 < size < 20_000 for size in files.values())

"""What the doctor finds in programs, and what it leaves alone."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from hybridexec.doctor import program
from hybridexec.doctor.source import read_program

Read = Callable[..., list[tuple[str, str]]]


@pytest.fixture
def read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Read:
    """What is found in a script, as codes and places; other files of the program by name."""
    monkeypatch.chdir(tmp_path)

    def read(text: str, **others: str) -> list[tuple[str, str]]:
        for name, content in others.items():
            path = tmp_path / f"{name.replace('_in_', '/')}.py"
            path.parent.mkdir(exist_ok=True)
            path.write_text(content)
        script = tmp_path / "script.py"
        script.write_text(text)
        sources, unread = read_program(str(script))
        assert not unread
        return [(finding.code, finding.where) for finding in program.examine(sources)]

    return read


RUN = """
if __name__ == "__main__":
    with HybridExecutor() as executor:
        executor.submit(print)
"""


def test_a_driver_is_found_where_it_is_imported(read: Read) -> None:
    assert read(f"import json\n\ndef f():\n    import psycopg2.extras\n{RUN}") == [
        ("psycopg2", "script.py:4")
    ]
    assert read("from google.cloud import pubsub_v1") == [("grpc", "script.py:1")]
    assert read("import requests, psycopg") == []


@pytest.mark.parametrize(
    "text",
    [
        "import psycopg2\nfrom psycogreen.gevent import patch_psycopg",
        "import grpc\nimport grpc.experimental.gevent as g\ng.init_gevent()",
        "import grpc\nfrom grpc.experimental import gevent",
        "import zmq.green as zmq",
        "import mysql.connector\nmysql.connector.connect(use_pure=True)",
        "import oracledb",
        "import MySQLdb, pymysql",
    ],
)
def test_a_driver_that_is_cured_is_no_finding(read: Read, text: str) -> None:
    assert read(text) == []


def test_oracles_thick_mode_is_found(read: Read) -> None:
    assert read("import oracledb\noracledb.init_oracle_client()") == [("oracledb", "script.py:1")]


def test_modules_of_the_program_are_read(read: Read) -> None:
    assert read(
        "from app.db import query",
        app_in___init__="",
        app_in_db="from . import low",
        app_in_low="import pyodbc",
    ) == [("pyodbc", "app/low.py:1")]


def test_a_url_of_sqlalchemys_names_a_driver(read: Read) -> None:
    text = 'create_engine("postgresql://localhost/db")'
    assert read(f"from sqlalchemy import create_engine\n{text}") == [("psycopg2", "script.py:2")]
    assert read(text) == []
    assert (
        read('from sqlalchemy import create_engine\ncreate_engine("postgresql+psycopg://h/db")')
        == []
    )


@pytest.mark.parametrize(
    "text",
    [
        "executor = HybridExecutor()",
        "with hybridexec.HybridExecutor(4) as executor:\n    executor.submit(print)",
        "def main():\n    with HybridExecutor() as executor:\n        pass\nmain()",
        "import asyncio\nasync def main():\n    HybridExecutor()\nasyncio.run(main())",
        "def make():\n    return HybridExecutor()\ndef main():\n    make()\nfor _ in main(): pass",
        "try:\n    executor = HybridExecutor()\nfinally:\n    pass",
        "class A:\n    executor = HybridExecutor()",
        "from hybridexec import HybridExecutor as H\nH()",
        'if __name__ != "__main__":\n    pass\nelse:\n    pass\nHybridExecutor()',
        "if debug:\n    HybridExecutor()",
    ],
)
def test_a_missing_guard_is_found(read: Read, text: str) -> None:
    assert [code for code, _ in read(text)] == ["main-guard"]


@pytest.mark.parametrize(
    "text",
    [
        RUN,
        f"def main():\n    HybridExecutor()\n{RUN}    main()",
        'if "__main__" == __name__ and True:\n    HybridExecutor()',
        'if __name__ != "__main__":\n    pass\nelse:\n    HybridExecutor()',
        'HybridExecutor(2, multiprocessing.get_context("fork"))',
        "def main():\n    HybridExecutor()",
    ],
)
def test_what_is_guarded_is_no_finding(read: Read, text: str) -> None:
    assert read(text) == []


def test_what_a_module_makes_when_imported_is_found(read: Read) -> None:
    assert read("import pool", pool="executor = HybridExecutor()") == [("main-guard", "pool.py:1")]


def test_a_parent_that_is_patched_too_late_is_found(read: Read) -> None:
    patch = "from gevent import monkey\nmonkey.patch_all()\n"
    assert read(f"import requests\n{patch}") == [("patched-too-late", "script.py:1")]
    assert read(f"{patch}import requests") == []


def test_what_a_fork_has_from_before_is_found(read: Read) -> None:
    fork = 'HybridExecutor(mp_context=multiprocessing.get_context("fork"))'
    text = "import requests\nfrom time import sleep\nimport time\nimport asyncio\nimport filelock\n"
    assert read(text + fork) == [("fork", f"script.py:{line}") for line in (1, 2, 4, 5)]
    assert read(f"def f():\n    import requests\n{fork}") == []
    assert read(text) == []


def test_how_many_calls_are_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "script.py").write_text(
        "HybridExecutor(concurrency=7)\nHybridExecutor(concurrency=n)"
    )
    sources, _ = read_program("script.py")
    assert program.concurrency(sources) == [(7, "script.py:1")]

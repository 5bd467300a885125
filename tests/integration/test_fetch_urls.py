"""examples/fetch_urls.py does what it says, against a real server and with real signals."""

from __future__ import annotations

import contextlib
import gzip
import json
import os
import pty
import random
import re
import signal
import socket
import subprocess
import termios
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from fetching import EXAMPLES, PATIENCE, answers, living_members, rows, run, started, wait_until


@pytest.fixture(autouse=True, scope="module")
def examples_importable() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(EXAMPLES))
        yield


@pytest.fixture(scope="module")
def server(examples_importable: None) -> Iterator[str]:
    import demo_server

    with demo_server.running(latency=0.01) as url:
        yield url


def test_without_arguments_it_fetches_from_its_own_server(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    done = run("--count", 300, "--latency", 0.02, "--out", out)
    assert (done.returncode, done.stderr) == (0, "")
    found = rows(out)
    assert len({row["url"] for row in found}) == len(found) == 300
    for row in found:
        assert (row["status"], row["error"]) == (200, None)
        assert row["bytes"] > 0
        assert 0.02 <= row["seconds"] < PATIENCE
    assert "300 in " in done.stdout
    assert "300 × 200" in done.stdout
    assert "p99 " in done.stdout
    assert not answers(found[0]["url"]), "the demo server outlived the script"


@pytest.mark.slow
def test_plots_of_the_run_are_written(tmp_path: Path) -> None:
    report = tmp_path / "report.html"
    done = run("--count", 50, "--latency", 0.01, "--report", report)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"plots of the run: {report}" in done.stdout
    assert "Calls that ended, by outcome" in report.read_text("utf-8")


@pytest.mark.slow
def test_compares_with_the_standard_library() -> None:
    done = run("--count", 100, "--latency", 0.01, "--compare")
    assert (done.returncode, done.stderr) == (0, "")
    *_, title, default, threads, processes = done.stdout.splitlines()
    assert "scaled up from short samples" in title
    for line, name in (
        (default, "ThreadPoolExecutor()"),
        (threads, "ThreadPoolExecutor(32)"),
        (processes, "ProcessPoolExecutor()"),
    ):
        assert name in line
        assert "(sample: 100 in " in line


def test_an_empty_file_is_no_error() -> None:
    done = run("-", "--compare")
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 in " in done.stdout


@pytest.mark.slow
def test_every_bad_url_is_named_with_its_error(server: str, tmp_path: Path) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))  # but never listens
        expected: dict[str, str | int] = {
            f"http://127.0.0.1:{bound.getsockname()[1]}/": "NewConnectionError",
            "http://host.invalid/": "NameResolutionError",
            "http://[::1": "LocationParseError",
            "http://127.0.0.1:99999/": "LocationParseError",
            "https://" + server.removeprefix("http://"): "SSLError",
            "ftp://127.0.0.1/": "ValueError",
            "not a URL at all": "ValueError",
            f"{server}/delay/600": "CallTimeout",
            f"{server}/status/404": 404,
            f"{server}/status/503": 503,
            f"{server}/fine": 200,
        }
        urls = tmp_path / "urls.txt.gz"
        lines = [*expected, "", "# not a URL", "  " + f"{server}/fine" + "\r"]
        urls.write_bytes(gzip.compress("\n".join(lines).encode()))
        out = tmp_path / "results.jsonl"
        done = run(urls, "--out", out, "--timeout", 5)
    assert (done.returncode, done.stderr) == (0, "")
    found = {row["url"]: row for row in rows(out)}
    assert found.keys() == expected.keys()
    for url, outcome in expected.items():
        if isinstance(outcome, int):
            assert (found[url]["status"], found[url]["error"]) == (outcome, None)
        else:
            assert outcome in found[url]["error"].split(":")[0]
            assert found[url]["status"] is None
    assert "2 × LocationParseError" in done.stdout


@pytest.mark.slow
def test_without_an_output_failures_are_named_on_the_terminal(server: str) -> None:
    done = run("-", stdin=f"ftp://a/\n{server}/\n")
    assert done.returncode == 0
    assert done.stderr == "ftp://a/: ValueError: not an http:// or https:// URL\n"


@pytest.mark.slow
def test_a_flood_of_failures_does_not_flood_the_terminal() -> None:
    done = run("-", stdin="ftp://a/\n" * 100)
    assert done.returncode == 0
    *shown, last = done.stderr.splitlines()
    assert len(shown) == 20
    assert "--out" in last
    assert "100 × ValueError" in done.stdout


@pytest.mark.slow
def test_shows_a_progress_bar_on_a_terminal() -> None:
    terminal, tty = pty.openpty()
    termios.tcsetwinsize(tty, (24, 100))
    with (
        open(terminal, "rb", buffering=0) as screen,
        started("--count", 200, stdout=subprocess.PIPE, stderr=tty) as process,
    ):
        os.close(tty)
        shown = b""
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while part := screen.read(1 << 16):
                shown += part
        assert process.wait(PATIENCE) == 0
    last = shown.decode().strip().rsplit("\r", 1)[-1]
    assert re.search(r"100%.* 200/200 \[.*URLs/s\]", last)


@pytest.mark.slow
def test_reads_standard_input_and_writes_standard_output(server: str) -> None:
    urls = [f"{server}/{number}" for number in range(100)]
    done = run("-", "--out", "-", stdin="\n".join(urls))
    assert sorted(json.loads(line)["url"] for line in done.stdout.splitlines()) == sorted(urls)
    assert "100 × 200" in done.stderr


def test_bytes_that_are_no_text_make_one_bad_url(server: str, tmp_path: Path) -> None:
    urls = tmp_path / "urls.txt"
    urls.write_bytes(b"\xef\xbb\xbf" + f"{server}/a\n".encode() + b"http://\xff\xfe/\x00\n")
    out = tmp_path / "results.jsonl"
    assert run(urls, "--out", out).returncode == 0
    found = {row["url"]: row["status"] for row in rows(out)}
    assert found == {f"{server}/a": 200, "http://\\xff\\xfe/\x00": None}


def test_takes_no_more_urls_than_it_needs(server: str) -> None:
    with started(
        "-", "--count", 200, "--out", "-", stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        with contextlib.suppress(BrokenPipeError):
            while True:  # endless
                process.stdin.write(f"{server}/\n" * 100)
        assert len(process.stdout.readlines()) == 200
        assert process.wait(PATIENCE) == 0
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()


def test_what_a_damaged_file_still_holds_is_fetched(server: str, tmp_path: Path) -> None:
    urls = tmp_path / "urls.gz"
    text = "".join(f"{server}/{random.random()}\n" for _ in range(1000))
    urls.write_bytes(gzip.compress(text.encode())[:-4000])
    out = tmp_path / "results.jsonl"
    done = run(urls, "--out", out)
    assert done.returncode == 1
    assert done.stderr.startswith(f"fetch_urls: {urls}: ")
    assert "Traceback" not in done.stderr
    assert 0 < len(rows(out)) < 1000


@pytest.mark.parametrize(
    ("arguments", "exit_code", "message"),
    [
        (["no-such-file", "--out", "{urls}"], 1, "No such file"),
        (["{urls}", "--out", "{urls}"], 2, "would replace"),
        (["{urls}", "--out", "/no/such/folder/x"], 1, "No such file"),
        (["{urls}", "--workers", "0"], 2, "not greater than 0"),
        (["{urls}", "--timeout", "nan"], 2, "not greater than 0"),
    ],
)
def test_wrong_use_is_told_in_a_line(
    tmp_path: Path, arguments: list[str], exit_code: int, message: str
) -> None:
    urls = tmp_path / "urls.txt"
    urls.write_text("http://127.0.0.1:1/\n")
    done = run(*(argument.format(urls=urls) for argument in arguments))
    assert done.returncode == exit_code
    assert message in done.stderr.splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert urls.read_text() == "http://127.0.0.1:1/\n"


@pytest.mark.parametrize(
    ("signum", "send"),
    [
        pytest.param(signal.SIGINT, os.killpg, id="Ctrl-C, which reaches the workers too"),
        pytest.param(signal.SIGTERM, os.kill, id="SIGTERM"),
    ],
)
def test_a_signal_keeps_what_is_done(
    server: str, tmp_path: Path, signum: signal.Signals, send: Callable[[int, int], None]
) -> None:
    urls = tmp_path / "urls.txt"
    quick = [f"{server}/{number}" for number in range(200)]
    urls.write_text("\n".join([*quick, *[f"{server}/delay/600"] * 100]))
    out = tmp_path / "results.jsonl"
    with started(
        urls, "--out", out, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        wait_until(lambda: out.exists() and out.stat().st_size, "some results are written")
        send(process.pid, signum)
        report, noise = process.communicate(timeout=PATIENCE)
    assert process.returncode == 128 + signum
    assert noise == f"fetch_urls: stopped by {signum.name}; what is done is kept\n"
    done = rows(out)  # every line is whole
    assert f"{len(done)} in " in report
    assert {row["url"] for row in done} <= set(quick)
    wait_until(lambda: not living_members(process.pid), "nothing is left of its process group")


def test_ends_when_nobody_reads_its_output(server: str) -> None:
    with started(
        "-",
        "--out",
        "-",
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdin.write(f"{server}/\n" * 3000)
        process.stdin.close()
        assert json.loads(process.stdout.readline())["status"] == 200
        process.stdout.close()
        assert process.wait(PATIENCE) == 141
        assert process.stderr.read() == ""


def test_the_demo_server_ends_with_a_killed_script(tmp_path: Path) -> None:
    out = tmp_path / "results.jsonl"
    with started("--count", 1_000_000, "--out", out) as process:
        wait_until(lambda: out.exists() and "\n" in out.read_text(), "some results are written")
        process.kill()
        url = json.loads(out.read_text().splitlines()[0])["url"]
        wait_until(lambda: not answers(url), "the server is gone")


def test_latency_percentiles_are_exact_to_two_percent() -> None:
    from fetch_report import Latencies

    latencies = Latencies()
    assert latencies.percentile(50) == 0
    generator = random.Random(1)
    values = sorted(generator.lognormvariate(-3, 1) for _ in range(10_000))
    for value in values:
        latencies.add(value)
    for percent in (1, 50, 90, 99, 100):
        exact = values[len(values) * percent // 100 - 1]
        assert exact <= latencies.percentile(percent) <= exact * 1.021
    assert latencies.percentile(100) == latencies.max == values[-1]


def test_counts_the_lines_of_a_plain_file_only(tmp_path: Path) -> None:
    from url_file import UrlFile

    text = b"http://a/\n" * 1000
    (tmp_path / "plain").write_bytes(text)
    (tmp_path / "packed").write_bytes(gzip.compress(text))
    for name, limit, count, length in (
        ("plain", None, 1000, 1000),
        ("plain", 10, 10, 10),
        ("packed", None, None, 1000),
        ("packed", 10, 10, 10),
    ):
        with UrlFile(str(tmp_path / name), limit) as urls:
            assert urls.count() == count
            assert len(list(urls)) == length
            assert urls.error is None

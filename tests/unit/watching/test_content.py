"""What a view says, in words."""

from __future__ import annotations

from hybridexec.watching import content

from .views import cluster_view, view


def test_the_workers_with_most_to_do_are_shown_in_their_order() -> None:
    rows, more = content.workers(view(20), 3)
    assert ([row[0] for row in rows], more) == (["1017", "1018", "1019"], 17)
    rows, more = content.workers(view(3), 3)
    assert ([row[0] for row in rows], more) == (["1000", "1001", "1002"], 0)


def test_a_row_has_a_cell_for_each_column() -> None:
    shown = view(2)
    (_, row), _ = content.workers(shown, 9)
    columns, texts = content.columns(shown)
    assert columns[:texts] == ("worker", "lane", "state", "slots in use")
    assert dict(zip(columns, row, strict=True)) == {
        "worker": "1001",
        "lane": "greenlet",
        "state": "ready",
        "slots in use": "██░░░░░░░░░░░░░░░░░░ 1/10",
        "queued": "1",
        "done": "2",
        "failed": "1",
        "busy": "0%",
        "lag": "500 ms",
        "memory": "20 MB",
    }


def test_results_on_their_way_take_no_slot() -> None:
    shown = view(1)
    shown["stats"]["workers"][0]["running"] = 12
    assert content.workers(shown, 9)[0][0][3].endswith(" 10/10")


def test_only_what_there_is_to_tell_is_told() -> None:
    (calls, run) = content.calls(view())
    assert calls == ("calls", "20 finished, 3 failed; 0 running, 4 queued")
    assert run == ("run", "p50 100 ms, p90 200 ms, p99 300 ms, max 400 ms")
    assert content.sections(view(failures=[], ends=[]), 80)[1:] == []


def test_calls_failures_and_lost_workers_are_named() -> None:
    slowest, failures, lost = content.sections(view(), 80)
    assert slowest.lines == [("9.5 s", "fetch(' [31mhttp://x') in 1000")]
    assert failures.lines == [("3 ×", "OSError at b.py:3 in fetch: no [bold]such[/bold] host")]
    assert lost.lines == [("2.0 s ago", "99: killed by SIGKILL")]


def test_workers_on_nodes_have_their_nodes_name_and_are_together() -> None:
    shown = cluster_view()
    columns, texts = content.columns(shown)
    assert columns[:texts] == ("node", "worker", "lane", "state", "slots in use")
    rows, more = content.workers(shown, 9)
    assert [row[:2] for row in rows] == [("-", "-"), ("a", "71"), ("b", "71"), ("b", "72")]
    assert {len(row) for row in rows} == {len(columns)}
    assert more == 0


def test_each_node_has_a_line() -> None:
    nodes, slowest, lost = content.sections(cluster_view(), 100)
    assert nodes.heading == "nodes"
    assert nodes.lines == [
        (
            "4 places",
            "a: 1 worker, 2 running, 1 queued, 30 done, 0 failed, 20 MB, CPU 1.5 s, round trip "
            "400 µs",
        ),
        (
            "1 place",
            "b (leaving): 2 workers, 4 running, 1 queued, 60 done, 2 failed, 40 MB, CPU 2.5 s",
        ),
    ]
    assert slowest.lines == [("9.5 s", "fetch(1) in 71 on node b")]
    assert lost.lines == [("2.0 s ago", "99 on node c: killed by SIGKILL")]


def test_a_summary_is_one_line() -> None:
    assert content.summary(view(2)) == (
        "hybridexec: 20 finished, 3 failed, 1 running, 5 queued; 12/s, p50 100 ms, p99 300 ms; "
        "2 workers, 40 MB"
    )

"""A view as plain text."""

from __future__ import annotations

from hybridexec.watching import plain

from .views import cluster_view, view


def test_all_is_in_it() -> None:
    shown = plain.text(view(2))
    for part in (
        "process 4711",
        "1001    greenlet  ready",
        " ▄█ 12/s",
        "p99 300 ms",
        "9.5 s  fetch",
    ):
        assert part in shown
    assert "no [bold]such[/bold] host" in shown
    assert "\x1b" not in shown


def test_there_may_be_no_workers_and_more_than_are_shown() -> None:
    assert "slots in use" not in plain.text(view(0))
    assert "and 936 more" in plain.text(view(1000))


def test_it_can_do_with_ascii() -> None:
    assert "##" in plain.text(view(2), ascii_only=True)


def test_workers_on_nodes_have_a_column_more() -> None:
    shown = plain.text(cluster_view())
    assert "node  worker  lane" in shown
    assert "b     72      greenlet  ready" in shown
    assert "b (leaving): 2 workers" in shown

"""Numbers and texts as people read them."""

from __future__ import annotations

import pytest

from hybridexec.watching import words


@pytest.mark.parametrize(
    ("duration", "text"),
    [
        (0.0, "0 s"),
        (0.00034, "340 µs"),
        (0.0012, "1.2 ms"),
        (0.266, "266 ms"),
        (0.9999, "1.0 s"),
        (5.34, "5.3 s"),
        (99.99, "1:40"),
        (3725, "1:02:05"),
    ],
)
def test_durations(duration: float, text: str) -> None:
    assert words.seconds(duration) == text


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1 kB"),
        (19_900_000, "19.9 MB"),
        (999_700_000, "1 GB"),
        (123_456_789, "123 MB"),
        (5 * 10**15, "5000 TB"),
    ],
)
def test_sizes(number: int, text: str) -> None:
    assert words.size(number) == text


@pytest.mark.parametrize(
    ("number", "text"), [(0, "0"), (7.0, "7"), (1.25, "1.2"), (12.5, "12"), (1234567, "1,234,567")]
)
def test_counts(number: float, text: str) -> None:
    assert words.count(number) == text


def test_what_is_not_empty_shows_in_a_bar() -> None:
    assert [words.bar(share, 4) for share in (0, 0.001, 0.5, 1, 2)] == [
        "░░░░",
        "█░░░",
        "██░░",
        "████",
        "████",
    ]
    assert words.bar(0.5, 4, ascii_only=True) == "##.."


def test_a_sparkline_is_scaled_to_its_largest_value() -> None:
    assert words.sparkline([0, 1, 50, 100], 10) == " ▁▄█"
    assert words.sparkline([9, 9, 1, 2], 2) == "▄█"
    assert words.sparkline([0, 0], 5) == "  "
    assert words.sparkline([], 5) == ""
    assert words.sparkline([0, 8], 5, ascii_only=True) == " #"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("fetch('http://x')", "fetch('http://x')"),
        ("a\n  b\tc", "a b c"),
        ("\x1b[2J\x1b]0;owned\x07 no", "[2J ]0;owned no"),
        ("x" * 50, "x" * 17 + "..."),
        ("\u202egnp.exe", "gnp.exe"),
        ("", ""),
    ],
)
def test_a_line_plays_no_tricks_on_a_terminal(text: str, shown: str) -> None:
    assert words.line(text, 20) == shown
